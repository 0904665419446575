"""Which messages mean that their sender wants no more of them, and which only sound like it."""

from __future__ import annotations

import random
import time

import pytest

from crmd.config.tables import WhatsAppTable
from crmd.handlers.opt_phrases import LANGUAGES
from crmd.handlers.opt_words import OptWords, normal
from crmd.handlers.whatsapp_inbound import words_of

WORDS = OptWords(("stop", "unsubscribe"), ("start", "subscribe"))

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
    own, said = OptWords(("stop",), (), [language]), listed(PHRASES[language])
    assert [text for text in said if WORDS.meaning(text) != "out"] == []
    assert [text for text in said if own.meaning(text) != "out"] == [], "by its own phrases"


def test_what_only_sounds_like_it_costs_nobody_a_customer() -> None:
    said = listed(SOMETHING_ELSE)
    assert [text for text in said if WORDS.meaning(text) == "out"] == []
    assert len(said) > 100


@pytest.mark.parametrize("text", ["", " ", "🛑", "👍", "!", "...", "\u200b", "x" * 5000, "stop " * 2000, None])
def test_nothing_said_is_no_word(text: str | None) -> None:
    assert WORDS.meaning(text) is None


@pytest.mark.parametrize("text", ["START", "start!", "Start, please", "ｓｔａｒｔ", "Subscribe 🙏"])
def test_who_wants_messages_again_may_say_it_as_freely(text: str) -> None:
    assert WORDS.meaning(text) == "in"


def test_every_shipped_phrase_is_heard_and_none_means_something_else_in_another_language() -> None:
    said = [one.strip() for language in LANGUAGES.values() for one in language.phrases.split(",")]
    assert {one for one in said if WORDS.meaning(one) != "out"} == set()
    assert len(LANGUAGES) >= 10


def test_a_word_of_the_configuration_wins_over_a_shipped_phrase() -> None:
    own = OptWords(("no mas",), ("Sair", "¡Quiero volver!"))
    assert own.meaning("SAIR") == "in"
    assert own.meaning("quiero volver, por favor") == "in"
    assert own.meaning("No más.") == "out"
    assert own.meaning("stop") == "out", "the shipped ones are heard besides"


def test_without_languages_only_the_configured_words_are_heard() -> None:
    own = OptWords(("stop", "weg damit"), ("start",), ())
    assert own.meaning("Weg damit, bitte!") == "out"
    assert own.meaning("stop 🛑") == "out"
    assert own.meaning("abmelden") is own.meaning("unsubscribe") is None


def test_a_word_cannot_mean_both_however_it_is_written() -> None:
    with pytest.raises(ValueError, match="stop"):
        OptWords(("Stop!",), ("ＳＴＯＰ",))


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
