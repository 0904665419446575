"""JSON that comes back as it went in: orjson for speed, the standard library where orjson would alter a value."""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# orjson reads integers beyond 64 bits as floats, and writes NaN and infinities as null.
_LONG_NUMBER = re.compile(rb"\d{19}")


def dumps(value: Any) -> bytes:
    """The value as JSON; raises TypeError or ValueError where it has none (NaN, infinities, sets, …)."""
    try:
        raw = orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate, a key that is no string
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    if b"null" in raw:
        json.dumps(value, allow_nan=False, default=str)
    return raw


def loads(raw: bytes) -> Any:
    """The value of a JSON text; raises ValueError where it is none."""
    if _LONG_NUMBER.search(raw):
        return json.loads(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:  # also for the escape of a lone surrogate
        return json.loads(raw)
