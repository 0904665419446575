"""Reads a request's body whole, and parses a large one in turn with other work."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from json import JSONDecodeError, JSONDecoder
from typing import Any

from aiohttp import web

from crmd.http.connections import Connections
from crmd.http.problems import HttpProblem

CONNECTIONS = web.AppKey("connections", Connections)
"""Of the server: they take pieces of large bodies in turn."""
BODY_SECONDS = 30.0
"""How long a client may take to send its body."""
PIECE_BYTES = 64 * 1024
"""Bodies are gathered in pieces: hundreds that grow in place at once leave the heap full of holes."""


async def read_body(request: web.Request, max_bytes: int, too_large: str) -> bytes:
    """The body, which the request does not keep. Raises HttpProblem 408, or 413 with what `too_large` says."""
    refused = HttpProblem(413, too_large, headers={"Connection": "close"})
    if (request.content_length or 0) > max_bytes:
        raise refused
    pieces: list[bytes] = []
    size, last = 0, bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while chunk := await request.content.readany():
                size += len(chunk)
                if size > max_bytes:
                    raise refused
                last += chunk
                if len(last) >= PIECE_BYTES:
                    pieces.append(bytes(last))
                    last = bytearray()
                if not request.content.is_eof():
                    await request.app[CONNECTIONS].next_piece(request)
            check_whole(request)
    except TimeoutError:
        detail = f"the body did not come within {BODY_SECONDS:g} s"
        raise HttpProblem(408, detail, headers={"Connection": "close"}) from None
    return b"".join((*pieces, last))


def check_whole(request: web.Request) -> None:
    """Raises what cut the body off: a read that had just been given data sees only its end."""
    if error := request.content.exception():
        raise error


def body_time_slice(request: web.Request) -> TimeSlice:
    """For work on a large body, which takes turns with the other large bodies."""
    return TimeSlice(partial(request.app[CONNECTIONS].next_piece, request))


# Parses a large JSON document in turn with other work, an array at its top level element by element


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
