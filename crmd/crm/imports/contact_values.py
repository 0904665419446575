"""Single values of contacts in files: read, bounded, or rejected with a reason."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import orjson

from crmd.crm.contacts.phones import forms, normal_phone, plain
from crmd.crm.contacts.repository import MAX_EMAIL, MAX_NAME, MAX_TAG, check_attribute_name
from crmd.crm.imports.opt_names import opt_out_said
from crmd.crm.imports.payloads import MAX_TAGS
from crmd.crm.tabular.rows import MAX_CELL_CHARS

MAX_VALUE_CHARS = 4_096
"""Of an attribute."""
MAX_PARTS = 20
"""Of a cell with several phone numbers."""
MIN_PHONE_DIGITS = 7
"""A shorter number is one within a network, and takes no messages."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_UNDECODED = re.compile("[\ud800-\udfff\ufffd]")
_ROUNDED = re.compile(r"[0-9]+([.,][0-9]+)?E\+?[0-9]+", re.I | re.ASCII)
_DECIMAL = re.compile(r"(\+?[0-9]{8,})\.([0-9]{1,2})", re.ASCII)
"""What data frames make of a column of numbers that has a gap: 491701234567.0."""
_SEVERAL = re.compile(r"[0-9]\s*[;,|\n]\s*[+(0-9]")
_EMAIL = re.compile(r"[^@\s,;<>()\[\]\"\\]+@(?:[^\W_](?:[\w-]*[^\W_])?\.)+[^\W_](?:[\w-]*[^\W_])?")
_NEVER = re.compile(r"0+([-/.:T ]+0+)+Z?")
"""How databases write that there is no time: 0000-00-00 00:00:00."""
_DATE = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:,?[T ]+(\d{1,2}):(\d{2})(?::(\d{2}))?)?", re.ASCII)
_LINK = re.compile(r"\w+://|www\.|mailto:", re.I)
TAG_SEPARATOR = re.compile(r"[,;|\n]")
PARTS = ":::"
"""What Google Contacts puts between several values of one kind."""


def clean(text: str) -> str:
    """A cell's text without spaces around it; raises ValueError for what no contact has."""
    if len(text) > MAX_CELL_CHARS:
        raise ValueError(f"has {len(text):,} characters; a cell has at most {MAX_CELL_CHARS:,}")
    if not (text.isascii() and text.isprintable()):
        if _UNDECODED.search(text):
            raise ValueError("has bytes that are not of the file's encoding, or lost letters in a conversion")
        if _CONTROL.search(text):
            raise ValueError("has control characters")
    return text.strip()


def phones(value: Any, region: str | None) -> list[str]:
    """The valid ones of the phone numbers of a cell, in E.164, mobile ones first; raises ValueError for none."""
    if not isinstance(value, str) or PARTS not in value:
        return [phone(value, region)]
    parts = value.split(PARTS)
    found: list[str] = []
    reason: ValueError | None = None
    for part in parts[:MAX_PARTS]:
        try:
            found.append(phone(part.strip(), region))
        except ValueError as error:
            reason = reason or error
    if not found:
        raise reason or ValueError("is not a phone number")
    return sorted(found, key=lambda one: not is_mobile(one)) if len(found) > 1 else found


def phone(value: Any, region: str | None) -> str:
    """E.164; raises ValueError."""
    if isinstance(value, bool | float) or not isinstance(value, str | int):
        raise ValueError("is not a phone number")
    text = plain(str(value))
    if _ROUNDED.fullmatch(text):
        raise ValueError("was rounded by a spreadsheet; format the column as text and enter it again")
    if _SEVERAL.search(text):
        raise ValueError("holds several numbers; keep one")
    if decimal := _DECIMAL.fullmatch(text):
        if int(decimal[2]):
            raise ValueError("is a number with a fraction; format the column as text and enter it again")
        text = decimal[1]
    if region is not None and text.isascii() and text.isdigit() and text[0] != "0":
        found = _without_plus(text, region)
    else:
        found = normal_phone(text, region)
    if len(found) <= MIN_PHONE_DIGITS:
        raise ValueError("is too short for a phone number")
    return found


def name(value: Any) -> str:
    """A name; raises ValueError."""
    text = _text(value)
    if len(text) > MAX_NAME:
        raise ValueError(f"has {len(text):,} characters; a name has at most {MAX_NAME}")
    return text


