"""Which messages mean that their sender wants no more of them, and which only sound like it."""

from __future__ import annotations

import random
import time
from dataclasses import fields, replace

import pytest

from crmd.config.tables import WhatsAppTable
from crmd.crm.consent.keywords import ConsentKeywords, Grammar, normal
from crmd.crm.consent.phrases import LANGUAGES
from crmd.crm.inbound.payloads import words_of

WORDS = ConsentKeywords(("stop", "unsubscribe"), ("start", "subscribe"))

WRITTEN_OTHERWISE = """
STOP! | Stop. | “STOP” | 'stop' | stop… | *STOP* | _stop_ | Stop?! | ＳＴＯＰ | 𝐒𝐓𝐎𝐏 | Ⓢⓣⓞⓟ |
stop\u200b | \u2060st\u00adop | \ufeffstop | \u202dSTOP\u202c | Stop 🛑 | 🙏🏽 stop 🙏🏽 | 🛑🛑 STOP 🛑🛑 |
s t o p | S.T.O.P. | S-T-O-P | STOOOOP | stoppp | stop stop stop | STOP, STOP! | \u00a0stop\u3000 |
stop\t\n | UNSUBSCRIBE. | Unsubscribe 🙏 | stop_promotions | Opt-out | OPT OUT
"""
BESIDE_A_REASON = """
Not interested. Please stop | not interested, stop | Wrong number, stop | Enough! Stop! | ok, stop | No, stop |
Please stop sending me messages. I am not interested. | I'm not interested, please remove me from your list |
no me interesa, no me escriban más | Kein Interesse, bitte keine Nachrichten mehr |
Falsche Nummer - bitte abmelden |
Hi! Wrong number. Stop. Thanks! | Non merci, désabonnez-moi | STOP. UNSUBSCRIBE. | Не интересно, отпишите меня |
Não tenho interesse, obrigado. Me descadastre | yeter, mesaj göndermeyin | لا شكرا، إلغاء الاشتراك
"""
PHRASES = {
    "ar": "توقف | إلغاء الاشتراك | الغاء الاشتراك | إيقاف العروض الترويجية | إِيقَاف الرسائل | "
    "لا ترسلوا لي رسائل | لا أريد رسائل تسويقية من فضلك",
    "de": "Stopp | STOPP! | abmelden | Bitte abmelden | Ich möchte mich abmelden | Newsletter abbestellen | "
    "Keine Werbung mehr! | Bitte keine Nachrichten mehr, danke | "
    "Ich möchte keine Nachrichten mehr erhalten | Werbung stoppen | Stopp mit der Werbung | "
    "Schreiben Sie mir nicht mehr | nehmen Sie mich aus dem Verteiler | melden Sie mich bitte ab",
    "en": "stop please | please stop | Please, stop! Thank you | stop now | stop promotions | "
    "Stop Promotions | stop all messages | unsubscribe me | please unsubscribe me from your list | "
    "remove me | Remove me from your mailing list please | take me off this list | opt me out | "
    "I want to unsubscribe | no more messages | No more promotions, thanks | stop texting me | "
    "stop sending me messages | don't message me again | Don’t send me any more ads | "
    "Can you please stop sending me these messages? | stop marketing | "
    "I no longer want to receive promotional messages | Stop messaging me | hello, please stop",
    "es": "BAJA | baja por favor | darme de baja | Quiero darme de baja | Dar de baja | cancelar suscripción | "
    "Cancelar suscripcion | parar | Detener promociones | no más mensajes | "
    "No quiero más mensajes, gracias | No quiero recibir publicidad | "
    "por favor dejen de enviarme publicidad | no me escriban más | Quítenme de la lista",
    "fr": "désabonner | Desabonner | me désabonner | Désabonnez-moi svp | je veux me désabonner | arrêtez | "
    "Arrêter les promotions | STOP PUB | Ne m'envoyez plus de messages | Ne m’envoyez plus de pub | "
    "je ne veux plus recevoir de messages | désinscription | stop s'il vous plaît | "
    "Retirez-moi de votre liste",
    "hi": "स्टॉप | रोकें | प्रमोशन बंद करें | मैसेज बंद करो | कृपया मैसेज मत भेजो | मुझे मैसेज मत भेजो | "
    "stop karo | message band karo please | विज्ञापन नहीं चाहिए",
    "id": "berhenti | BERHENTI berlangganan | hentikan promosi | stop promosi | jangan kirim pesan lagi | "
    "tolong jangan kirim promo lagi | tolong hapus nomor saya",
    "it": "disiscrivimi | Cancellami | cancellatemi dalla lista | annulla iscrizione | stop alle promozioni | "
    "Interrompi promozioni | non voglio più messaggi | Non voglio più ricevere pubblicità, grazie | "
    "non scrivetemi più | basta pubblicità",
    "nl": "afmelden | Uitschrijven a.u.b. | meld mij af | geen berichten meer | "
    "Ik wil geen reclame meer ontvangen | stop met berichten sturen | Stop promoties | "
    "Promoties stoppen | Haal mij van de lijst",
    "pt": "SAIR | sair por favor | parar | Pare! | Parar promoções | Interromper promoções | descadastrar | "
    "me descadastre | cancelar inscrição | não quero mais receber mensagens | "
    "Não me mandem mais mensagens | pare de me mandar mensagem | me tira da lista | "
    "me remova da lista de transmissão",
    "ru": "стоп | СТОП! | отписаться | Отпишите меня, пожалуйста | Остановить рекламу | не пишите мне больше | "
    "Не пишите мне! | хватит присылать рекламу | уберите меня из списка рассылки | отказаться от рассылки",
    "tr": "durdur | ABONELİKTEN ÇIK | abonelikten cik | promosyonları durdur | mesaj almak istemiyorum | "
    "Lütfen mesaj göndermeyin | beni listeden çıkarın | reklam istemiyorum",
}
SOMETHING_ELSE = """
don't stop | Don’t stop! | dont stop | never stop | do not stop sending me offers |
please don't unsubscribe me | don't remove me | bus stop | the bus stop | stop sign | non-stop |
nonstop | stopwatch | unstoppable | stop by tomorrow | I will stop by | please stop by |
stop at the corner | can you stop the delivery | can you stop? | can you stop now | stop it |
stop it please | stop it, you are funny | stop messing around | stop the car | stop order 17 |
stop loss | stop or go | stop 2 | where is the stop | I got your message, stop by |
I want to stop smoking | remove my order | remove me from the waiting list for tomorrow |
delete my last order | take me off at the station | cancel | cancel my order | cancel it | end |
quit | no | no thanks | nothing more | no more questions | not interested | more promotions |
promotions | what promotions do you have? | I want offers | send me messages | messages | thanks |
please | restart | start | cancelar | cancelar la cita | Cancelar mi pedido | cancelar promoción |
baja el precio | planta baja | baja california | estoy de baja | no me des de baja | la más baja |
no parar | para mañana | parar el envío | quiero parar en Madrid | basta | vou sair | sair amanhã |
posso sair mais cedo? | parar o carro | não parar | cancelar pedido |
cancelar assinatura da revista | nicht abmelden | bitte nicht stoppen | Keine Nachrichten |
keine Frage | ich melde mich morgen | Haltestelle | Stoppuhr | ich melde mich ab Montag |
plus de promotions svp | plus de messages | ne pas arrêter | arrêt de bus | n'arrêtez pas |
arrête tes bêtises | j'arrête de fumer | basta così grazie | non fermarti | pare di sì |
geen probleem | niet stoppen | stop bij de bakker | tot straks | jangan berhenti |
berhenti di lampu merah | saya berhenti bekerja | mat roko | बस स्टॉप | मत रोको | موقف الباص |
لا تتوقف | не останавливайтесь | не отписывайте меня | остановка | хватит | durma | otobüs durağı |
dur | iptal | tamam |
stop, you are funny | no, don't stop | Stop! In the name of love | stop. next to the bakery | ok. stop 12 |
not interested, thanks | no, thank you | wrong number, sorry | stop, start
"""
ALSO_SAID = {
    "en": "I would like to unsubscribe | please take my number off your list | don't ever text me again | I do "
    "not want to be contacted again | please delete my number from your contacts | could you please stop "
    "messaging me | I'd like to opt out | never write to me again | no more texts from you please",
    "es": "quisiera darme de baja | ya no quiero recibir sus mensajes | dejen de mandarme publicidad | borren "
    "mi número de su lista | quiero dejar de recibir mensajes | no me vuelvan a escribir",
    "fr": "je souhaite me désabonner | ne m'envoyez plus rien | arrêtez de m'envoyer des messages | retirez-moi "
    "de votre liste | je voudrais me désinscrire | ne me contactez plus jamais",
    "de": "ich möchte mich abmelden | ich möchte keine Nachrichten mehr von Ihnen bekommen | hört auf mir zu "
    "schreiben | bitte nehmen Sie mich aus Ihrem Verteiler | ich will nicht mehr kontaktiert werden | "
    "schickt mir nichts mehr",
    "it": "vorrei non ricevere più messaggi | toglietemi dalla vostra lista | smettetela di mandarmi messaggi | "
    "vorrei disiscrivermi | cancellate il mio numero dalla lista",
    "nl": "ik wil geen berichten meer ontvangen | kunt u mij uitschrijven | haal mijn nummer uit jullie lijst | "
    "ik wil me graag uitschrijven | stop met berichten sturen",
    "pt": "parem de me mandar mensagem | gostaria de me descadastrar | tirem meu número da lista | não quero "
    "mais ser contatado | podem parar de me mandar mensagens",
    "id": "saya ingin berhenti berlangganan | tolong hapus nomor saya dari daftar | jangan kirim pesan lagi ya "
    "| saya tidak mau terima pesan lagi | bisa hapus nomor saya",
    "ru": "больше не присылайте мне сообщения | удалите мой номер из базы | я хочу отписаться | не надо мне "
    "больше писать | можно меня отписать",
    "tr": "bana artık mesaj atmayın | numaramı listeden silin | artık mesaj almak istemiyorum | mesajlarınızı "
    "istemiyorum | lütfen numaramı silin",
    "ar": "لا أريد استقبال رسائل | أرجو حذف رقمي | من فضلك لا ترسلوا لي رسائل | أريد إلغاء الاشتراك | لا "
    "تتواصلوا معي",
    "hi": "कृपया मुझे मैसेज न करें | mujhe message mat karna | मेरा नंबर हटा दीजिए | मुझे मैसेज मत भेजिए | "
    "mujhe aur message nahi chahiye",
}
"""Written down before anybody looked at the shipped phrases."""
ALSO_SOMETHING_ELSE = {
    "en": "can you stop by at five | does the bus stop here | I can't stop laughing | please cancel my "
    "appointment | I don't want the blue one | stop the delivery | is the offer over? | remove the onions "
    "| don't send it yet | stop it, you are funny | I don't want this offer | don't message me before 9 | "
    "I want to stop at your shop | can you stop? | can we stop | remove that message | no more questions "
    "| delete my order | no more messages? | don't send offers today | don't send me the offer now | do "
    "you have a mailing list | block list | offers end? | no thanks | not interested | end of promotion | "
    "wrong number",
    "es": "cancelar la cita | no quiero la talla M | parada de autobús | quiero cancelar mi pedido | no me "
    "envíen el pedido hoy | ya no quiero el producto | baja el precio | quiero parar | no quiero esta "
    "oferta | ¿no hay más ofertas? | no me escriban ahora | ¿puede parar?",
    "fr": "annuler le rendez-vous | je ne veux pas la promo | je veux plus d'informations | arrêt de bus | je "
    "veux plus de promotions | ne m'envoyez pas la facture | je veux arrêter | plus d'offres ?",
    "de": "nicht aufhören | Bushaltestelle | ich melde mich später ab | löschen Sie die Bestellung | keine "
    "Sahne bitte | ich melde mich ab | gibt es keine Angebote mehr? | ich will das Angebot nicht | können "
    "Sie stoppen | nicht jetzt schreiben",
    "it": "annulla l'appuntamento | non voglio la promozione | basta così | fermata dell'autobus | cancella "
    "l'ordine | niente offerte? | vorrei fermarmi",
    "nl": "bushalte | ik wil geen suiker | stop maar in de tas | geen aanbiedingen meer? | ik meld me af | kan "
    "je stoppen | ik wil stoppen",
    "pt": "cancelar a consulta | não quero essa oferta | pare na esquina | quero sair mais cedo | não mande o "
    "pedido ainda | quero parar | quero sair | não mande agora | pode parar",
    "id": "tidak mau daftar | berhenti di sini | jangan kirim sekarang | batalkan pesanan | saya mau berhenti | "
    "bisa berhenti | tidak mau promo ini",
    "ru": "отменить заказ | остановка автобуса | не присылайте счёт | можно остановить | не хочу эту акцию | не "
    "пишите сейчас | отменить подписку",
    "tr": "randevuyu iptal et | otobüs durağı | bu kampanyayı istemiyorum | siparişi iptal edin | şimdi mesaj "
    "atmayın | aboneliğimi iptal edin",
    "ar": "إلغاء الموعد | لا أريد هذا العرض | لا ترسل الآن | لا أريد القائمة",
    "hi": "बस स्टॉप | ऑर्डर रद्द करें | यह ऑफर नहीं चाहिए | order cancel karo | अभी मैसेज मत करो | ye offer nahi chahiye",
}
AFTER_A_WISH = """
quiero desuscribirme | quero descadastrar | vorrei disiscrivermi | vorrei cancellarmi | ik wil uitschrijven |
ik wil afmelden | saya mau unsubscribe | можно отписаться | can I unsubscribe | how do I unsubscribe? |
Ich möchte bitte abmelden | je voudrais me désinscrire | أريد إلغاء الاشتراك
"""
ONE_WORD_OF_A_WISH = """
I want to stop | can you stop | I would like to stop | quiero parar | ¿puede parar? | je veux arrêter |
quero parar | quero sair | pode parar? | ik wil stoppen | kan je stoppen | saya mau berhenti | bisa berhenti |
vorrei stop | können Sie stoppen | ich möchte abbestellen | quiero cancelar suscripción
"""
SAID_BY_SENTENCES = """
No more messages from you | I don't want messages from you, thanks | Remove me from your contacts |
never message me again | Never text me again! | I do not want to be contacted |
Veuillez ne plus m'envoyer de messages | ne plus m'écrire | Arrêtez de m'écrire svp | supprimer mon numéro |
para de me mandar mensagem | Parem! | não manda mais | não me manda mais | tira meu número |
me tira dessa lista | dejen de escribirme | deja de escribirme | ya no me manden nada | borra mi número |
por favor borrar mi número | elimina mi número | me puede dar de baja | ¿me pueden dar de baja? |
no quiero mensajes de ustedes | Bitte aus dem Verteiler nehmen | aus dem Verteiler löschen |
Hören Sie auf mir zu schreiben | Ich möchte nicht mehr kontaktiert werden | bitte nichts mehr schicken |
Nummer löschen | smettete di scrivermi | smettetela di scrivermi | rimuovete il mio numero |
non voglio essere contattato | stop met appen | لا ترسلوا لي | لا تراسلوني مرة أخرى | أرجو إلغاء الاشتراك |
الرجاء عدم إرسال رسائل | не пишите сюда больше | mesaj atmayın artık | मैसेज न करें | मैसेज मत भेजिए |
je veux plus recevoir de promos | ya no quiero recibir ofertas | stop the promotion now |
stop all messages right now | no more messages, ok? | Stop? | Can you remove me from the list? |
cancel my subscription to these messages
"""
ONE_THING_LATER_OR_MORE = """
I don't want the promotion | no quiero la promoción | não quero essa promoção | non voglio il messaggio |
I don't want this message | I don't want the list | don't send the message | don't send the list |
je ne veux plus cette promo | ik wil geen promotie | ich will keine Liste | no quiero esta lista | stop list |
saya tidak mau daftar | tidak mau daftar | je veux plus de promos | je veux plus de promotions |
je veux plus de messages | cancel my subscription | cancel subscription | end my subscription |
cancelar mi suscripción | cancelar minha inscrição | annulla la mia iscrizione | отменить подписку |
отмена подписки | aboneliğimi iptal edin | إلغاء اشتراكي | melde mich ab | ich melde mich ab | ik meld me af |
don't send messages now | no quiero ofertas ahora | jangan kirim pesan sekarang | now I don't want offers |
keine Nachrichten jetzt | не присылайте сейчас | لا ترسل رسائل الان | अभी मैसेज मत भेजो | offers end? |
promo end? | end of promotion | block list | block messages? | mute list | offers stop? | no more offers? |
Hi, no more offers? | niente offerte? | keine weiteren Angebote? | keine Angebote mehr? 🙏 |
geen aanbiedingen meer? | plus de promos ? | sem mais ofertas? | ¿no más ofertas? | больше нет акций? |
baja más | parar más | can you stop again
"""


