"""Which columns say that somebody wants no messages, by the words in their names, and what their cells say.

`WhatsApp Opt-Out`, `DNC` and `Baja` are such columns; `Opted in` is not, nor does a no in it say anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from crmd.crm.imports.phone_names import fold, split_words

MAX_WORDS = 8

_SAYING = (
    "opt out, opted out, optout, optedout, opting out, do not contact, dont contact, don t contact, "
    "donotcontact, do not message, do not text, do not disturb, do not call, donotcall, donotmessage, dnc, "
    "dnd, unsubscribe, unsubscribed, unsub, unsubscription, baja, dado de baja, dada de baja, desuscrito, "
    "desuscrita, no contactar, no molestar, no escribir, désabonné, désabonnée, désabonnement, désinscrit, "
    "désinscrite, désinscription, ne pas contacter, descadastrado, descadastrada, descadastro, desinscrito, "
    "desinscrita, não contatar, não contactar, não perturbe, disiscritto, disiscritta, disiscrizione, non "
    "contattare, non disturbare, abgemeldet, abmeldung, abmeldedatum, abbestellt, ausgetragen, nicht "
    "kontaktieren, kein kontakt, kontaktsperre, kontaktverbot, werbesperre, keine werbung, werbewiderspruch, "
    "afgemeld, afmelding, uitgeschreven, uitschrijving, niet contacteren, niet benaderen, отписан, отписана, "
    "отписался, отписалась, отписка, отписки, не писать, не беспокоить, не контактировать, berhenti "
    "berlangganan, jangan hubungi, abonelikten çıktı, iletişime geçmeyin, wypisany, wypisana, nie "
    "kontaktować, avregistrerad, afmeldt, avmeldt, إلغاء الاشتراك, ألغى الاشتراك, لا تتصل, لا تراسل, "
    "अनसब्सक्राइब, 退订, 配信停止, 수신거부"
)
# What may stand beside them. Another channel may not: who wants no e-mail may want WhatsApp.
_BESIDE = (
    "e at on of from the is has was all any date time datetime timestamp since day status flag list me us "
    "whatsapp whats wa marketing messages message messaging promotions promotional advertising contact customer "
    "am um seit datum zeit zeitpunkt uhrzeit von werbung nachrichten kontakt kunde kundin "
    "fecha hora desde el la los las de del mensajes publicidad comercial contacto cliente "
    "le les du des depuis heure messages publicité commercial client "
    "data em do da dos das mensagens publicidade contato contacto "
    "il lo dal dalla messaggi pubblicità contatto ora "
    "op van sinds tijd berichten klant дата время от с рассылки сообщений "
    "tanggal pesan tarih tarihi mesaj data wypisu 日 日時"
)

_YES_CELLS = (
    "yes, y, true, t, 1, 1.0, x, on, out, stop, ja, j, oui, o, si, sí, s, sim, да, д, evet, ya, tak, wahr, "
    "vrai, vero, verdadero, verdadeiro, waar, हाँ, हां, نعم, 是, はい, 예, ✓, ✔, ✔️, ✅, ☑, checked"
)
_NO_CELLS = (
    "no, n, false, f, 0, 0.0, off, in, nein, non, não, nao, nee, нет, н, hayır, tidak, nie, falsch, faux, "
    "falso, onwaar, नहीं, لا, 否, いいえ, 아니요, ✗, ✘, ❌, ☐, -, –, —, /, null, none, "
    "nil, nan, n/a, never, opt-in, "
    "opt in, opted-in, opted in, optin, subscribed, active, aktiv, activo, actif, ativo, attivo, actief, "
    "alta, abonniert, angemeldet, abonné, inscrit, iscritto, inscrito, aangemeld, подписан"
)


def _folded(text: str) -> str:
    return " ".join(filter(None, map(fold, split_words(text))))


def _longest_first(listed: Iterable[str]) -> list[str]:
    return sorted({_folded(one) for one in listed}, key=len, reverse=True)


_YES, _NO = (frozenset(cell.strip() for cell in cells.split(", ")) for cells in (_YES_CELLS, _NO_CELLS))
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_SAID = re.compile(rf"(?<!\S)(?:{'|'.join(map(re.escape, _longest_first(_SAYING.split(','))))})(?!\S)")
_ALLOWED = frozenset(_folded(_BESIDE).split())


def says_opt_out(text: str) -> bool:
    """Whether a name, or a cell, says just that somebody wants no messages."""
    return any(_says(_folded(form)) for form in {text, _CAMEL.sub(" ", text)})


def opt_out_said(cell: str) -> bool | None:
    """Whether a cell of such a column says so; None where it says neither yes nor no."""
    said = " ".join(cell.casefold().split())
    if said in _NO:
        return False
    return True if said in _YES or says_opt_out(cell) else None


def _says(words: str) -> bool:
    if not 0 < len(words.split()) <= MAX_WORDS:
        return False
    rest, count = _SAID.subn(" ", words)
    return count > 0 and _ALLOWED.issuperset(rest.split())
