"""Reads what goes with a mail: uploaded files, files of the state folder, files by URL."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from crmd.crm.email.attachment_folder import AttachmentFolder
from crmd.crm.email.message import Attached, media_type_of
from crmd.crm.files.store import FileStore, plain_name
from crmd.crm.outbound.downloads import fetch
from crmd.errors import Permanent, UnknownFile
from crmd.jobs import JobContext

if TYPE_CHECKING:
    from crmd.crm.email.payloads import Attachment

MAX_TOTAL_BYTES = 18 * 1024 * 1024
"""Of all attachments of a mail: a third comes on top as they are encoded, and most servers take 25 MB."""


async def read_attachments(ctx: JobContext, wanted: Sequence[Attachment]) -> list[Attached]:
    """The files in memory. Raises Permanent for one that is not there or too large, Retry where one may come."""
    files: list[Attached] = []
    room = MAX_TOTAL_BYTES
    for attachment in wanted:
        file = await _read(ctx, attachment, room)
        room -= len(file.data)
        files.append(file)
    return files


async def _read(ctx: JobContext, attachment: Attachment, room: int) -> Attached:
    if attachment.path is not None:
        name, said = Path(attachment.path).name, ""
        data = await _from_folder(ctx, attachment.path, room)
    elif attachment.file is not None:
        name, said, data = await _uploaded(ctx, attachment.file, room)
    else:
        into = BytesIO()
        fetched = await fetch(ctx, attachment.url or "", into, max_bytes=room)
        name, said, data = plain_name(fetched.name), fetched.media_type, into.getvalue()
    name = attachment.name or name
    return Attached(name, attachment.media_type or media_type_of(name, said), data)


async def _from_folder(ctx: JobContext, path: str, room: int) -> bytes:
    try:
        return await asyncio.to_thread(ctx.get(AttachmentFolder).read, path, room)
    except ValueError as error:
        raise Permanent(f"attachment: {error}") from None


async def _uploaded(ctx: JobContext, file_id: str, room: int) -> tuple[str, str, bytes]:
    try:
        stored = await ctx.get(FileStore).get(file_id)
    except UnknownFile as error:
        raise Permanent(f"attachment: {error}") from None
    if stored.size_bytes > room:
        raise Permanent(
            f"attachment {file_id} has {stored.size_bytes:,} bytes; there is room for {room:,}", code="too_large"
        )
    try:
        return stored.name, stored.media_type, await asyncio.to_thread(stored.path.read_bytes)
    except FileNotFoundError:
        raise Permanent(f"attachment: the file {file_id} is gone") from None