def listed(text: str) -> list[str]:
    return [one for line in text.split("|") if (one := line.strip(" \n"))]


def test_the_word_counts_however_it_is_written() -> None:
    said = listed(WRITTEN_OTHERWISE)
    assert [text for text in said if WORDS.meaning(text) != "out"] == []
    assert len(said) > 25


def test_a_reason_beside_it_does_not_hide_it() -> None:
    assert [text for text in listed(BESIDE_A_REASON) if WORDS.meaning(text) != "out"] == []


@pytest.mark.parametrize("language", PHRASES)
def test_the_phrases_of_each_language(language: str) -> None:
    own, said = ConsentKeywords(("stop",), (), [language]), listed(PHRASES[language])
    assert [text for text in said if WORDS.meaning(text) != "out"] == []
    assert [text for text in said if own.meaning(text) != "out"] == [], "by its own phrases"


def test_what_only_sounds_like_it_costs_nobody_a_customer() -> None:
    said = listed(SOMETHING_ELSE)
    assert [text for text in said if WORDS.meaning(text) == "out"] == []
    assert len(said) > 100


@pytest.mark.parametrize("language", ALSO_SAID)
def test_what_people_also_say(language: str) -> None:
    own = ConsentKeywords(("stop",), (), [language])
    said, otherwise = listed(ALSO_SAID[language]), listed(ALSO_SOMETHING_ELSE[language])
    assert [text for text in said if WORDS.meaning(text) != "out"] == []
    assert [text for text in said if own.meaning(text) != "out"] == [], "by its own phrases"
    assert [text for text in otherwise if WORDS.meaning(text) == "out"] == []


