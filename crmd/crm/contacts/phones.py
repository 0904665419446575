"""Phone numbers in one form: E.164, such as +491701234567."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

MAX_CHARS = 64
"""Longer texts are not phone numbers, whatever they hold."""
# The apostrophe that spreadsheets put before what they shall not take for a number.
_AROUND = re.compile("^'|^tel:", re.I)
_BEGIN = re.compile(r"[+(0-9]")
_MEXICAN_MOBILE = re.compile(r"\+521([0-9]{10})")
"""As WhatsApp and old address books write it; since 2019 the 1 is not dialled any more."""


_ASKED = r"^\s*\+?[0-9]{4,20}\s*$"


def _asked(text: str) -> str:
    """E.164. A plus that was not percent-encoded arrives as a space, so it may be left out."""
    digits = text.strip().removeprefix("+")
    if not re.fullmatch(r"[0-9]{4,20}", digits):
        raise ValueError("is not a phone number; write it as E.164, such as 491701234567")
    return f"+{digits}"


Phone = Annotated[str, AfterValidator(_asked), WithJsonSchema({"type": "string", "pattern": _ASKED})]
"""A number in a query, as it is stored: who asks for one is no check of it."""


def normal_phone(text: str, region: str | None = None) -> str:
    """A phone number as people write it, as E.164. `region` is the country of numbers without one, such as "DE".

    A number with its country needs a length that this country has; one without must be in use there as well.
    Raises ValueError that says what is wrong.
    """
    import phonenumbers

    written = _AROUND.sub("", plain(text)).strip()
    if len(written) > MAX_CHARS or not _BEGIN.match(written):
        raise ValueError("is not a phone number")
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f'"{region}" is not a country; write it like "DE"')
    if written.startswith("00"):
        written = f"+{written[2:]}" if region is None else written
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException as error:
        raise ValueError(_explained(error.error_type, written, region)) from None
    if written[0] != "+":
        if not phonenumbers.is_valid_number(number):
            raise ValueError(f"is not a number in use in {region}")
        return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    found = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    if mexican := _MEXICAN_MOBILE.fullmatch(found):
        number = phonenumbers.parse(f"+52{mexican[1]}")
    fits = phonenumbers.is_possible_number_with_reason(number)
    if fits == phonenumbers.ValidationResult.IS_POSSIBLE_LOCAL_ONLY:
        raise ValueError("is too short for a phone number of its country: the area code is missing")
    if fits != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise ValueError("is too short or too long for a phone number of its country")
    return found


def check_region(region: str) -> None:
    """Raises ValueError where a text is not a country that phone numbers are from."""
    import phonenumbers

    if region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f'"{region}" is not a country code such as "DE"')


def plain(text: str) -> str:
    """The text with spaces, dashes, digits and wide signs of any script as in ASCII, without invisible marks."""
    if text.isascii():
        return text.strip()
    return "".join(map(_plain_letter, text[: 4 * MAX_CHARS])).strip()


def _plain_letter(letter: str) -> str:
    kind = unicodedata.category(letter)
    if kind == "Nd":
        return str(unicodedata.decimal(letter))
    if kind == "Cf":  # marks of direction and width come along when a number is copied
        return ""
    if kind == "Pd" or letter == "\N{MINUS SIGN}":
        return "-"
    return (
        " "
        if kind == "Zs"
        else unicodedata.normalize("NFKC", letter)
        if "\uff01" <= letter <= "\uff5e"
        else letter
    )


# Mobile numbers that differ by national rules and may be one person's, in E.164. An eight-digit number of Brazil
# that begins with 2 to 5 is a landline, and somebody else's.
_OTHER_FORMS = (
    (re.compile(r"\+55([1-9]\d)9([6-9]\d{7})"), r"+55\1\2"),
    (re.compile(r"\+55([1-9]\d)([6-9]\d{7})"), r"+55\g<1>9\2"),
    (re.compile(r"\+521(\d{10})"), r"+52\1"),
    (re.compile(r"\+52(\d{10})"), r"+521\1"),
    (re.compile(r"\+549(\d{10})"), r"+54\1"),
    (re.compile(r"\+54(\d{10})"), r"+549\1"),
)


def forms(phone: str) -> tuple[str, ...]:
    """A number in E.164, and the other form that may be the same person's: in Brazil, Mexico and Argentina."""
    if not phone.startswith("+5"):
        return (phone,)
    found = (pattern.fullmatch(phone) for pattern, _ in _OTHER_FORMS)
    others = [match.expand(other) for match, (_, other) in zip(found, _OTHER_FORMS, strict=True) if match]
    return (phone, *others)


def may_be_same(phone: str, other: str) -> bool:
    """Whether two numbers may be one person's, where WhatsApp says so: they begin alike, and one
    has at most a digit more.

    Without a plus WhatsApp may put another country's code before a number; then it speaks of a stranger.
    """
    return phone != other and phone[:3] == other[:3] and abs(len(phone) - len(other)) <= 1


def is_wa_id(text: str) -> bool:
    """Whether a WhatsApp id is a phone number: digits only, without a plus."""
    return text.isascii() and text.isdecimal() and 0 < len(text) <= 15


def masked(phone: str) -> str:
    """A number that its owner recognizes and nobody else: for errors and logs."""
    return f"{phone[:3]}…{phone[-4:]}"


def _explained(kind: int, written: str, region: str | None) -> str:
    from phonenumbers import NumberParseException

    if kind == NumberParseException.INVALID_COUNTRY_CODE:
        if region is None and written[0] != "+":
            return "has no country code; write it like +491701234567, or say which country such numbers are from"
        return "has a country code that does not exist"
    if kind == NumberParseException.NOT_A_NUMBER:
        return "is not a phone number"
    return "is too long for a phone number" if kind == NumberParseException.TOO_LONG else "is too short"
