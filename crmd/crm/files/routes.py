"""Files over HTTP: uploads for imports and mail, results of exports and reports."""

from __future__ import annotations

import asyncio
import errno
import math
import os
from collections.abc import AsyncIterator
from typing import Any, BinaryIO
from urllib.parse import quote

from aiohttp import web
from pydantic import ConfigDict, Field

from crmd.crm.api import ApiParts
from crmd.crm.database.database import database_bounded
from crmd.crm.database.types import rfc3339
from crmd.crm.files.store import FileStore, NewFile, StoredFile
from crmd.errors import FileTooLarge, UploadQuotaReached
from crmd.http import schema
from crmd.http.auth import current_principal
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route, Success
from crmd.http.uploads import SILENT_SECONDS, read_upload

_ANSWERS = "crmd.crm.files.answers"

_BYTES = "application/octet-stream"
FORM_BYTES = 64 * 1024
"""The size of a form without its file."""
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class UploadQuery(schema.RequestBody):
    """The name of the file."""

    model_config = ConfigDict(extra="forbid", strict=False)

    name: str | None = Field(None, min_length=1, max_length=1000, description="Name for people, such as a.csv.")


def routes(parts: ApiParts) -> list[Route]:
    """The routes under `/api/v1/files`."""
    return FilesApi(parts.get(FileStore), parts.prefix).routes()


class FilesApi:
    """Answers under `/api/v1/files`. Ids cannot be guessed, so tokens limited to queues may use it too."""

    def __init__(self, files: FileStore, prefix: str) -> None:
        self._files = files
        self._prefix = prefix

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            Route(
                *("POST", "/api/v1/files", self.add, Access.ENQUEUE, "Uploads a file, as the body or in a form"),
                query=UploadQuery,
                answers={201: f"{_ANSWERS}:FileAnswer"},
                errors=(408, 413, 415, 422, 429, 503, 507),
                for_any_queue=True,
                any_body=True,
                streamed=True,
            ),
            Route(
                *(
                    "GET",
                    "/api/v1/files/{id}",
                    self.get,
                    Access.READ,
                    "A file's bytes, or a range of them",
                ),
                answers={
                    200: Success("The file.", media_type=_BYTES),
                    206: Success("The part that was asked for.", media_type=_BYTES),
                    304: Success("It has not changed."),
                },
                errors=(404, 412, 416, 503),
                for_any_queue=True,
            ),
        ]

    async def add(self, request: web.Request) -> web.Response:
        """Stores an upload, streamed to disk chunk by chunk."""
        asked = schema.query(request, UploadQuery)
        _check_announced(request, self._files.max_bytes)
        try:
            stored = await _receive(request, self._files, asked.name)
        except TimeoutError:
            detail = f"nothing of the body came for {SILENT_SECONDS:g} s"
            raise HttpProblem(408, detail, headers={"Connection": "close"}) from None
        except UploadQuotaReached as error:
            headers = {"Retry-After": str(math.ceil(error.seconds)), "Connection": "close"}
            raise HttpProblem(429, str(error), headers=headers) from None
        except OSError as error:
            if error.errno not in _DISK_FULL:
                raise
            raise HttpProblem(507, f"the disk of the files is full: {error.strerror}") from None
        location = {"Location": f"{self._prefix}/api/v1/files/{stored.id}"}
        return web.json_response(_json(stored), status=201, headers=location)

    async def get(self, request: web.Request) -> web.StreamResponse:
        """The file as an attachment: shown inline, an uploaded page could run scripts."""
        async with database_bounded():
            stored = await self._files.get(request.match_info["id"])
        _check_range(request, stored)
        headers = {"Content-Type": stored.media_type, "Content-Disposition": _attachment(stored.name)}
        return web.FileResponse(stored.path, headers=headers)


async def _receive(request: web.Request, files: FileStore, name: str | None) -> StoredFile:
    upload = await read_upload(request)
    name, owner = name or upload.name or "", current_principal().owner
    async with files.create(kind="upload", name=name, media_type=upload.media_type, owner=owner) as new:
        await _write(upload.chunks, files, new)
        if not new.size_bytes:
            raise HttpProblem(422, "the file is empty; there is nothing to keep")
    if new.stored is None:
        raise RuntimeError("a file that was kept has no row")
    return new.stored


async def _write(chunks: AsyncIterator[bytes], files: FileStore, new: NewFile) -> None:
    """Writes chunks to the file. Raises what `FileStore.grow` and `check_room` do."""
    file: BinaryIO = await asyncio.to_thread(new.path.open, "wb", 0)
    try:
        async for chunk in chunks:
            files.grow(new, len(chunk))
            await asyncio.to_thread(_write_all, files, file.fileno(), chunk)
    finally:
        file.close()


def _write_all(files: FileStore, descriptor: int, data: bytes) -> None:
    files.check_room(len(data))
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _check_announced(request: web.Request, max_bytes: int) -> None:
    if (request.content_length or 0) > max_bytes + FORM_BYTES:
        raise FileTooLarge(_too_large(max_bytes))


def _check_range(request: web.Request, stored: StoredFile) -> None:
    try:
        start = request.http_range.start or 0
    except ValueError:
        start = stored.size_bytes
    if start >= stored.size_bytes and "Range" in request.headers:
        raise HttpProblem(
            416,
            f"the file has {stored.size_bytes:,} bytes",
            headers={"Content-Range": f"bytes */{stored.size_bytes}"},
        )


def _attachment(name: str) -> str:
    """A Content-Disposition with both forms of RFC 6266: plain ASCII, and UTF-8."""
    plain = "".join(one if one.isascii() and one.isprintable() and one not in '"\\%' else "_" for one in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _too_large(max_bytes: int) -> str:
    return f"the file is over {max_bytes:,} bytes (files.max_bytes)"


def _json(file: StoredFile) -> dict[str, Any]:
    """A file, without its bytes."""
    return {
        "id": file.id,
        "name": file.name,
        "media_type": file.media_type,
        "size_bytes": file.size_bytes,
        "expires_at": rfc3339(file.expires_at),
    }
