"""Uploads, exports and reports: rows in the records, bytes in a folder under names that nobody chose."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import delete, select

from crmd.errors import ConfigError, FileTooLarge, Problem, RecordsError, UnknownFile
from crmd.records.database import Records
from crmd.records.tables import File
from crmd.records.types import storable, utc_now

Kind = Literal["upload", "export", "report"]

FOLDER = "files"
"""In the state folder, where none is configured."""
SWEEP_EVERY_S = 600.0
SWEEP_BATCH = 500
ABANDONED_AFTER_S = 86_400.0
"""What no row knows stays so long: it may be on its way to one, in this daemon or in another."""
MAX_NAME_CHARS = 200
DEFAULT_MEDIA_TYPE = "application/octet-stream"

_ID = re.compile(r"[0-9a-f]{32}")
_ON_DISK = re.compile(r"[0-9a-f]{32}(\.part)?")
_MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that is whole."""

    id: str
    """Random, not to be guessed."""
    kind: str
    """upload, export or report."""
    name: str
    """What a person calls it; never a path."""
    media_type: str
    size_bytes: int
    path: Path
    expires_at: datetime


@dataclass(slots=True)
class NewFile:
    """A file that is being written. `stored` is set once it is whole."""

    id: str
    path: Path
    """Where to write; beside the place where it will be."""
    stored: StoredFile | None = None


class FileStore:
    """The folder of files. Daemons that share a database share this folder too, else each finds its own only."""

    def __init__(self, records: Records, folder: Path, max_bytes: int, keep_seconds: float) -> None:
        self._records = records
        self.folder = folder
        self.configure(max_bytes, keep_seconds)
        self._sweeper: asyncio.Task[None] | None = None

    def configure(self, max_bytes: int, keep_seconds: float) -> None:
        """Takes another limit of uploads and another time to keep into force, for files that come from now on."""
        self.max_bytes = max_bytes
        self.keep_seconds = keep_seconds

    async def start(self) -> None:
        """Makes the folder and begins to remove what has expired. Fine twice. Raises ConfigError."""
        if self._sweeper is not None:
            return
        try:
            await asyncio.to_thread(self.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot be made: {error.strerror}"
            raise ConfigError([Problem(str(self.folder), "files.folder", reason)]) from None
        self._sweeper = asyncio.create_task(self._sweep(), name="remove expired files")

    async def stop(self) -> None:
        """Ends the sweeping. Fine twice, or before start."""
        sweeper, self._sweeper = self._sweeper, None
        if sweeper:
            sweeper.cancel()
            await asyncio.wait([sweeper])

    @asynccontextmanager
    async def create(self, *, kind: Kind, name: str, media_type: str) -> AsyncIterator[NewFile]:
        """A file to write. It is kept when the block ends, all of it, and removed when the block raises.

        Raises OSError for a disk that is full, FileTooLarge for an upload over the limit, RecordsUnavailable.
        """
        number = secrets.token_hex(16)
        new = NewFile(number, self._path(number).with_suffix(".part"))
        await asyncio.to_thread(_touch, new.path)
        try:
            yield new
            size_bytes = await asyncio.to_thread(_sync, new.path)
            if kind == "upload" and size_bytes > self.max_bytes:
                raise FileTooLarge(f"the file is over {self.max_bytes:,} bytes (files.max_bytes)")
            await asyncio.to_thread(_put_in_place, new.path, self._path(number))
            new.stored = await self._write_row(number, kind, name, media_type, size_bytes)
        except BaseException:
            _remove(new.path, self._path(number))
            raise

    async def get(self, file_id: str) -> StoredFile:
        """A file that is there and has not expired; raises UnknownFile and RecordsUnavailable."""
        row = None
        if _ID.fullmatch(file_id):
            async with self._records.reading() as session:
                row = await session.get(File, file_id)
        if row is None or row.expires_at <= utc_now():
            raise UnknownFile(f"there is no file {file_id[:64]!r}, or it has expired")
        if not await asyncio.to_thread(self._path(file_id).is_file):
            raise UnknownFile(
                f"file {file_id} is not in {self.folder}; daemons that share a database share files.folder too"
            )
        return self._stored(row)

    async def remove_expired(self) -> int:
        """Removes files that have expired or were abandoned; returns how many."""
        return await self._remove_rows() + await self._remove_abandoned()

    def _path(self, number: str) -> Path:
        return self.folder / number

    def _stored(self, row: File) -> StoredFile:
        return StoredFile(
            row.id, row.kind, row.name, row.media_type, row.size_bytes, self._path(row.id), row.expires_at
        )

    async def _write_row(self, number: str, kind: str, name: str, media_type: str, size_bytes: int) -> StoredFile:
        row = File(
            id=number,
            kind=kind,
            name=plain_name(name),
            media_type=plain_media_type(media_type),
            size_bytes=size_bytes,
            expires_at=utc_now() + timedelta(seconds=self.keep_seconds),
        )
        async with self._records.transaction() as session:
            session.add(row)
        return self._stored(row)

    async def _remove_rows(self) -> int:
        expired = select(File.id).where(File.expires_at <= utc_now()).order_by(File.expires_at).limit(SWEEP_BATCH)
        async with self._records.reading() as session:
            numbers = list(await session.scalars(expired))
        if not numbers:
            return 0
        # The bytes first: a row without them is looked at again, bytes without a row only after a day.
        await asyncio.to_thread(_remove, *(self._path(number) for number in numbers))
        async with self._records.transaction() as session:
            await session.execute(delete(File).where(File.id.in_(numbers)))
        return len(numbers)

    async def _remove_abandoned(self) -> int:
        """Removes what daemons left that died while they wrote, and what no row knows any more."""
        old = await asyncio.to_thread(_old_names, self.folder, time.time() - ABANDONED_AFTER_S)
        removed = 0
        for begin in range(0, len(old), SWEEP_BATCH):
            batch = old[begin : begin + SWEEP_BATCH]
            async with self._records.reading() as session:
                known = set(await session.scalars(select(File.id).where(File.id.in_(batch))))
            gone = [self._path(name) for name in batch if name not in known]
            await asyncio.to_thread(_remove, *gone)
            removed += len(gone)
        return removed

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                removed = await self.remove_expired()
            except (RecordsError, OSError) as error:
                _log.warning("expired files are not removed now: %s", error)
                continue
            if removed:
                _log.info("%d expired files removed", removed)


def plain_name(name: str) -> str:
    """A file's name without folders, control characters and what turns the direction of writing."""
    last = re.split(r"[/\\]", _UNSHOWN.sub("", storable(name)))[-1].strip().strip(".")
    return last[-MAX_NAME_CHARS:] or "file"


def plain_media_type(media_type: str) -> str:
    """The media type without parameters; what is none becomes that of unknown bytes."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence if _MEDIA_TYPE.fullmatch(essence) else DEFAULT_MEDIA_TYPE


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _sync(path: Path) -> int:
    """Writes the file through to the disk; returns its size in bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _put_in_place(path: Path, final: Path) -> None:
    path.replace(final)
    final.chmod(0o600)  # a library may have made the file anew
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _remove(*paths: Path) -> None:
    for path in paths:
        with suppress(OSError):  # what cannot be removed now is removed by a sweep, or by a person
            path.unlink()


def _old_names(folder: Path, before: float) -> list[str]:
    """Names of files of ours that were last written before a time in epoch seconds."""
    with os.scandir(folder) as entries:
        return [
            entry.name
            for entry in entries
            if _ON_DISK.fullmatch(entry.name) and entry.stat(follow_symlinks=False).st_mtime < before
        ]
