"""Streams an uploaded file from a request, either the raw body or a part of a form."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.multipart import parse_content_disposition

from crmd.http.bodies import check_whole
from crmd.http.problems import HttpProblem

CHUNK_BYTES = 256 * 1024
"""Written to disk at once."""
SILENT_SECONDS = 30.0
"""How long a client may send nothing; the whole upload has no time limit."""
MAX_PARTS = 20
"""Parts of a form that are searched for the file."""

MALFORMED = (ValueError, AssertionError, HttpProcessingError)
"""What aiohttp raises for a malformed form or part header."""

_NO_MEDIA_TYPE = "application/x-www-form-urlencoded"  # what curl sends by default


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is being uploaded."""

    name: str | None
    media_type: str
    chunks: AsyncIterator[bytes]


async def read_upload(request: web.Request) -> Upload:
    """Finds the file in a request; its bytes are read as `chunks` is iterated. Raises HttpProblem 400 or 422."""
    if request.content_type.startswith("multipart/"):
        return await _from_form(request)
    kind = request.content_type
    name = _name_in(request.headers.get("Content-Disposition"))
    return Upload(name, "" if kind == _NO_MEDIA_TYPE else kind, _chunks(request, request.content.read))


async def _from_form(request: web.Request) -> Upload:
    try:
        reader = await request.multipart()
        for _ in range(MAX_PARTS):
            async with _patience():
                part = await reader.next()
            if part is None:
                break
            if isinstance(part, BodyPartReader) and part.filename is not None:
                kind = part.headers.get("Content-Type", "")
                return Upload(part.filename, kind, _chunks(request, part.read_chunk))
    except MALFORMED as error:
        raise _malformed(error) from None
    raise HttpProblem(422, "the form has no file: send a part with a filename")


async def _chunks(request: web.Request, read: Callable[[int], Awaitable[bytes]]) -> AsyncIterator[bytes]:
    while True:
        try:
            async with _patience():
                chunk = await read(CHUNK_BYTES)
            if not chunk:
                check_whole(request)
        except web.RequestPayloadError as error:
            raise HttpProblem(400, f"the body ended before it was whole: {error}") from None
        except MALFORMED as error:
            raise _malformed(error) from None
        if not chunk:
            return
        yield chunk


def _malformed(error: Exception) -> HttpProblem:
    said = getattr(error, "message", None) or str(error) or "it ends in the middle"
    return HttpProblem(
        400, f"the form cannot be read: {said.partition(chr(10))[0]}", headers={"Connection": "close"}
    )


def _patience() -> asyncio.Timeout:
    return asyncio.timeout(SILENT_SECONDS)


def _name_in(header: str | None) -> str | None:
    if header is None:
        return None
    _, parameters = parse_content_disposition(header)
    return parameters.get("filename*") or parameters.get("filename")
