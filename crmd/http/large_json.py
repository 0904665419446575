"""Parses a large JSON document in turn with other work, an array at its top level element by element."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from json import JSONDecodeError, JSONDecoder
from typing import Any

LARGE_BYTES = 256 * 1024
"""Less is parsed at once: it takes some milliseconds."""
SLICE_SECONDS = 0.005

_SPACE = re.compile(r"[ \t\n\r]*")


class TimeSlice:
    """Tells long work when to let others go on; `yield_to_others` waits until it may go on itself."""

    def __init__(self, yield_to_others: Callable[[], Awaitable[None]]) -> None:
        self._yield_to_others = yield_to_others
        self._until = time.monotonic() + SLICE_SECONDS

    @property
    def over(self) -> bool:
        """Whether SLICE_SECONDS have passed since it began."""
        return time.monotonic() >= self._until

    async def give_way(self) -> None:
        """Lets others go on, and begins the next slice."""
        await self._yield_to_others()
        self._until = time.monotonic() + SLICE_SECONDS


async def loads_in_slices(raw: bytes, decoder: JSONDecoder, time_slice: TimeSlice) -> Any:
    """The value of a JSON text, as `json.loads` has it. Raises ValueError, RecursionError."""
    text = raw.decode(json.detect_encoding(raw), "surrogatepass")
    at = _skip_space(text, 0)
    if not text.startswith("{", at):
        return decoder.decode(text)
    found: dict[str, Any] = {}
    at = _skip_space(text, at + 1)
    if text.startswith("}", at):
        return decoder.decode(text)
    while True:
        if not text.startswith('"', at):
            raise JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        name, at = decoder.raw_decode(text, at)
        at = _skip_space(text, at)
        if not text.startswith(":", at):
            raise JSONDecodeError("Expecting ':' delimiter", text, at)
        at = _skip_space(text, at + 1)
        if text.startswith("[", at):
            found[name], at = await _array(text, at + 1, decoder, time_slice)
        else:
            found[name], at = decoder.raw_decode(text, at)
        at, more = _next(text, at, "}")
        if not more:
            break
    if at != len(text):
        raise JSONDecodeError("Extra data", text, at)
    return found


async def _array(text: str, at: int, decoder: JSONDecoder, time_slice: TimeSlice) -> tuple[list[Any], int]:
    """The elements of an array that begins before an offset, and the offset of its end."""
    found: list[Any] = []
    at = _skip_space(text, at)
    more = not text.startswith("]", at)
    if not more:
        at += 1
    while more:
        value, at = decoder.raw_decode(text, at)
        found.append(value)
        at, more = _next(text, at, "]")
        if time_slice.over:
            await time_slice.give_way()
    return found, at


def _next(text: str, at: int, end: str) -> tuple[int, bool]:
    """Where the next member or element begins, or what follows the end; and whether there is one more."""
    at = _skip_space(text, at)
    more = text.startswith(",", at)
    if not more and not text.startswith(end, at):
        raise JSONDecodeError("Expecting ',' delimiter", text, at)
    return _skip_space(text, at + 1), more


def _skip_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
