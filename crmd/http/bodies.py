"""Reads a request's body whole."""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from crmd.http.connections import Connections
from crmd.http.large_json import TimeSlice
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