def test_a_verb_of_one_word_counts_after_a_wish_unless_it_also_means_something_else() -> None:
    assert [text for text in listed(AFTER_A_WISH) if WORDS.meaning(text) != "out"] == []
    assert [text for text in listed(ONE_WORD_OF_A_WISH) if WORDS.meaning(text) == "out"] == []


def test_refusing_one_thing_putting_off_and_asking_for_more_are_no_opt_outs() -> None:
    assert [text for text in listed(SAID_BY_SENTENCES) if WORDS.meaning(text) != "out"] == []
    assert [text for text in listed(ONE_THING_LATER_OR_MORE) if WORDS.meaning(text) == "out"] == []


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_phrase_is_listed_twice_or_follows_from_the_others(code: str) -> None:
    language = LANGUAGES[code]
    for field in fields(language):
        said = [normal(one) for one in getattr(language, field.name).split(",") if one.strip()]
        assert sorted(set(said)) == sorted(said), field.name
    phrases = [normal(one) for one in language.phrases.split(",")]
    for phrase in phrases:
        others = ", ".join(one for one in phrases if one != phrase)
        assert not Grammar(replace(language, phrases=others)).says(tuple(phrase.split())), phrase


@pytest.mark.parametrize("text", ["", " ", "🛑", "👍", "!", "...", "\u200b", "x" * 5000, "stop " * 2000, None])
def test_nothing_said_is_no_word(text: str | None) -> None:
    assert WORDS.meaning(text) is None


