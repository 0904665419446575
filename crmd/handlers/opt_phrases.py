"""How people say in each language that they want no more messages: data, read by `opt_words`.

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
    """Each says it all by itself."""
    verbs: str
    """What is to be done to an object, before it or behind it."""
    objects: str
    """What a business sends; and what people want to be off."""
    articles: str = ""
    """Words that may stand before an object."""
    wishes: str = ""
    """Words that may stand before a phrase of several words, or before a verb with its object."""


POLITE = (
    "please, pls, plz, kindly, thanks, thank you, thank you very much, thx, ty, sorry, hello, hi, hey, "
    "dear sir, por favor, porfavor, porfa, favor, gracias, muchas gracias, hola, buenas, buenos dias, "
    "buenas tardes, pfv, pf, obrigado, obrigada, ola, oi, bom dia, boa tarde, boa noite, s il vous plait, "
    "sil vous plait, svp, s il te plait, stp, merci, merci beaucoup, merci d avance, bonjour, salut, bitte, "
    "danke, vielen dank, danke schon, dankeschon, hallo, guten tag, moin, per favore, perfavore, "
    "per piacere, per cortesia, grazie, grazie mille, ciao, buongiorno, buonasera, salve, alstublieft, "
    "alsjeblieft, aub, ajb, bedankt, dank u, dank je, dankjewel, dank u wel, goedendag, tolong, mohon, "
    "terima kasih, makasih, trims, halo, कृपया, प्लीज, धन्यवाद, शुक्रिया, नमस्ते, kripya, dhanyavad, "
    "namaste, من فضلك, من فضلكم, لو سمحت, لو سمحتم, رجاء, رجاءا, الرجاء, شكرا, شكرا لكم, مرحبا, "
    "السلام عليكم, пожалуйста, пож, спасибо, здравствуйте, добрый день, привет, прошу, lutfen, tesekkurler, "
    "tesekkur ederim, sagolun, merhaba, now, right now, immediately, at once, asap, anymore, any more, "
    "from now on, ahora, ahora mismo, ya, inmediatamente, agora, imediatamente, ja, maintenant, "
    "immediatement, tout de suite, sofort, ab sofort, jetzt, umgehend, adesso, subito, immediatamente, nu, "
    "direct, onmiddellijk, sekarang, segera, अभी, abhi, الان, فورا, حالا, сейчас, немедленно, hemen, simdi, "
    "to me, to us, to my number, on whatsapp, via whatsapp, by whatsapp, por whatsapp, per whatsapp, "
    "über whatsapp, par whatsapp, su whatsapp, lewat whatsapp, a este número, à ce numéro, an diese nummer, "
    "para mim, para este número"
)
"""What may stand before and behind, in any language: people say "stop, danke"."""

PLEASE = (
    "please, pls, plz, kindly, por favor, porfavor, porfa, pfv, s il vous plait, svp, stp, bitte, per favore, "
    "aub, alstublieft, alsjeblieft, graag, tolong, कृपया, प्लीज, من فضلك, لو سمحت, пожалуйста, lutfen"
)
"""What may also stand in the middle: "melden Sie mich bitte ab"."""

REASONS = (
    "not interested, i am not interested, i m not interested, im not interested, no interest, no thanks, "
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
        phrases="توقف, توقفوا, أوقف, أوقفوا, إيقاف, وقف, ستوب, إلغاء الاشتراك, ألغ الاشتراك, "
        "الغي الاشتراك, ألغوا اشتراكي, إلغاء اشتراكي, أريد إلغاء الاشتراك, اريد الغاء اشتراكي, "
        "احذفني, احذفوني, احذف رقمي, احذفوا رقمي, احذفني من القائمة, احذفوني من القائمة, "
        "لا تراسلني, لا تراسلوني, لا تراسلني مرة أخرى, كفى رسائل, لا أريد رسائل, "
        "لا أريد المزيد من الرسائل",
        verbs="إيقاف, أوقف, أوقفوا, وقف, توقف عن, توقفوا عن, توقف عن إرسال, توقفوا عن إرسال, إيقاف إرسال, "
        "لا ترسل, لا ترسلوا, لا ترسل لي, لا ترسلوا لي, لا أريد, لا أريد استلام, لا أريد المزيد من, "
        "ألغ الاشتراك في, إلغاء الاشتراك في, إلغاء الاشتراك من",
        objects="رسائل, الرسائل, رسائلكم, الرسائل الترويجية, رسائل ترويجية, الرسائل التسويقية, "
        "رسائل تسويقية, العروض, عروض, العروض الترويجية, عروض ترويجية, الإعلانات, إعلانات, "
        "الترويج, التسويق, الدعاية, الرسائل الإعلانية, المراسلة, مراسلتي, القائمة, "
        "القائمة البريدية, النشرة",
        articles="كل, جميع, هذه, أي, من",
        wishes="أريد, اريد, أرغب في, أود, ممكن",
    ),
    "de": Language(
        phrases="stop, stopp, abmelden, abmeldung, abbestellen, abbestellung, austragen, austragung, "
        "mich abmelden, mich austragen, melde mich ab, ich melde mich ab, melden sie mich ab, "
        "meldet mich ab, tragen sie mich aus, tragt mich aus, trag mich aus, "
        "nicht mehr schreiben, schreiben sie mir nicht mehr, schreibt mir nicht mehr, "
        "schreib mir nicht mehr, kontaktieren sie mich nicht mehr, kontaktiert mich nicht mehr, "
        "nicht mehr kontaktieren, löschen sie meine nummer, löscht meine nummer, "
        "meine nummer löschen, keine werbung, keine werbung mehr, keine werbenachrichten mehr, "
        "keine nachrichten mehr, keine mitteilungen mehr, keine newsletter, "
        "keine newsletter mehr, keinen newsletter, keinen newsletter mehr, keine angebote mehr, "
        "keine promotions, keine promotions mehr, keine promos mehr, keine spam, kein spam, "
        "keine sms mehr, werbung nein danke, ich will nichts mehr bekommen",
        verbs="stop, stopp, stoppen, stoppt, stoppen sie, beenden, abbestellen, abmelden, einstellen, "
        "keine weitere, keine weiteren, ich will keine, ich möchte keine, "
        "ich mochte keine weiteren, ich will keine weiteren, wir wollen keine, "
        "senden sie mir keine, schicken sie mir keine, sendet mir keine, schickt mir keine, "
        "schick mir keine, abmelden von, abmelden vom, abmelden aus, mich abmelden von, "
        "mich abmelden vom, austragen aus, mich austragen aus, melden sie mich ab von, "
        "nehmen sie mich aus, nehmt mich aus, nimm mich aus, streichen sie mich aus, "
        "streichen sie mich von, löschen sie mich aus, loscht mich aus, entfernen sie mich aus, "
        "entfernt mich aus, entfernen sie mich von",
        objects="werbung, werbung mehr, werbenachrichten, werbenachrichten mehr, werbeaktionen, aktionen, "
        "promos, promotions, promotionen, angebote, angebote mehr, marketing, "
        "marketingnachrichten, marketing nachrichten, newsletter, newsletter mehr, "
        "nachrichten mehr, nachrichten, mitteilungen, mitteilungen mehr, "
        "nachrichten mehr erhalten, nachrichten mehr bekommen, werbung mehr erhalten, "
        "werbung mehr bekommen, nachrichten erhalten, werbung erhalten, werbung bekommen, spam, "
        "liste, verteiler, newsletter verteiler, mailingliste, broadcast, whatsapp newsletter, "
        "ihrem verteiler, eurem verteiler, ihrer liste, eurer liste",
        articles="die, der, den, das, dem, alle, allen, diese, diesen, dieser, ihre, ihren, ihrer, eure, "
        "euren, eurer, mit der, mit den, von, vom",
        wishes="ich möchte, ich mochte, ich will, ich würde gerne, ich wurde gern, können sie, könnt ihr",
    ),
    "en": Language(
        phrases="stop, stop all, stopall, unsubscribe, unsubscribed, unsubscribe me, unsubscribe all, "
        "unsub, un subscribe, opt out, optout, opt me out, i opt out, opting out, "
        "i want to unsubscribe, i would like to unsubscribe, i d like to unsubscribe, "
        "i wish to unsubscribe, want to unsubscribe, remove me, remove my number, "
        "delete my number, take me off, take my number off, leave me alone, lose my number, "
        "do not contact me, don t contact me, dont contact me, do not contact me again, "
        "don t contact me again, dont contact me again, do not message me, don t message me, "
        "dont message me, do not message me again, don t message me again, do not text me, "
        "don t text me, dont text me, do not text me again, don t text me again, do not write me, "
        "don t write me, don t write to me, do not write to me, stop contacting, stop messaging, "
        "stop texting, stop spamming, cancel subscription, cancel my subscription, "
        "end my subscription",
        verbs="stop, stop with, stop sending, stop sending me, stop sending us, please stop sending, "
        "block, mute, cease, no more, quit sending, quit sending me, end, unsubscribe, "
        "unsubscribe from, unsubscribe me from, unsubscribe me to, opt out of, opt out from, "
        "opt me out of, opt me out from, remove me from, remove my number from, delete me from, "
        "delete my number from, take me off, take my number off, take me out of, get me off, "
        "do not send, don t send, dont send, do not send me, don t send me, dont send me, "
        "do not send me any more, don t send me any more, dont send me any more, i don t want, "
        "i dont want, i do not want, i don t want any more, i dont want any more, "
        "i do not want any more, i no longer want, i no longer wish to receive, "
        "i no longer want to receive, i don t want to receive, i dont want to receive, "
        "i do not want to receive, i do not wish to receive, i don t want to get",
        objects="promotion, promotions, promo, promos, promotional messages, promotional message, "
        "promotional content, promotional offers, marketing, marketing messages, "
        "marketing message, marketing texts, market messages, ad, ads, adverts, advertising, "
        "advertisement, advertisements, offers, newsletter, newsletters, spam, message, messages, "
        "msg, msgs, texts, text messages, whatsapps, whatsapp messages, notifications, "
        "broadcasts, sms, texting me, messaging me, contacting me, writing me, writing to me, "
        "spamming me, bothering me, sending, sending me, messaging us, contacting us, list, "
        "lists, mailing list, mailing lists, contact list, marketing list, broadcast list, "
        "subscription list, distribution list, database",
        articles="the, this, that, these, those, your, all, all the, all your, any, any of your, my, "
        "such, more, further, of, with, the whatsapp, receiving, getting",
        wishes="i want to, i would like to, i d like to, i wish to, i want you to, can you, could you, "
        "would you, will you, can i, may i, i need to",
    ),
    "es": Language(
        phrases="stop, baja, parar, detener, darse de baja, darme de baja, dar de baja, deme de baja, "
        "dame de baja, denme de baja, dadme de baja, solicito la baja, solicito baja, "
        "quiero la baja, quiero baja, quiero darme de baja, me doy de baja, "
        "me quiero dar de baja, desuscribir, desuscribirme, desuscribirse, desuscribanme, "
        "desuscribeme, desinscribirme, cancelar suscripción, cancelar mi suscripción, "
        "cancelar la suscripción, cancelen mi suscripción, cancela mi suscripción, "
        "anular suscripción, anular la suscripción, anular mi suscripción, eliminar suscripción, "
        "no me escriban, no me escriban más, no me escribas más, no me escriba más, "
        "no me contacten, no me contacten más, no me manden más, no me molesten, "
        "no me molesten más, no enviar más, no envíen más, bórrenme, borrame de la lista, "
        "elimíname, elimínenme, eliminen mi número, borren mi número, quítenme de la lista, "
        "sáquenme de la lista",
        verbs="stop, parar, pare, paren, paren de enviar, pare de enviar, deje de enviar, "
        "dejen de enviar, deja de enviar, dejen de enviarme, deje de enviarme, deja de enviarme, "
        "dejen de mandar, dejen de mandarme, dejar de recibir, no quiero, no quiero más, "
        "ya no quiero, ya no quiero más, no quiero recibir, no quiero recibir más, "
        "ya no quiero recibir, no deseo, no deseo más, no deseo recibir, no deseo recibir más, "
        "no más, no me envíen, no me envíen más, no me envíe más, no me envies más, no me manden, "
        "no me manden más, no me mandes más, no envíen más, no enviar más, detener, detengan, "
        "suspender, interrumpir, bloquear, baja de, darme de baja de, dar de baja de, dar de baja, "
        "baja del, darme de baja del, quítenme de, quitarme de, quítame de, sáquenme de, sácame de, "
        "sacarme de, bórrenme de, bórrame de, borrarme de, elimínenme de, elimíname de, "
        "eliminarme de, desuscribirme de, desuscribirse de, cancelar suscripción a, "
        "cancelar la suscripción a",
        objects="promociones, promoción, promos, mensajes promocionales, ofertas, publicidad, "
        "mensajes publicitarios, mensajes de marketing, marketing, anuncios, spam, propaganda, "
        "mensajes, mensaje, más mensajes, mensajes de publicidad, boletín, boletines, newsletter, "
        "notificaciones, lista, listas, lista de correo, lista de difusión, lista de envío, "
        "base de datos, comunicaciones comerciales, enviar mensajes, enviarme mensajes",
        articles="la, las, los, el, de, del, sus, su, tus, tu, mas, este, estos, esta, estas, esa, esos, "
        "todas las, todos los, más",
        wishes="quiero, quisiera, deseo, me gustaría, pueden, puede, puedes, solicito, necesito",
    ),
    "fr": Language(
        phrases="stop, stop pub, stop sms, arrêt, arrêter, arrêtez, désabonner, désabonnement, "
        "désabonnez moi, désabonne moi, me désabonner, se désabonner, désabonnez, "
        "je me désabonne, je veux me désabonner, désinscrire, désinscription, désinscrivez moi, "
        "désinscris moi, me désinscrire, se désinscrire, je me désinscris, "
        "annuler mon abonnement aux messages, retirez moi, supprimez moi, supprimez mon numéro, "
        "retirez mon numéro, effacez mon numéro, ne m écrivez plus, ne me contactez plus, "
        "ne m envoyez plus rien, ne plus me contacter, ne plus recevoir, laissez moi tranquille, "
        "plus de pub, plus de pubs, plus de spam, pas de pub, pas de publicité",
        verbs="stop, stop aux, stopper, stoppez, arrêter, arrêtez, arrêter d envoyer, arrêtez d envoyer, "
        "arrêtez de m envoyer, arrête de m envoyer, cessez, cessez de m envoyer, interrompre, "
        "bloquer, plus aucun, ne plus recevoir, je ne veux plus, je ne veux plus de, "
        "je veux plus de, je ne veux plus recevoir, je veux plus recevoir, "
        "je ne souhaite plus recevoir, je ne souhaite plus, je ne désire plus recevoir, "
        "ne m envoyez plus, ne m envoyez plus de, ne m envoie plus de, n envoyez plus, "
        "n envoyez plus de, désabonnez moi de, désabonner de, me désabonner de, désabonnement, "
        "désinscrivez moi de, me désinscrire de, désinscription, retirez moi de, retire moi de, "
        "enlevez moi de, supprimez moi de, otez moi de, retirer de, me retirer de",
        objects="promotions, promotion, promos, promo, offres, offres promotionnelles, "
        "messages promotionnels, messages publicitaires, message publicitaire, "
        "messages marketing, marketing, pub, pubs, publicité, publicités, spam, spams, "
        "newsletter, newsletters, messages, message, sms, notifications, liste, listes, "
        "liste de diffusion, mailing list, base de données, vos messages, votre liste, "
        "recevoir de messages, envois, sollicitations, sollicitations commerciales",
        articles="la, les, le, l, de, d, des, du, cette, ces, ce, vos, votre, mes, toutes les, tous les, "
        "ta, tes, aux, a, a la, aucun, aucune",
        wishes="je veux, je voudrais, je souhaite, j aimerais, pouvez vous, pourriez vous, merci de, "
        "veuillez, prière de",
    ),
    "hi": Language(
        phrases="स्टॉप, रोकें, रोकिए, अनसब्सक्राइब, अनसब्सक्राइब करें, सदस्यता समाप्त करें, "
        "सदस्यता रद्द करें, सदस्यता समाप्त, मुझे हटाएं, मुझे हटा दो, मुझे हटा दें, "
        "मेरा नंबर हटाएं, मेरा नंबर हटा दो, मुझे मैसेज मत करो, मुझे मैसेज मत भेजो, "
        "मुझे संदेश न भेजें, मैसेज मत भेजो, मैसेज मत करो, संदेश मत भेजो, और मैसेज नहीं चाहिए, "
        "मैसेज नहीं चाहिए, विज्ञापन नहीं चाहिए, unsubscribe karo, unsubscribe karein, stop karo, "
        "stop kar do, message mat bhejo, message mat karo, mujhe message mat bhejo, "
        "mujhe message mat karo, msg mat karo, msg mat bhejo, mujhe hatao, mera number hatao, "
        "mera number hata do",
        verbs="बंद करें, बंद करो, बंद कर दो, बंद कर दें, बंद कीजिए, रोकें, रोको, रोकिए, रोक दें, न भेजें, "
        "मत भेजो, मत भेजें, नहीं चाहिए, भेजना बंद करें, भेजना बंद करो, stop, स्टॉप, band karo, "
        "band kar do, band karein, band kare, roko, rokein, bhejna band karo, bhejna band kar do, "
        "mat bhejo, mat karo, nahi chahiye, nahin chahiye, stop karo",
        objects="मैसेज, मेसेज, संदेश, सन्देश, प्रमोशन, प्रोमोशन, प्रचार, प्रचार संदेश, प्रमोशनल मैसेज, "
        "विज्ञापन, ऑफर, ऑफ़र, मार्केटिंग, मार्केटिंग संदेश, प्रचार मैसेज, message, messages, msg, "
        "msgs, promotion, promotions, promo, ads, offers, offer, marketing, mujhe message, sms",
        articles="ये, यह, सभी, मुझे, सारे, आपके, के, ye, yeh, sab, mujhe, sare, aapke, aur, और",
    ),
    "id": Language(
        phrases="stop, setop, berhenti, hentikan, berhenti berlangganan, berhenti langganan, "
        "batal berlangganan, batalkan langganan, unsubscribe, unsub, unreg, hapus saya, "
        "hapus nomor saya, hapus nomer saya, keluarkan saya, jangan hubungi saya, "
        "jangan hubungi saya lagi, jangan kirim lagi, jangan kirimi saya lagi, "
        "jangan wa saya lagi, jangan chat saya lagi, jangan ganggu saya, tidak mau dihubungi, "
        "tidak mau dihubungi lagi",
        verbs="stop, stop kirim, berhenti, berhenti kirim, berhenti mengirim, berhenti menerima, "
        "hentikan, hentikan pengiriman, berhenti berlangganan, blokir, jangan kirim, "
        "jangan kirim saya, jangan kirimi saya, jangan mengirim, saya tidak mau, "
        "saya tidak mau menerima, saya tidak ingin, saya tidak ingin menerima, tidak mau, "
        "tidak mau terima, ga mau terima, gak mau terima, tidak ingin menerima, hapus saya dari, "
        "keluarkan saya dari",
        objects="promosi, promosi lagi, promo, promo lagi, iklan, iklan lagi, penawaran, marketing, "
        "pemasaran, pesan, pesan lagi, pesan promosi, pesan promosi lagi, pesan pemasaran, "
        "pesan iklan, pesan marketing, spam, broadcast, broadcast lagi, newsletter, notifikasi, "
        "wa, wa lagi, sms, daftar, daftar ini, daftar anda, list, grup broadcast, daftar kontak, "
        "database",
        articles="semua, pesan, ini, dari, segala",
        wishes="saya mau, saya ingin, bisa, bisakah, mau, ingin",
    ),
    "it": Language(
        phrases="stop, stop sms, disiscrivi, disiscrivimi, disiscrivermi, disiscrizione, disiscrivetemi, "
        "disiscriversi, mi disiscrivo, cancellami, cancellatemi, cancellarmi, "
        "cancella iscrizione, cancellare iscrizione, cancella l iscrizione, "
        "cancellare l iscrizione, cancella la mia iscrizione, annulla iscrizione, "
        "annulla l iscrizione, annullare iscrizione, annullare l iscrizione, "
        "annulla la mia iscrizione, rimuovimi, rimuovetemi, mi rimuova, rimuovere il mio numero, "
        "cancellate il mio numero, cancella il mio numero, non scrivetemi, non scrivetemi più, "
        "non scrivermi più, non mi scrivete più, non contattatemi, non contattatemi più, "
        "non contattarmi più, non mi contattate più, lasciatemi in pace, toglietemi dalla lista",
        verbs="stop, stop ai, stop alle, stop a, fermare, ferma, fermate, interrompi, interrompere, "
        "interrompete, blocca, bloccare, bloccate, disattiva, basta, basta con, basta inviare, "
        "basta inviarmi, smettetela di inviare, smettete di inviare, smettete di inviarmi, "
        "smetti di inviarmi, smettetela di inviarmi, smettetela con, non voglio, non voglio più, "
        "non voglio più ricevere, non voglio ricevere, non desidero, non desidero ricevere, "
        "non desidero più ricevere, niente, niente più, non inviatemi, non inviatemi più, "
        "non inviarmi più, non mandatemi, non mandatemi più, non mandarmi più, non mi inviate più, "
        "non mi mandate più, cancellami da, cancellami dalla, cancellatemi da, cancellatemi dalla, "
        "rimuovimi dalla, rimuovetemi dalla, toglietemi dalla, toglimi dalla, disiscrivimi da, "
        "disiscrivimi dalla, disiscrivetemi dalla, cancellarmi dalla",
        objects="promozioni, promozione, promo, offerte, offerte promozionali, messaggi promozionali, "
        "messaggi pubblicitari, messaggi di marketing, messaggi, altri messaggi, più messaggi, "
        "marketing, pubblicità, spam, newsletter, notifiche, sms, lista, lista broadcast, "
        "mailing list, liste, database, messaggio",
        articles="la, le, i, il, gli, di, da, dalla, dalle, dai, vostra, vostre, vostri, questa, questi, "
        "queste, tutte le, tutti i, altri, altre, con",
        wishes="voglio, vorrei, desidero, potete, può, puoi, potreste, chiedo di",
    ),
    "nl": Language(
        phrases="stop, stoppen, afmelden, afmelding, meld mij af, meld me af, ik meld me af, "
        "mij afmelden, me afmelden, uitschrijven, uitschrijving, schrijf mij uit, schrijf me uit, "
        "mij uitschrijven, me uitschrijven, ik schrijf me uit, uitschrijven aub, "
        "opzeggen nieuwsbrief, verwijder mij, verwijder me, verwijder mijn nummer, "
        "haal mij van de lijst, haal me van de lijst, stuur mij niets meer, stuur me niets meer, "
        "geen reclame, geen reclame meer, geen berichten meer, geen marketing meer, "
        "geen marketingberichten meer, geen aanbiedingen meer, geen promoties meer, "
        "geen nieuwsbrief meer, geen appjes meer, geen spam, neem geen contact meer op, "
        "app mij niet meer, app me niet meer, laat me met rust",
        verbs="stop, stop met, stoppen, stoppen met, stop met sturen, stop met het sturen van, "
        "ik wil geen, wij willen geen, stuur mij geen, stuur me geen, stuur geen, blokkeer, "
        "beëindig, afmelden voor, afmelden van, meld mij af voor, meld me af voor, "
        "mij afmelden voor, me afmelden voor, uitschrijven voor, uitschrijven van, "
        "schrijf mij uit voor, schrijf me uit voor, verwijder mij van, verwijder mij uit, "
        "verwijder me van, verwijder me uit, haal mij van, haal me van, haal mij uit, haal me uit",
        objects="promoties, promoties meer, promotie, promo s, aanbiedingen, aanbiedingen meer, reclame, "
        "reclame meer, reclameberichten, reclameberichten meer, marketing, marketingberichten, "
        "marketingberichten meer, advertenties, advertenties meer, berichten, berichten meer, "
        "berichten sturen, berichten meer ontvangen, reclame ontvangen, reclame meer ontvangen, "
        "berichten ontvangen, spam, nieuwsbrief, nieuwsbrieven, nieuwsbrieven meer, meldingen, "
        "lijst, lijsten, mailinglijst, verzendlijst, appjes, appjes meer, promotionele berichten",
        articles="de, het, deze, dit, die, alle, jullie, uw, je, verdere, meer, van, voor, met",
        wishes="ik wil, ik wil graag, ik wil me, ik zou graag, kunt u, kan je, kunnen jullie, graag",
    ),
    "pt": Language(
        phrases="stop, sair, parar, pare, descadastrar, descadastre, descadastro, descadastrar me, "
        "descadastre me, me descadastre, me descadastra, me descadastrem, quero me descadastrar, "
        "descadastrem me, cancelar inscrição, cancelar minha inscrição, cancelar a inscrição, "
        "cancele minha inscrição, cancelar cadastro, desinscrever, desinscrever me, "
        "me desinscrever, me desinscreva, cancelar subscrição, cancelar a subscrição, "
        "cancelar a minha subscrição, anular subscrição, anular a subscrição, me remova, "
        "me remove, me remover, remova me, remover me, me removam, me tira da lista, "
        "me tire da lista, me tirem da lista, me exclua, me excluir, remova meu número, "
        "remover meu número, exclua meu número, apague meu número, apaguem meu número, "
        "retire meu número, não me mande mais, não me mandem mais, não me envie mais, "
        "não me envie mais nada, não me mande mais nada, não me chame mais, não entre em contato, "
        "não entrem mais em contato, não me contacte mais, não me contactem mais, "
        "não quero mais receber, não quero receber mais, quero sair da lista, deixar de receber, "
        "parar de receber",
        verbs="stop, sair de, sair da, quero sair da, quero sair de, parar, parar com, parar de receber, "
        "parar de enviar, pare, pare com, pare de enviar, pare de mandar, pare de me enviar, "
        "pare de me mandar, parem de enviar, parem de mandar, parem de me enviar, "
        "parem de me mandar, para de mandar, para de enviar, interromper, suspender, bloquear, "
        "deixar de receber, não quero, não quero mais, não quero receber, não quero mais receber, "
        "não quero receber mais, não desejo receber, não desejo mais receber, não desejo mais, "
        "não gostaria de receber, não me envie, não me envie mais, não me enviem, "
        "não me enviem mais, não me mande, não me mande mais, não me mandem, não me mandem mais, "
        "não enviar, não enviar mais, não envie mais, não enviem mais, não mande mais, "
        "não mandem mais, chega de, sem mais, me remova da, me remove da, me removam da, "
        "remova me da, me tire da, me tira da, me tirem da, me exclua da, me retire da, "
        "me descadastre da, descadastrar da, cancelar inscrição na, cancelar inscrição em, "
        "cancelar o recebimento de",
        objects="promoções, promoção, promos, mensagens promocionais, ofertas, publicidade, propaganda, "
        "propagandas, mensagens de marketing, mensagens de propaganda, mensagens publicitárias, "
        "marketing, anúncios, spam, mensagens, mensagem, mais mensagens, msg, msgs, notificações, "
        "newsletter, lista, listas, lista de transmissão, lista de contatos, lista de contactos, "
        "lista de transmissao, mailing, banco de dados, base de dados, comunicações, "
        "receber mensagens, enviar mensagens, mandar mensagens",
        articles="as, os, a, o, de, da, das, do, dos, sua, suas, seu, seus, essa, essas, esta, estas, "
        "esse, esses, mais, todas as, todos os, as suas, com as, com, nenhuma, qualquer",
        wishes="quero, queria, gostaria de, desejo, pode, podem, poderia, poderiam, favor, solicito",
    ),
    "ru": Language(
        phrases="стоп, stop, отписаться, отписка, отпишите, отпишите меня, отпиши меня, "
        "отпишите мой номер, отпишусь, отписываюсь, хочу отписаться, прошу отписать, "
        "отмена подписки, отменить подписку, отмените подписку, отменить рассылку, "
        "отмените рассылку, отказаться от подписки, удалите меня, удалить меня, "
        "удалите мой номер, удалите мой контакт, уберите меня, уберите мой номер, не пишите, "
        "не пишите мне, не пишите больше, не пишите мне больше, больше не пишите, "
        "больше не пишите мне, больше мне не пишите, не беспокойте, не беспокойте меня, "
        "не беспокоить, не присылайте, не присылайте мне, больше не присылайте, "
        "не присылайте больше, хватит писать, хватит мне писать, перестаньте писать, "
        "перестаньте мне писать, прекратите писать, прекратите мне писать, хватит спамить, "
        "прекратите спамить",
        verbs="стоп, остановить, остановите, прекратить, прекратите, отключить, отключите, отписаться от, "
        "отпишите от, отпишите меня от, отказаться от, отказ от, отказываюсь от, не хочу, "
        "не хочу получать, не хочу больше получать, больше не хочу получать, не желаю получать, "
        "не нужна, не нужны, не присылайте, не присылайте мне, не присылайте больше, "
        "больше не присылайте, больше не присылайте мне, не отправляйте, не отправляйте мне, "
        "больше не отправляйте, не надо, хватит присылать, хватит слать, перестаньте присылать, "
        "перестаньте слать, прекратите присылать, прекратите слать, удалите меня из, "
        "удалить меня из, удалите мой номер из, уберите меня из, исключите меня из",
        objects="рассылку, рассылки, рассылка, рассылок, рекламу, рекламы, реклама, рекламную рассылку, "
        "рекламной рассылки, рекламных рассылок, рекламные сообщения, рекламных сообщений, "
        "рекламные рассылки, акции, акций, промо, предложения, предложений, "
        "рекламные предложения, маркетинг, маркетинговые сообщения, маркетинговых сообщений, "
        "спам, спама, сообщения, сообщений, уведомления, уведомлений, список, списка, базы, "
        "базы данных, списка рассылки, списков",
        articles="эту, эти, этой, этих, ваши, вашу, вашей, ваших, все, всю, всех, мне, больше, от, ваш, вашего",
        wishes="хочу, я хочу, хотел бы, хотела бы, можно, можете, могу",
    ),
    "tr": Language(
        phrases="stop, durdur, durdurun, abonelikten çık, abonelikten ayrıl, "
        "abonelikten çıkmak istiyorum, abonelikten çıkar, abonelikten çıkarın, "
        "aboneliği iptal et, aboneliğimi iptal et, aboneliğimi iptal edin, abonelik iptal, "
        "abonelik iptali, listeden çık, listeden çıkar, listeden çıkarın, beni listeden çıkarın, "
        "beni listeden çıkar, beni çıkarın, numaramı silin, numaramı sil, beni silin, "
        "bana yazmayın, bana mesaj atmayın, mesaj atmayın, mesaj göndermeyin, mesaj gönderme, "
        "bana mesaj göndermeyin, bir daha yazmayın, bir daha mesaj atmayın, "
        "beni rahatsız etmeyin, rahatsız etmeyin, mesaj almak istemiyorum",
        verbs="durdur, durdurun, stop, kapat, kapatın, kes, kesin, istemiyorum, almak istemiyorum, "
        "göndermeyin, gönderme, atmayın, atma, göndermeyi bırakın, göndermeyi durdurun, gelmesin, "
        "engelle",
        objects="promosyon, promosyonlar, promosyonları, promosyon mesajı, promosyon mesajları, "
        "promosyon mesajlarını, kampanya, kampanyalar, kampanyaları, kampanya mesajı, "
        "kampanya mesajları, kampanya mesajlarını, reklam, reklamlar, reklamları, reklam mesajı, "
        "reklam mesajları, reklam mesajlarını, tanıtım, tanıtımları, tanıtım mesajları, "
        "tanıtım mesajlarını, pazarlama, pazarlama mesajları, pazarlama mesajlarını, spam, mesaj, "
        "mesajlar, mesajları, mesajlarınızı, mesajlarını, sms, bildirim, bildirimler, "
        "bildirimleri, bülten, bülteni, aboneliği, aboneliğimi",
        articles="bu, tüm, artık, bana, daha fazla, başka, bütün, hiç, hiçbir, bir daha",
    ),
}
"""By ISO 639-1 code."""
