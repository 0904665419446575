"""How a bad value appears in a message."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, time

SHOWN_CHARACTERS = 60
"""How much of a bad value a message repeats."""


def show(value: object) -> str:
    """A bad value for a message, shortened, as TOML would write it."""
    match value:
        case bool():
            return "true" if value else "false"
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