@pytest.mark.parametrize("text", ["START", "start!", "Start, please", "ｓｔａｒｔ", "Subscribe 🙏"])
def test_who_wants_messages_again_may_say_it_as_freely(text: str) -> None:
    assert WORDS.meaning(text) == "in"


def test_every_shipped_phrase_is_heard_and_none_means_something_else_in_another_language() -> None:
    listed = (f"{language.phrases}, {language.alone}" for language in LANGUAGES.values())
    said = [one.strip() for phrases in listed for one in phrases.split(",")]
    assert {one for one in said if WORDS.meaning(one) != "out"} == set()
    assert len(LANGUAGES) >= 10


def test_a_word_of_the_configuration_wins_over_a_shipped_phrase() -> None:
    own = ConsentKeywords(("no mas",), ("Sair", "¡Quiero volver!"))
    assert own.meaning("SAIR") == "in"
    assert own.meaning("quiero volver, por favor") == "in"
    assert own.meaning("No más.") == "out"
    assert own.meaning("stop") == "out", "the shipped ones are heard besides"


def test_without_languages_only_the_configured_words_are_heard() -> None:
    own = ConsentKeywords(("stop", "weg damit"), ("start",), ())
    assert own.meaning("Weg damit, bitte!") == "out"
    assert own.meaning("stop 🛑") == "out"
    assert own.meaning("abmelden") is own.meaning("unsubscribe") is None


