"""The recording that `transcribe_audio` is about: an upload, or what a URL leads to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO

from crmd.crm.ai.payloads import TranscribeAudio
from crmd.crm.files.store import DEFAULT_MEDIA_TYPE, FileStore, plain_name
from crmd.crm.outbound.downloads import fetch
from crmd.errors import Permanent, UnknownFile
from crmd.jobs import JobContext

MAX_AUDIO_BYTES = 25 * 1024 * 1024
"""OpenAI takes no more."""
_DEFAULT_NAME = "audio.ogg"


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording, open for reading."""

    name: str
    """Its ending tells the service the format."""
    media_type: str
    file: IO[bytes]


@asynccontextmanager
async def recording(ctx: JobContext, payload: TranscribeAudio) -> AsyncIterator[Recording]:
    """The recording. Raises Permanent for one that is not there or too large, Retry where it may come."""
    if payload.file is not None:
        try:
            stored = await ctx.get(FileStore).get(payload.file)
        except UnknownFile as error:
            raise Permanent(str(error)) from None
        if stored.size_bytes > MAX_AUDIO_BYTES:
            raise Permanent(
                f"the recording has {stored.size_bytes:,} bytes; at most {MAX_AUDIO_BYTES:,} go", code="too_large"
            )
        with await asyncio.to_thread(stored.path.open, "rb") as file:
            yield Recording(payload.name or stored.name, stored.media_type, file)
        return
    with tempfile.TemporaryFile() as file:
        fetched = await fetch(ctx, payload.url or "", file, max_bytes=MAX_AUDIO_BYTES)
        file.seek(0)
        name = payload.name or (plain_name(fetched.name) if fetched.name else _DEFAULT_NAME)
        yield Recording(name, fetched.media_type or DEFAULT_MEDIA_TYPE, file)
