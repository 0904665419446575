"""How values appear in messages: bad ones quoted and shortened, addresses without their credentials."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, time
from pathlib import PurePath
from urllib.parse import parse_qsl, urlencode, urlsplit

SHOWN_CHARACTERS = 60
"""How much of a bad value a message repeats."""

MASK = "***"


def show(value: object) -> str:
    """A bad value for a message, shortened, as TOML would write it."""
    match value:
        case bool():
            return "true" if value else "false"
        case PurePath():
            return show(str(value))
        case str():
            cut = value if len(value) <= SHOWN_CHARACTERS else value[:SHOWN_CHARACTERS] + "…"
            return json.dumps(cut, ensure_ascii=not is_clean(cut))
        case int() | float():
            return str(value)
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case date() | time():
            return "a date or time"
        case _:
            return f"a {type(value).__name__}"


def is_clean(text: str) -> bool:
    """Whether text has no control characters and can be written as UTF-8."""
    return not re.search("[\x00-\x1f\x7f\ud800-\udfff]", text)


def mask_url(url: str) -> str:
    """A URL with its password masked, safe to show and to log.

    A user without a password is masked too: people put the password there.
    """
    if not url:
        return ""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    # A raw "/", "?" or "#" in a password ends the network part early and leaves an "@" behind it.
    if not parts.scheme or "@" in parts.path + parts.query or parts.fragment:
        return MASK
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    credentials = f"{name}:{MASK}@" if colon else f"{MASK}{at}" if at else ""
    options = [(key, MASK if _is_secret(key) else value) for key, value in parse_qsl(parts.query)]
    query = f"?{urlencode(options, safe='*/')}" if options else ""
    return f"{parts.scheme}://{credentials}{place}{parts.path}{query}"


def _is_secret(option: str) -> bool:
    return option.lower() in ("password", "username", "user", "pass", "token")
