"""How people say in each language that they want no more messages: data, read by `keywords`.

A text is an opt-out when the whole of it is a phrase, or a verb with an object. The words here are normalised as
the text is: write them with or without accents, in any case. What also means something else in a conversation with
a business ("cancel", "no", "basta", "iptal") is left out: an opt-out that nobody meant loses a customer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Language:
    """The phrases of one language; each field is a list with a comma between its items."""

    phrases: str
    """Each says it, also after a wish."""
    alone: str
    """Each says it only where nothing else is said: "can you stop" may be about a car."""
    stops: str
    """Verbs with what a business sends, one or many of it: "stop this promotion"."""
    refusals: str
    """Verbs with what it sends, many of it only: who does not want this promotion may want the next one."""
    things: str
    """What a business sends, many of it."""
    single: str = ""
    """One thing that it sends, and what stands only behind a verb that stops."""
    removals: str = ""
    """Verbs with what people want to be off: a list, or what is sent."""
    lists: str = ""
    heads: str = ""
    """Each is a phrase with each of the tails behind it."""
    tails: str = ""
    articles: str = ""
    """Words that may stand before an object."""
    fillers: str = ""
    """Words that add nothing wherever they stand, except beside what is said alone: "any more", "again"."""
    wishes: str = ""
    """Words that may stand before a phrase, or before a verb with its object."""


POLITE = (
    "please, pls, plz, kindly, thanks, thank you, thank you very much, thx, ty, sorry, hello, hi, hey, dear sir, "
    "por favor, porfavor, porfa, favor, gracias, muchas gracias, hola, buenas, buenos dias, buenas tardes, pfv, "
    "pf, obrigado, obrigada, ola, oi, bom dia, boa tarde, boa noite, s il vous plait, sil vous plait, svp, s il "
    "te plait, stp, merci, merci beaucoup, merci d avance, bonjour, salut, bitte, danke, vielen dank, danke "
    "schon, dankeschon, hallo, guten tag, moin, per favore, perfavore, per piacere, per cortesia, grazie, grazie "
    "mille, ciao, buongiorno, buonasera, salve, alstublieft, alsjeblieft, aub, ajb, bedankt, dank u, dank je, "
    "dankjewel, dank u wel, goedendag, tolong, mohon, terima kasih, makasih, trims, halo, कृपया, प्लीज, धन्यवाद, "
    "शुक्रिया, नमस्ते, kripya, dhanyavad, namaste, من فضلك, من فضلكم, لو سمحت, لو سمحتم, رجاء, رجاءا, الرجاء, "
    "شكرا, شكرا لكم, مرحبا, السلام عليكم, пожалуйста, пож, спасибо, здравствуйте, добрый день, привет, прошу, "
    "lutfen, tesekkurler, tesekkur ederim, sagolun, merhaba, immediately, at once, asap, anymore, any more, from "
    "now on, ya, inmediatamente, imediatamente, ja, immediatement, tout de suite, sofort, ab sofort, umgehend, "
    "subito, immediatamente, direct, onmiddellijk, segera, فورا, немедленно, hemen, to me, to us, to my number, "
    "on whatsapp, via whatsapp, by whatsapp, por whatsapp, per whatsapp, über whatsapp, par whatsapp, su "
    "whatsapp, lewat whatsapp, a este número, à ce numéro, an diese nummer, para mim, para este número, أرجو, i "
    "said"
)
"""What may stand before and behind, in any language: people say "stop, danke"."""

NOW = (
    "now, right now, ahora, ahora mismo, agora, maintenant, jetzt, adesso, nu, sekarang, अभी, abhi, الان, حالا, "
    "сейчас, simdi"
)
"""What may stand there too, unless something is negated: "don't send messages now" only puts it off."""

NEGATIONS = (
    "not, don, dont, no, never, nicht, nichts, kein, keine, keinen, ne, n, pas, plus, não, sem, nunca, nada, non, "
    "niente, niet, niets, geen, jangan, tidak, ga, gak, не, нет, नहीं, मत, न, mat, na, nahi, nahin, لا, "
    "göndermeyin, gönderme, göndermeyiniz, yollamayın, atmayın, atma, atmayınız, yazmayın, ulaşmayın, "
    "istemiyorum, gelmesin, etmeyin"
)

LACKS = (
    "no more, no más, kein, keine, keinen, geen, niente, plus, plus de, plus aucun, plus aucune, pas de, sem "
    "mais, нет"
)
"""What also asks for supplies at the beginning of a question: "no more offers?" is not an opt-out."""

ANYWHERE = (
    "please, pls, plz, kindly, por favor, porfavor, porfa, pfv, s il vous plait, svp, stp, bitte, per favore, "
    "aub, alstublieft, alsjeblieft, graag, tolong, कृपया, प्लीज, من فضلك, لو سمحت, пожалуйста, lutfen, from you, "
    "from you guys, from your company, de ustedes, de vosotros, suyos, von ihnen, von euch, de vous, de votre "
    "part, da voi, da parte vostra, de vocês, de você, van jullie, van u, dari anda, dari kalian, आपसे, aapse, "
    "منكم, من طرفكم, от вас, sizden"
)
"""What may also stand in the middle: "melden Sie mich bitte ab", "no more messages from you"."""

REASONS = (
    "not interested, i am not interested, i m not interested, no interest, no thanks, "
    "no thank you, "
    "wrong number, you have the wrong number, enough, that is enough, that s enough, i never signed up, "
    "i did not sign up, i don t know you, who is this, who are you, no, ok, okay, yes, "
    "no me interesa, no estoy interesado, no estoy interesada, no gracias, numero equivocado, si, basta, "
    "não tenho interesse, não me interessa, não estou interessado, não estou interessada, não obrigado, "
    "não obrigada, "
    "número errado, não, sim, chega, je ne suis pas intéressé, je ne suis pas intéressée, pas intéressé, "
    "pas intéressée, ça ne m intéresse pas, non merci, mauvais numéro, ça suffit, non, oui, d accord, "
    "kein interesse, ich habe kein interesse, nicht interessiert, nein danke, falsche nummer, es reicht, "
    "nein, ja, "
    "non mi interessa, non sono interessato, non sono interessata, no grazie, numero sbagliato, va bene, "
    "geen interesse, ik heb geen interesse, niet geïnteresseerd, nee bedankt, nee dank je, verkeerd nummer, "
    "genoeg, "
    "nee, oke, tidak tertarik, saya tidak tertarik, salah nomor, cukup, tidak, ya, "
    "не интересно, мне не интересно, неинтересно, вы ошиблись номером, не тот номер, хватит, нет, да, хорошо, ок, "
    "ilgilenmiyorum, yanlış numara, yeter, hayır, evet, tamam, "
    "لست مهتما, غير مهتم, لا شكرا, رقم خطأ, الرقم خطأ, كفى, لا, نعم, "
    "दिलचस्पी नहीं है, गलत नंबर, बस, नहीं, हां, nahi, galat number, bas"
)
"""What may be a clause of its own beside an opt-out: "Wrong number, stop"."""

LANGUAGES: Mapping[str, Language] = {
    "ar": Language(
        phrases="إلغاء الاشتراك, ألغ الاشتراك, الغي الاشتراك, احذفني, احذفوني, احذف رقمي, احذفوا رقمي, حذف "
        "رقمي, إزالة رقمي, أزيلوا رقمي, كفى رسائل, عدم الإزعاج, عدم الإرسال, عدم المراسلة",
        alone="توقف, توقفوا, أوقف, أوقفوا, إيقاف, وقف, ستوب",
        stops="إيقاف, أوقف, أوقفوا, وقف, توقف عن, توقفوا عن, توقف عن إرسال, توقفوا عن إرسال, إيقاف إرسال, "
        "التوقف عن إرسال, عدم إرسال",
        refusals="لا ترسل, لا ترسلوا, لا ترسل لي, لا ترسلوا لي, لا أريد, لا أريد استلام, لا أريد استقبال, لا "
        "أريد تلقي, لا أريد المزيد من, لا أرغب في استلام, لا أرغب باستلام, لا أرغب في تلقي, لا "
        "ترسلون, ما أبغى, مش عايز, بلاش",
        removals="ألغ الاشتراك في, إلغاء الاشتراك في, إلغاء الاشتراك من, احذفني من, احذفوني من, احذف رقمي من, "
        "احذفوا رقمي من, حذف رقمي من, إزالة رقمي من, أزيلوني من",
        heads="لا",
        tails="تراسلني, تراسلوني, ترسلوا لي, ترسلوا لي شيئا, تكتبوا لي, تتواصلوا معي, تتواصل معي, تزعجوني",
        things="رسائل, الرسائل, رسائلكم, الرسائل الترويجية, رسائل ترويجية, الرسائل التسويقية, رسائل تسويقية, "
        "العروض, عروض, العروض الترويجية, عروض ترويجية, الإعلانات, إعلانات, الترويج, التسويق, الدعاية, "
        "الرسائل الإعلانية, المراسلة, مراسلتي, النشرة, النشرة البريدية",
        lists="القائمة, قائمتكم, القائمة البريدية, قائمة المراسلة, قاعدة البيانات",
        articles="كل, جميع, هذه, أي, من",
        fillers="مرة أخرى, بعد الآن, بعد اليوم, أبدا, مجددا",
        wishes="أريد, أرغب في, أود, ممكن, كيف يمكنني, كيف أستطيع",
    ),
    "de": Language(
        phrases="abmelden, mich abmelden, mich austragen, melden sie mich ab, meldet mich ab, tragen sie mich "
        "aus, tragt mich aus, trag mich aus, nicht mehr schreiben, schreiben sie mir nicht mehr, "
        "schreibt mir nicht mehr, schreib mir nicht mehr, kontaktieren sie mich nicht mehr, "
        "kontaktiert mich nicht mehr, nicht mehr kontaktieren, mich nicht mehr kontaktieren, mich "
        "nicht mehr anschreiben, nicht mehr anschreiben, nicht mehr kontaktiert werden, nicht mehr "
        "angeschrieben werden, hören sie auf mir zu schreiben, hört auf mir zu schreiben, hör auf mir "
        "zu schreiben, aufhören mir zu schreiben, löschen sie meine nummer, löscht meine nummer, "
        "lösch meine nummer, meine nummer löschen, nummer löschen, keine werbung, keine "
        "werbenachrichten mehr, keine nachrichten mehr, keine mitteilungen mehr, keine newsletter, "
        "keinen newsletter, keine angebote mehr, keine promotions, keine promos mehr, keine spam, "
        "kein spam, keine sms mehr, werbung nein danke, nichts mehr schicken, nichts mehr senden, "
        "schicken sie mir nichts mehr, schickt mir nichts mehr, schick mir nichts mehr, senden sie "
        "mir nichts mehr, nichts mehr bekommen, nichts mehr erhalten, lassen sie mich in ruhe, lasst "
        "mich in ruhe, lass mich in ruhe",
        alone="stop, stopp, abmeldung, abbestellen, abbestellung, austragen, austragung",
        stops="stop, stopp, stoppen, stoppt, stoppen sie, beenden, abbestellen, abmelden, einstellen, hören "
        "sie auf mit, hört auf mit",
        refusals="keine weitere, keine weiteren, ich will keine, ich möchte keine, ich möchte keinen, ich will "
        "keinen, ich will keine weiteren, ich möchte keine weiteren, wir wollen keine, senden sie mir "
        "keine, schicken sie mir keine, sendet mir keine, schickt mir keine, schick mir keine, "
        "schicken sie keine, schickt keine",
        removals="abmelden von, abmelden vom, abmelden aus, mich abmelden von, mich abmelden vom, austragen "
        "aus, mich austragen aus, melden sie mich ab von, nehmen sie mich aus, nehmt mich aus, nimm "
        "mich aus, streichen sie mich aus, streichen sie mich von, löschen sie mich aus, löscht mich "
        "aus, entfernen sie mich aus, entfernt mich aus, entfernen sie mich von, löschen sie meine "
        "nummer aus, löscht meine nummer aus",
        heads="aus dem verteiler, aus ihrem verteiler, aus eurem verteiler, aus der liste, von der liste, "
        "aus ihrer liste, von ihrer liste, aus eurer liste, von eurer liste, mich aus dem verteiler, "
        "mich aus ihrem verteiler, mich aus der liste, mich von der liste, mich von ihrer liste",
        tails="nehmen, löschen, austragen, entfernen, streichen",
        things="werbung, werbenachrichten, werbeaktionen, aktionen, promos, promotions, promotionen, "
        "angebote, marketing, marketingnachrichten, marketing nachrichten, newsletter, nachrichten, "
        "whatsapp nachrichten, whatsapps, mitteilungen, nachrichten erhalten, nachrichten bekommen, "
        "werbung erhalten, werbung bekommen, angebote erhalten, angebote bekommen, newsletter "
        "erhalten, newsletter bekommen, spam, whatsapp newsletter, nachrichten schicken, nachrichten "
        "senden",
        lists="liste, verteiler, newsletter verteiler, mailingliste, verteilerliste, broadcast, datenbank",
        articles="die, der, den, das, dem, alle, allen, diese, diesen, dieser, ihre, ihren, ihrer, ihrem, "
        "eure, euren, eurer, eurem, weiteren, mit der, mit den, von, vom",
        fillers="mehr, jemals, weiterhin",
        wishes="ich möchte, ich mochte gerne, ich will, ich würde gerne, ich würde mich gern, ich wurde "
        "gern, können sie, könnt ihr, kannst du, könnten sie, wie kann ich",
    ),
    "en": Language(
        phrases="stop all, stopall, unsubscribe, unsubscribe me, unsubscribe all, unsub, un subscribe, be "
        "unsubscribed, be removed, opt out, optout, opt me out, opting out, unsuscribe, unsubcribe, "
        "unsubscribe from all, unsubscribe from everything, unsubscribe my number, remove me, remove "
        "my number, delete my number, take me off, take my number off, leave me alone, lose my "
        "number, do not want to be contacted, don t want to be contacted, dont want to be contacted, "
        "not be contacted, stop contacting, stop messaging, stop texting, stop spamming",
        alone="stop, unsubscribed",
        stops="stop, stop with, stop sending, stop sending me, stop sending us, cease, no more, quit "
        "sending, quit sending me",
        refusals="do not send, don t send, dont send, never send, do not send me, don t send me, dont send me, "
        "never send me, don t want, dont want, do not want, no longer want, no longer wish to "
        "receive, no longer want to receive, don t want to receive, dont want to receive, do not want "
        "to receive, do not wish to receive, don t want to get, dont want to get, do not want to get",
        removals="unsubscribe, unsubscribe from, unsubscribe me from, unsubscribe me to, opt out of, opt out "
        "from, opt me out of, opt me out from, remove me from, remove my number from, delete me from, "
        "delete my number from, take me off, take my number off, take me out of, get me off, be "
        "removed from, be taken off, cancel my subscription to",
        heads="do not, don t, dont, never",
        tails="contact me, message me, text me, whatsapp me, write me, write to me, spam me, bother me, "
        "send me anything",
        things="promotions, promos, promotional messages, promotional content, promotional offers, "
        "marketing, marketing messages, marketing texts, market messages, ads, adverts, advertising, "
        "advertisements, offers, newsletter, newsletters, spam, messages, msgs, texts, text messages, "
        "whatsapps, whatsapp messages, notifications, broadcasts, sms",
        single="stuff, promotion, promo, promotional message, marketing message, ad, advertisement, message, "
        "msg, texting me, messaging me, contacting me, writing me, writing to me, spamming me, "
        "bothering me, sending, sending me, messaging us, contacting us",
        lists="list, lists, mailing list, mailing lists, contact list, contacts, marketing list, broadcast "
        "list, subscription list, distribution list, database",
        articles="the, this, that, these, those, your, all, all the, all your, any, any of your, my, such, "
        "more, further, of, with, the whatsapp, receiving, getting",
        fillers="ever, again, any more, anymore, any longer",
        wishes="i want to, want to, i would like to, i d like to, i wish to, i want you to, i would like you "
        "to, i need you to, can you, could you, would you, will you, can i, may i, could i, i need "
        "to, how do i, how can i, how to, i",
    ),
    "es": Language(
        phrases="darse de baja, darme de baja, dar de baja, deme de baja, dame de baja, denme de baja, dadme "
        "de baja, me puede dar de baja, me pueden dar de baja, me puedes dar de baja, me dan de baja, "
        "solicito la baja, solicito baja, quiero la baja, quiero baja, me doy de baja, me quiero dar "
        "de baja, me quiero desuscribir, no molesten, no molestar, no molestes, desuscribir, "
        "desuscribirme, desuscribirse, desuscríbanme, desuscríbeme, desinscribirme, cancelar mi "
        "suscripción a los mensajes, no me manden más, no me envíen más, no enviar más, no envíen "
        "más, no me vuelvan a escribir, no me vuelva a escribir, no me vuelvas a escribir, no me "
        "vuelvan a contactar, bórrenme, bórrame, elimíname, elimínenme, elimina mi número, eliminen "
        "mi número, eliminar mi número, borra mi número, borren mi número, borrar mi número, quita mi "
        "número, quiten mi número, dejen de escribirme, deje de escribirme, deja de escribirme, dejen "
        "de molestarme, deja de molestarme, déjenme en paz, déjame en paz",
        alone="stop, baja, parar, detener, cancelar suscripción, anular suscripción",
        stops="stop, parar, pare, paren, paren de enviar, pare de enviar, deje de enviar, dejen de enviar, "
        "deja de enviar, dejen de enviarme, deje de enviarme, deja de enviarme, dejen de mandar, "
        "dejen de mandarme, deje de mandarme, deja de mandarme, dejar de recibir, dejar de enviarme, "
        "dejar de mandarme, no más, detener, detengan, suspender, interrumpir, bloquear, basta de",
        refusals="no quiero, no quiero recibir, no deseo, no deseo recibir, no me envíen, no me envíe, no me "
        "envíes, no me manden, no me mande, no me mandes, no envíen, no enviar, no envíe, no manden",
        removals="salir de, baja de, baja del, darme de baja de, darme de baja del, dar de baja de, dar de "
        "baja, quítenme de, quitarme de, quítame de, sáquenme de, sácame de, sacarme de, bórrenme de, "
        "bórrame de, borrarme de, elimínenme de, elimíname de, eliminarme de, desuscribirme de, "
        "desuscribirse de, cancelar suscripción a, cancelar la suscripción a, borren mi número de, "
        "borra mi número de, eliminen mi número de, quiten mi número de, saquen mi número de",
        heads="no, nunca",
        tails="me escriban, me escriba, me escribas, me contacten, me contacte, me contactes, me molesten, "
        "me manden nada, me mande nada, me mandes nada, me envíen nada, me envíe nada, me envíes nada",
        things="promociones, promos, mensajes promocionales, ofertas, publicidad, mensajes publicitarios, "
        "mensajes de marketing, marketing, anuncios, spam, propaganda, mensajes, mensajes de "
        "publicidad, boletín, boletines, newsletter, notificaciones, comunicaciones comerciales, "
        "enviar mensajes, enviarme mensajes",
        single="promoción, mensaje",
        lists="lista, listas, lista de correo, lista de difusión, lista de envío, lista de contactos, "
        "contactos, base de datos",
        articles="la, las, los, el, de, del, sus, su, tus, tu, mas, este, estos, esta, estas, esa, esos, todas "
        "las, todos los",
        fillers="más, ya, nunca más, otra vez, nuevamente, jamás",
        wishes="quiero, quisiera, deseo, me gustaría, pueden, puede, puedes, podrían, podría, solicito, "
        "necesito, cómo puedo, cómo",
    ),
    "fr": Language(
        phrases="désabonner, désabonnement, désabonnez moi, désabonne moi, me désabonner, se désabonner, "
        "désabonnez, je me désabonne, désinscrire, désinscription, désinscrivez moi, désinscris moi, "
        "me désinscrire, se désinscrire, je me désinscris, annuler mon abonnement aux messages, "
        "retirez moi, supprimez moi, supprimez mon numéro, supprimer mon numéro, supprime mon numéro, "
        "retirez mon numéro, retirer mon numéro, effacez mon numéro, effacer mon numéro, ne m écrivez "
        "plus, ne m écris plus, ne me contactez plus, ne me contacte plus, ne m envoyez plus rien, ne "
        "m envoie plus rien, ne plus me contacter, ne plus m écrire, ne plus rien m envoyer, je ne "
        "veux plus rien recevoir, ne plus rien recevoir, ne plus être contacté, ne plus être "
        "contactée, je ne veux plus être contacté, je ne veux plus être contactée, ne plus recevoir, "
        "arrêtez de m écrire, arrête de m écrire, arrêter de m écrire, cessez de m écrire, arrêtez de "
        "me contacter, laissez moi tranquille, plus de pub, plus de pubs, plus de spam, pas de pub, "
        "pas de publicité",
        alone="stop, stop pub, stop sms, arrêt, arrêter, arrêtez",
        stops="stop, stop aux, stopper, stoppez, arrêter, arrêtez, arrêter d envoyer, arrêtez d envoyer, "
        "arrêtez de m envoyer, arrête de m envoyer, arrêter de m envoyer, cessez, cessez de m "
        "envoyer, interrompre, bloquer",
        refusals="plus aucun, plus aucune, ne plus recevoir, ne plus m envoyer, je ne veux plus, je ne veux "
        "plus recevoir, je veux plus recevoir, je ne souhaite plus recevoir, je ne souhaite plus, je "
        "ne désire plus recevoir, ne m envoyez plus, ne m envoie plus, n envoyez plus",
        removals="désabonnez moi de, désabonner de, me désabonner de, désabonnement, désinscrivez moi de, me "
        "désinscrire de, désinscription, retirez moi de, retire moi de, enlevez moi de, supprimez moi "
        "de, ôtez moi de, retirer de, me retirer de, retirez mon numéro de, supprimez mon numéro de, "
        "supprimer mon numéro de, retirer mon numéro de",
        things="promotions, promos, offres, offres promotionnelles, messages promotionnels, messages "
        "publicitaires, messages marketing, marketing, pub, pubs, publicité, publicités, spam, spams, "
        "newsletter, newsletters, messages, de message, sms, notifications, recevoir de messages, "
        "envois, sollicitations, sollicitations commerciales",
        single="promotion, promo, message, message publicitaire",
        lists="liste, listes, liste de diffusion, liste de contacts, contacts, mailing list, base de données",
        articles="la, les, le, l, de, d, des, du, cette, ces, ce, vos, votre, mes, toutes les, tous les, ta, "
        "tes, aux, a, a la, aucun, aucune",
        fillers="jamais",
        wishes="je veux, je voudrais, je souhaite, j aimerais, pouvez vous, pourriez vous, peux tu, merci "
        "de, veuillez, prière de, comment, comment puis je",
    ),
    "hi": Language(
        phrases="अनसब्सक्राइब, अनसब्सक्राइब करें, सदस्यता समाप्त करें, सदस्यता समाप्त, मुझे हटाएं, मुझे हटा "
        "दो, मुझे हटा दें, मेरा नंबर हटाएं, मेरा नंबर हटा दो, मेरा नंबर हटा दें, मेरा नंबर हटा दीजिए, "
        "unsubscribe karo, unsubscribe karein, stop kar do, unsubscribe kar do, mujhe hatao, mera "
        "number hatao, mera number hata do",
        alone="स्टॉप, रोकें, रोकिए, stop karo",
        stops="बंद करें, बंद करो, बंद कर दो, बंद कर दें, बंद कीजिए, रोकें, रोको, रोकिए, रोक दें, भेजना बंद "
        "करें, भेजना बंद करो, भेजना बंद कर दो, stop, स्टॉप, band karo, band kar do, band karein, band "
        "kare, roko, rokein, bhejna band karo, bhejna band kar do, stop karo",
        refusals="न भेजें, न भेजो, न करें, मत भेजो, मत भेजें, मत भेजिए, मत करो, मत करें, मत करिए, मत कीजिए, "
        "नहीं चाहिए, mat bhejo, mat bheje, mat bhejna, mat karo, mat karna, mat kare, na bheje, nahi "
        "chahiye, nahin chahiye",
        things="मैसेज, मेसेज, संदेश, सन्देश, प्रचार, प्रचार संदेश, प्रमोशनल मैसेज, विज्ञापन, मार्केटिंग, "
        "मार्केटिंग संदेश, प्रचार मैसेज, message, messages, msg, msgs, promotions, ads, offers, "
        "marketing, sms",
        single="प्रमोशन, प्रोमोशन, ऑफर, ऑफ़र, promotion, promo, offer",
        articles="ये, यह, सभी, सारे, आपके, के, ye, yeh, sab, sare, aapke",
        fillers="मुझे, हमें, और, अब, दोबारा, कभी, आगे से, mujhe, hame, humein, aur, ab, dobara, kabhi",
    ),
    "id": Language(
        phrases="berhenti berlangganan, berhenti langganan, batal berlangganan, unsubscribe, unsub, unreg, "
        "hapus saya, hapus nomor saya, hapus nomer saya, keluarkan saya, tidak mau dihubungi, saya "
        "tidak mau dihubungi, tidak ingin dihubungi, jangan ganggu, jangan kirim lagi, jangan kirimi "
        "lagi",
        alone="stop, setop, berhenti, hentikan",
        stops="stop, stop kirim, berhenti, berhenti kirim, berhenti mengirim, berhenti menerima, hentikan, "
        "hentikan pengiriman, blokir",
        refusals="jangan kirim, jangan kirim saya, jangan kirimi saya, jangan mengirim, saya tidak mau, saya "
        "tidak mau terima, saya tidak mau menerima, saya tidak ingin, saya tidak ingin menerima, "
        "tidak mau, tidak mau terima, tidak mau menerima, ga mau terima, gak mau terima, tidak ingin "
        "menerima",
        removals="berhenti berlangganan, hapus saya dari, keluarkan saya dari, hapus nomor saya dari, "
        "keluarkan nomor saya dari",
        heads="jangan",
        tails="hubungi saya, kirimi saya, wa saya, chat saya, ganggu saya",
        things="promosi, promo, iklan, penawaran, marketing, pemasaran, pesan, pesan promosi, pesan "
        "pemasaran, pesan iklan, pesan marketing, spam, broadcast, newsletter, notifikasi, wa, sms",
        lists="daftar, daftar ini, daftar anda, daftar kontak, kontak, list, grup broadcast, database",
        articles="semua, pesan, ini, dari, segala",
        fillers="lagi, ya, dong, deh",
        wishes="saya mau, saya ingin, bisa, bisakah, mau, ingin, bagaimana cara, cara",
    ),
    "it": Language(
        phrases="disiscrivi, disiscrivimi, disiscrivermi, disiscrizione, disiscrivetemi, disiscriversi, mi "
        "disiscrivo, cancellami, cancellatemi, cancellarmi, rimuovimi, rimuovetemi, mi rimuova, "
        "rimuovere il mio numero, rimuovi il mio numero, rimuovete il mio numero, rimuova il mio "
        "numero, togliete il mio numero, cancellate il mio numero, cancella il mio numero, cancellare "
        "il mio numero, non scrivetemi, non scrivermi, non mi scrivete, non mi scriva, non "
        "contattatemi, non contattarmi, non mi contattate, non mi contatti, non mandatemi nulla, non "
        "inviatemi nulla, essere cancellato, essere cancellata, non disturbatemi, non voglio essere "
        "contattato, non voglio essere contattata, smettete di scrivermi, smettetela di scrivermi, "
        "smetti di scrivermi, smettila di scrivermi, smetta di scrivermi, lasciatemi in pace",
        alone="stop, stop sms, annulla iscrizione, annullare iscrizione, cancella iscrizione",
        stops="stop, stop ai, stop alle, stop a, fermare, ferma, fermate, interrompi, interrompere, "
        "interrompete, blocca, bloccare, bloccate, disattiva, basta, basta con, basta inviare, basta "
        "inviarmi, smettetela di inviare, smettete di inviare, smettete di inviarmi, smetti di "
        "inviarmi, smettetela di inviarmi, smettete di mandarmi, smettetela di mandarmi, smetti di "
        "mandarmi, smettila di mandarmi, smettetela con, niente",
        refusals="non voglio, non voglio ricevere, non desidero, non desidero ricevere, non ricevere, non "
        "inviatemi, non inviarmi, non mandatemi, non mandarmi, non mi inviate, non mi mandate, non mi "
        "mandi, non mi invii",
        removals="cancellami da, cancellami dalla, cancellatemi da, cancellatemi dalla, rimuovimi dalla, "
        "rimuovetemi dalla, toglietemi dalla, toglimi dalla, disiscrivimi da, disiscrivimi dalla, "
        "disiscrivetemi dalla, cancellarmi dalla, disiscrivermi dalla, cancellate il mio numero "
        "dalla, cancella il mio numero dalla, togliete il mio numero dalla, rimuovete il mio numero "
        "dalla, annulla la mia iscrizione a",
        things="promozioni, promo, offerte, offerte promozionali, messaggi promozionali, messaggi "
        "pubblicitari, messaggi di marketing, messaggi, marketing, pubblicità, spam, newsletter, "
        "notifiche, sms",
        single="promozione",
        lists="lista, liste, lista broadcast, lista contatti, mailing list, database, rubrica",
        articles="la, le, i, il, gli, di, da, dalla, dalle, dai, vostra, vostre, vostri, questa, questi, "
        "queste, tutte le, tutti i, altri, altre, con",
        fillers="più, mai più, mai",
        wishes="voglio, vorrei, desidero, potete, può, puoi, potreste, chiedo di, come posso, come faccio a",
    ),
    "nl": Language(
        phrases="afmelden, afmelding, meld mij af, meld me af, mij afmelden, me afmelden, uitschrijven, "
        "uitschrijving, schrijf mij uit, schrijf me uit, mij uitschrijven, me uitschrijven, ik "
        "schrijf me uit, opzeggen nieuwsbrief, verwijder mij, verwijder me, mij verwijderen, me "
        "verwijderen, verwijder mijn nummer, mijn nummer verwijderen, wis mijn nummer, stuur mij "
        "niets meer, stuur me niets meer, geen reclame, geen berichten meer, geen marketing meer, "
        "geen marketingberichten meer, geen aanbiedingen meer, geen promoties meer, geen nieuwsbrief "
        "meer, geen appjes meer, geen spam, van de lijst halen, mij van de lijst halen, me van de "
        "lijst halen, neem geen contact meer op, app mij niet meer, app me niet meer, bericht mij "
        "niet meer, stop met appen, stop met mij te appen, stop met me te appen, stop met mij "
        "berichten sturen, mij niet meer appen, me niet meer appen, niet meer appen, niet meer "
        "benaderd worden, laat me met rust",
        alone="stop, stoppen",
        stops="stop, stop met, stoppen, stoppen met, stop met sturen, stop met het sturen van, beëindig, "
        "blokkeer, afmelden",
        refusals="ik wil geen, wij willen geen, ik hoef geen, stuur mij geen, stuur me geen, stuur geen",
        removals="afmelden voor, afmelden van, meld mij af voor, meld me af voor, mij afmelden voor, me "
        "afmelden voor, uitschrijven voor, uitschrijven van, schrijf mij uit voor, schrijf me uit "
        "voor, verwijder mij van, verwijder mij uit, verwijder me van, verwijder me uit, haal mij "
        "van, haal me van, haal mij uit, haal me uit, haal mijn nummer uit, haal mijn nummer van, "
        "verwijder mijn nummer uit, verwijder mijn nummer van, mij verwijderen uit, mij verwijderen "
        "van, me verwijderen uit, me verwijderen van",
        things="promoties, promo s, aanbiedingen, reclame, reclameberichten, marketing, marketingberichten, "
        "advertenties, berichten, berichten ontvangen, reclame ontvangen, aanbiedingen ontvangen, "
        "spam, nieuwsbrief, nieuwsbrieven, meldingen, appjes, appjes ontvangen, promotionele "
        "berichten",
        single="promotie, berichten sturen, berichten te sturen, reclame sturen",
        lists="lijst, lijsten, mailinglijst, verzendlijst, contacten, database, bestand",
        articles="de, het, deze, dit, die, alle, jullie, uw, je, verdere, van, voor, met",
        fillers="meer, ooit",
        wishes="ik wil, ik wil graag, ik wil me, ik wil mij, ik zou graag, kunt u, kun je, kan je, wil je, "
        "wilt u, willen jullie, kunnen jullie, kan ik, graag, hoe kan ik",
    ),
    "pt": Language(
        phrases="descadastrar, descadastre, descadastro, descadastrar me, descadastre me, me descadastre, me "
        "descadastra, me descadastrem, me descadastrar, descadastrem me, desinscrever, desinscrever "
        "me, me desinscrever, me desinscreva, me remova, me remove, me remover, remova me, remover "
        "me, me removam, ser removido, ser removida, ser removido da lista, ser removida da lista, "
        "remova meu contato, me exclua, me excluir, remova meu número, remove meu número, remover meu "
        "número, removam meu número, exclua meu número, excluam meu número, excluir meu número, "
        "apague meu número, apaga meu número, apaguem meu número, apagar meu número, retire meu "
        "número, tira meu número, tire meu número, tirem meu número, tirar meu número, não manda "
        "mais, não me manda mais, não mande mais, não me mande mais, não me mandem mais, não me envie "
        "mais, não me enviem mais, não entre em contato, não entrem em contato, não quero mais "
        "receber, não quero receber mais, não quero ser contatado, não quero ser contatada, deixar de "
        "receber, parar de receber, parem de me escrever, pare de me escrever, para de me escrever, "
        "me deixem em paz, me deixa em paz",
        alone="stop, sair, parar, pare, parem, cancelar inscrição, cancelar cadastro, cancelar subscrição, "
        "anular subscrição",
        stops="stop, parar, parar com, parar de receber, parar de enviar, parar de mandar, parar de me "
        "mandar, parar de me enviar, pare, pare com, pare de enviar, pare de mandar, pare de me "
        "enviar, pare de me mandar, parem com, parem de enviar, parem de mandar, parem de me enviar, "
        "parem de me mandar, para de mandar, para de enviar, para de me mandar, para de me enviar, "
        "interromper, suspender, bloquear, deixar de receber, chega de, sem mais, cancelar o "
        "recebimento de",
        refusals="não quero, não quero receber, não desejo receber, não desejo, não gostaria de receber, não "
        "me envie, não me enviem, não me mande, não me mandem, não me manda, não enviar, não envie, "
        "não enviem, não mande, não mandem, não manda",
        removals="sair de, sair da, me remova da, me remove da, me remova dessa, me removam da, remova me da, "
        "me tire da, me tira da, me tirem da, me tire dessa, me tira dessa, me tirem dessa, me exclua "
        "da, me retire da, me retirem da, me descadastre da, me descadastrar da, descadastrar da, "
        "cancelar inscrição na, cancelar inscrição em, tira meu número da, tire meu número da, tirem "
        "meu número da, remova meu número da, retire meu número da, exclua meu número da",
        heads="não, nunca mais",
        tails="me mande nada, me mandem nada, me manda nada, me envie nada, me enviem nada, me chame, me "
        "chamem, me contate, me contatem, me contacte, me contactem, me escreva, me escrevam, me "
        "incomode, me incomodem, me perturbe, me perturbem, me mande mensagem, me mandem mensagem",
        things="promoções, promos, mensagens promocionais, ofertas, publicidade, propaganda, propagandas, "
        "mensagens de marketing, mensagens de propaganda, mensagens publicitárias, marketing, "
        "anúncios, spam, mensagens, msgs, notificações, newsletter, comunicações, receber mensagens, "
        "enviar mensagens, mandar mensagens",
        single="promoção, mensagem, msg",
        lists="lista, listas, lista de transmissão, lista de contatos, lista de contactos, contatos, "
        "mailing, banco de dados, base de dados",
        articles="as, os, a, o, de, da, das, do, dos, sua, suas, seu, seus, essa, essas, esta, estas, esse, "
        "esses, dessa, desta, todas as, todos os, as suas, com as, com, nenhuma, qualquer",
        fillers="mais, já",
        wishes="quero, queria, gostaria de, desejo, pode, podem, poderia, poderiam, favor, solicito, como "
        "posso, como faço para",
    ),
    "ru": Language(
        phrases="отписаться, отписка, отпишите, отпишите меня, отпиши меня, отписать меня, меня отписать, "
        "отпишите мой номер, отпишусь, отписываюсь, отписать, отменить рассылку, отмените рассылку, "
        "удалите меня, удалить меня, удалите мой номер, удалить мой номер, удалите мой контакт, "
        "уберите меня, уберите мой номер, не беспокоить, хватит писать, перестаньте писать, "
        "прекратите писать, не надо писать, хватит спамить, прекратите спамить, оставьте меня в "
        "покое, отстаньте",
        alone="стоп, stop",
        stops="стоп, остановить, остановите, прекратить, прекратите, отключить, отключите, хватит "
        "присылать, хватит слать, перестаньте присылать, перестаньте слать, прекратите присылать, "
        "прекратите слать",
        refusals="не хочу, не хочу получать, не желаю получать, не нужна, не нужны, не присылайте, не "
        "отправляйте, не надо, не шлите",
        removals="отписаться от, отпишите от, отпишите меня от, отписать от, отказаться от, отказ от, "
        "отказываюсь от, удалите меня из, удалить меня из, удалите мой номер из, уберите меня из, "
        "уберите мой номер из, исключите меня из",
        heads="не",
        tails="пишите, пиши, присылайте, присылайте ничего, беспокойте, беспокойте меня, шлите",
        things="рассылку, рассылки, рассылка, рассылок, рекламу, рекламы, реклама, рекламную рассылку, "
        "рекламной рассылки, рекламных рассылок, рекламные сообщения, рекламных сообщений, рекламные "
        "рассылки, акции, промо, предложения, предложений, рекламные предложения, маркетинг, "
        "маркетинговые сообщения, маркетинговых сообщений, спам, спама, сообщения, сообщений, "
        "уведомления, уведомлений",
        lists="списка, списков, базы, базы данных, списка рассылки, контактов",
        articles="эту, эти, этой, этих, ваши, вашу, вашей, ваших, все, всю, всех, от, ваш, вашего",
        fillers="больше, мне, нам, сюда, никогда, вообще",
        wishes="хочу, я хочу, хотел бы, хотела бы, можно, можете, могу, могу ли я, как, как мне",
    ),
    "tr": Language(
        phrases="abonelikten çık, abonelikten ayrıl, abonelikten çıkmak istiyorum, abonelikten çıkar, "
        "abonelikten çıkarın, listeden çık, listeden çıkmak istiyorum, listeden çıkar, listeden "
        "çıkarın, beni listeden çıkarın, beni listeden çıkar, beni listenizden çıkarın, beni çıkarın, "
        "numaramı silin, numaramı sil, numaramı listeden silin, numaramı listenizden silin, numaramı "
        "listeden çıkarın, beni silin, bana yazmayın, yazmayın, beni rahatsız etmeyin, rahatsız "
        "etmeyin, bana ulaşmayın",
        alone="stop, durdur, durdurun",
        stops="durdur, durdurun, stop, kapat, kapatın, kes, kesin, göndermeyi bırakın, göndermeyi durdurun, "
        "atmayı bırakın, engelle",
        refusals="istemiyorum, almak istemiyorum, göndermeyin, gönderme, göndermeyiniz, yollamayın, atmayın, "
        "atma, atmayınız, gelmesin",
        things="promosyon, promosyonlar, promosyonları, promosyon mesajı, promosyon mesajları, promosyon "
        "mesajlarını, kampanya, kampanyalar, kampanyaları, kampanya mesajı, kampanya mesajları, "
        "kampanya mesajlarını, reklam, reklamlar, reklamları, reklam mesajı, reklam mesajları, reklam "
        "mesajlarını, tanıtım, tanıtımları, tanıtım mesajları, tanıtım mesajlarını, pazarlama, "
        "pazarlama mesajları, pazarlama mesajlarını, spam, mesaj, mesajlar, mesajları, mesajlarınızı, "
        "mesajlarını, sms, bildirim, bildirimler, bildirimleri, bülten, bülteni",
        articles="bu, tüm, bana, daha fazla, başka, bütün, hiç, hiçbir",
        fillers="artık, bir daha, asla",
    ),
}
"""By ISO 639-1 code."""