def test_a_word_cannot_mean_both_however_it_is_written() -> None:
    with pytest.raises(ValueError, match="stop"):
        ConsentKeywords(("Stop!",), ("ＳＴＯＰ",))


def test_the_setting_names_the_shipped_languages() -> None:
    assert tuple(WhatsAppTable().opt_out_languages) == tuple(LANGUAGES)


def test_normal_text_is_stable() -> None:
    generator = random.Random(7)
    for _ in range(2_000):
        text = "".join(
            chr(generator.choice((generator.randrange(32, 0x3000), generator.randrange(0xD7FF)))) for _ in range(8)
        )
        assert normal(normal(text)) == normal(text)


def test_no_text_takes_long() -> None:
    """The longest texts that are looked at, of words that are in the lists; in this process's own time."""
    began = time.process_time()
    for text in (
        "ya " * 16,
        "ya " * 15 + "x",
        "stop " + "the " * 14 + "x",
        "please " * 16,
        "can you " * 8,
        "s " * 99,
        "I, " * 16,
        "mas ya " * 8,
        "ya, " * 16,
        "stop. " * 15 + "x",
    ):
        WORDS.meaning(text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"type": "text", "text": {"body": "stop"}}, ("stop",)),
        ({"type": "button", "button": {"text": "Stop promotions", "payload": "P1"}}, ("Stop promotions", "P1")),
        (
            {
                "type": "interactive",
                "interactive": {"type": "list_reply", "list_reply": {"id": "stop", "title": "Out"}},
            },
            ("Out", "stop"),
        ),
        ({"type": "interactive", "interactive": {"type": "nfm_reply", "nfm_reply": {"body": "Sent"}}}, ()),
        ({"type": "image", "image": {"caption": "STOP"}}, ("STOP",)),
        ({"type": "document", "document": {"filename": "stop"}}, ()),
        ({"type": "location", "location": {"name": "Stop"}}, ()),
        ({"type": "reaction", "reaction": {"emoji": "stop"}}, ()),
        ({"type": "edit", "edit": {"message": {"type": "text", "text": {"body": "stop"}}}}, ("stop",)),
        ({"type": "edit", "edit": {"message": {"type": "edit", "edit": {}}}}, ()),
        ({"type": "text", "text": {"body": ["stop"]}}, ()),
        ({"type": ["text"]}, ()),
    ],
)
def test_by_what_a_message_may_say_it(message: dict[str, object], words: tuple[str, ...]) -> None:
    assert words_of(message) == words
