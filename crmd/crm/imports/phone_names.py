"""Which columns hold phone numbers, by the words in their names in any order: `Teléfono WhatsApp`, `Handy-Nr.`."""

from __future__ import annotations

import unicodedata

# Words are folded, see `fold`.
_WHATSAPP = "whatsapp whats wapp wa واتساب וואטסאפ व्हाट्सएप ватсап вотсап ワッツアップ"
_MOBILE = (
    "mobile mobil mobiel mobilni mobilny mobilná mobilen movil móvil celular cel cell "
    "cellular cellulare cellphone cellulari handy natel gsm portable telemovel telemóvel "
    "komorka komórka komórkowy komórkowa matkapuhelin kännykkä cep ponsel hp seluler "
    "mobilnummer mobiltelefon mobilephone smartphone handynummer mobilfunk "
    "mobilfunknummer κινητό мобильный мобільний мобилен сотовый جوال الجوال موبايل محمول "
    "נייד סלולרי मोबाइल มือถือ 手机 手机号 手机号码 手機 手機號碼 携帯 携帯電話 携帯番号 휴대폰 휴대전화 핸드폰 "
)
_PHONE = (
    "phone phonenumber telephone tel tlf tlfn tfno telef telf fon telefon telefone "
    "telefono teléfono telefoon telefoonnummer téléphone telefonnummer rufnummer "
    "telefonní telefonszám telefonu puhelin puhelinnumero telepon τηλέφωνο телефон هاتف "
    "الهاتف تليفون טלפון फ़ोन फोन โทรศัพท์ điện thoại 电话 电话号码 電話 電話番号 電話號碼 전화 전화번호 msisdn "
    "e164 "
)
# What may stand beside them and says nothing else.
_BESIDE = (
    "number no nr num n nº n° nummer numero número numéro numer numarası numarasi číslo "
    "cislo szám broj номер رقم מספר नंबर nomor số so 番号 号码 號碼 번호 the your my of de di do "
    "da du del della dello des der la le il el o um your mi mio meu mon votre contact "
    "contacto contatto contato kontakt contacts primary principal principale main haupt "
    "hauptnummer private privat personal personnel personale persönlich customer client "
    "cliente kunde kunden klant international full and y e et und oder or ou plus "
)
_ELSEWHERE = (
    "home work office business festnetz fijo fixe fisso fixo casa lavoro trabajo trabalho "
    "bureau büro domicile privado "
)


def fold(name: str) -> str:
    """A text without case, accents, spaces and punctuation: `E-Mail` and `email` are one."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(letter for letter in plain if letter.isalnum())


def _words(text: str) -> frozenset[str]:
    return frozenset(fold(word) for word in text.split())


_KINDS = tuple(map(_words, (_WHATSAPP, _MOBILE, _PHONE, _ELSEWHERE)))
_ALLOWED = frozenset().union(*_KINDS, _words(_BESIDE))
MAX_WORDS = 8


def phone_kind(name: str) -> int | None:
    """How well a column of that name suits: 0 WhatsApp, 1 mobile, 2 any phone, 3 at home or work; None: not."""
    words = [folded for word in split_words(name) if (folded := fold(word)) and not folded.isdecimal()]
    if not 0 < len(words) <= MAX_WORDS or not _ALLOWED.issuperset(words):
        return None
    kinds = [kind for kind, known in enumerate(_KINDS) if not known.isdisjoint(words)]
    if not kinds or kinds == [3]:
        return None
    return 3 if 3 in kinds and kinds[0] == 2 else kinds[0]


def is_mobile(label: str) -> bool:
    """Whether a label such as `Mobile` or `Handy` says that a number is a mobile one."""
    words = {fold(word) for word in split_words(label)}
    return not words.isdisjoint(_KINDS[0] | _KINDS[1])


def split_words(text: str) -> list[str]:
    """The words of a name."""
    # Marks that belong to letters are not between words, as `\W` would have it.
    return "".join(
        letter if letter.isalnum() or unicodedata.category(letter)[0] == "M" else " " for letter in text
    ).split()
