"""JSON that comes back as it went in: orjson for speed, the standard library where orjson would alter a value."""

from __future__ import annotations

import json
from typing import Any

import orjson

# orjson reads integers beyond 64 bits as floats, and writes NaN and infinities as null. Nineteen digits in a row
# may be such an integer; translating and searching takes a sixth of a regular expression's time.
_DIGITS_TO_ZERO = bytes(ord("0") if 48 <= byte <= 57 else byte for byte in range(256))
_LONG_NUMBER = b"0" * 19


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
    if _LONG_NUMBER in raw.translate(_DIGITS_TO_ZERO):
        return json.loads(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:  # also for the escape of a lone surrogate
        return json.loads(raw)
