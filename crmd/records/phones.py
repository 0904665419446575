"""Phone numbers in one form: E.164, such as +491701234567."""

from __future__ import annotations

import re

MAX_CHARS = 64
"""Longer texts are no phone numbers, whatever they hold."""
# Marks of direction and width that come along when a number is copied, and the apostrophe that spreadsheets put
# before what they shall not take for a number.
_AROUND = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]|^'|^tel:", re.I)
_BEGIN = re.compile(r"[+＋(\d]")  # noqa: RUF001 - East Asian keyboards write that one - people's keyboards have the wide one too


def normal_phone(text: str, region: str | None = None) -> str:
    """A phone number as people write it, as E.164. `region` is the country of numbers without one, such as "DE".

    A number with its country needs a length that this country has; one without must be in use there as well.
    Raises ValueError that says what is wrong.
    """
    import phonenumbers

    written = _AROUND.sub("", text.strip()).strip()
    if len(written) > MAX_CHARS or not _BEGIN.match(written):
        raise ValueError("is no phone number")
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise ValueError(f'"{region}" is no country; write it like "DE"')
    if written.startswith("00"):
        written = f"+{written[2:]}" if region is None else written
    try:
        number = phonenumbers.parse(written, region)
    except phonenumbers.NumberParseException as error:
        raise ValueError(_explained(error.error_type, written, region)) from None
    if written[0] not in "+＋":  # noqa: RUF001 - East Asian keyboards write that one
        if not phonenumbers.is_valid_number(number):
            raise ValueError(f"is no number in use in {region}")
    elif not phonenumbers.is_possible_number(number):
        raise ValueError("is too short or too long for a phone number of its country")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def masked(phone: str) -> str:
    """A number that its owner recognizes and nobody else: for errors and logs."""
    return f"{phone[:3]}…{phone[-4:]}"


def _explained(kind: int, written: str, region: str | None) -> str:
    from phonenumbers import NumberParseException

    if kind == NumberParseException.INVALID_COUNTRY_CODE:
        if region is None and written[0] not in "+＋":  # noqa: RUF001 - East Asian keyboards write that one
            return "has no country code; write it like +491701234567, or say which country such numbers are from"
        return "has a country code that does not exist"
    if kind == NumberParseException.NOT_A_NUMBER:
        return "is no phone number"
    return "is too long for a phone number" if kind == NumberParseException.TOO_LONG else "is too short"