def email(value: Any) -> str:
    """An email address; raises ValueError."""
    text = _text(value)
    text = text.split(PARTS)[0].strip() if PARTS in text else text
    text = text[7:] if text[:7].lower() == "mailto:" else text
    if len(text) > MAX_EMAIL or not _EMAIL.fullmatch(text):
        raise ValueError("is not an e-mail address")
    return text


def tags(value: Any) -> list[str]:
    """Tags from a list, a JSON list, or a text with commas, semicolons, bars or line ends; raises ValueError."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = orjson.loads(value)
        except ValueError:
            raise ValueError("begins like a JSON list and is none") from None
    if isinstance(value, str) and PARTS in value:  # Google marks its own groups with an asterisk
        value = [part.strip().removeprefix("* ") for part in value.split(PARTS)]
    parts = TAG_SEPARATOR.split(_text(value)) if not isinstance(value, list) else [_text(part) for part in value]
    found = list(dict.fromkeys(stripped for part in parts if (stripped := part.strip())))
    if len(found) > MAX_TAGS:
        raise ValueError(f"holds {len(found)} tags; at most {MAX_TAGS} are taken")
    if any(len(tag) > MAX_TAG for tag in found):
        raise ValueError(f"holds a tag of more than {MAX_TAG} characters")
    return found


class Link(ValueError):
    """A cell that holds a link where it should say whether somebody wants messages."""


def opted_out_at(value: Any, now: datetime) -> datetime | None:
    """Since when a contact wants no messages: a time, or `now` for a yes. Raises ValueError, such as Link."""
    text = str(value).strip()
    said = opt_out_said(text)
    if said is False or _NEVER.fullmatch(text):
        return None
    if said:
        return now
    if _LINK.match(text):
        raise Link("is a link, not a word on whether the person wants messages; ignore the column")
    try:
        at = _instant(text)
    except ValueError:
        raise ValueError("is neither yes, no nor a time such as 2026-01-31T12:00:00Z") from None
    return min(now, at if at.tzinfo else at.replace(tzinfo=UTC))


def _instant(text: str) -> datetime:
    """A date, with or without a time; the later one where day and month may be either. Raises ValueError."""
    found = _DATE.fullmatch(text)
    if found is None:
        return datetime.fromisoformat(re.sub(r" (?=[+-]\d\d:?\d\d$)", "", text.removesuffix(" UTC")))
    first, second, year, hour, minute, sec = (int(found[group] or 0) for group in (1, 3, 4, 5, 6, 7))
    readings = [(second, first)] if found[2] == "." else [(second, first), (first, second)]
    return max(datetime(year, month, day, hour, minute, sec) for month, day in readings if month <= 12)


def attribute(value: Any) -> Any:
    """An attribute's value; raises ValueError for one that is too long."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > MAX_VALUE_CHARS:
        raise ValueError(f"has {len(text):,} characters; an attribute has at most {MAX_VALUE_CHARS:,}")
    return value


def attributes(value: Any) -> dict[str, Any]:
    """Attributes from an object, or a JSON object in a text; raises ValueError."""
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except ValueError:
            raise ValueError("is not a JSON object") from None
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    for key, item in value.items():
        check_attribute_name(key)
        attribute(item)
    return value


def is_mobile(number: str) -> bool:
    """Whether a number in E.164 is a mobile one, where its country tells."""
    import phonenumbers

    return phonenumbers.number_type(phonenumbers.parse(number)) == phonenumbers.PhoneNumberType.MOBILE


def _without_plus(digits: str, region: str) -> str:
    """A number that a spreadsheet, or WhatsApp itself, wrote without its plus.

    491701234567 could be a line in Leer, where the area code is 491. A mobile number is what is meant.
    """
    import phonenumbers

    if 8 <= len(digits) <= 15 and digits.startswith(str(phonenumbers.country_code_for_region(region))):
        mobile = (phonenumbers.PhoneNumberType.MOBILE, phonenumbers.PhoneNumberType.FIXED_LINE_OR_MOBILE)
        numbers = map(phonenumbers.parse, forms(f"+{digits}"))
        if any(phonenumbers.number_type(number) in mobile for number in numbers):
            return normal_phone(f"+{digits}")
    return normal_phone(digits, region)


def _text(value: Any) -> str:
    if isinstance(value, list | dict):
        raise ValueError("is a list or an object where a text belongs")
    return value if isinstance(value, str) else str(value)
