"""Uploads, exports and reports: rows in the database, bytes in a folder under generated names."""

from __future__ import annotations

import asyncio
import errno
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

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.component import BackgroundTask
from crmd.crm.database.database import Database
from crmd.crm.database.types import storable, utc_now
from crmd.crm.files.tables import File
from crmd.errors import ConfigError, FileTooLarge, Problem, RecordsError, UnknownFile, UploadQuotaReached

Kind = Literal["upload", "export", "report"]

FOLDER = "files"
"""In the state folder, where none is configured."""
SWEEP_EVERY_S = 600.0
SWEEP_BATCH = 500
ABANDONED_AFTER_S = 86_400.0
"""What no row knows stays this long: it may be on its way to one, in this daemon or in another."""
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


@dataclass(frozen=True, slots=True)
class FileLimits:
    """How many uploads may be kept, and how many bytes of the disk they may take."""

    max_bytes: int
    """Of one upload."""
    quota_files: int = 10_000
    """Uploads kept for one owner."""
    quota_bytes: int = 10 * 1024**3
    """Of them."""
    keep_free: int = 0
    """Bytes left free on the disk: the store's append-only file may be on it."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The uploads that are kept for one owner."""

    files: int = 0
    bytes: int = 0
    first_expires_at: datetime | None = None


@dataclass(slots=True)
class NewFile:
    """A file that is being written. `stored` is set once it is whole."""

    id: str
    path: Path
    """Where to write; beside the place where it will be."""
    owner: str | None = None
    stored: StoredFile | None = None
    size_bytes: int = 0
    """So far, as `FileStore.grow` was told."""
    kept: Kept = Kept()
    """What its owner had when it began."""


@dataclass(slots=True)
class _Coming:
    """What one owner uploads to this daemon right now."""

    files: int = 0
    bytes: int = 0


class FileStore(BackgroundTask):
    """The folder of files. Daemons that share a database share this folder too, else each finds its own only."""

    def __init__(self, database: Database, folder: Path, limits: FileLimits | int, keep_seconds: float) -> None:
        """`limits` may be the largest upload alone."""
        super().__init__("remove expired files")
        self._database = database
        self.folder = folder
        self.configure(FileLimits(limits) if isinstance(limits, int) else limits, keep_seconds)
        self._coming: dict[str, _Coming] = {}

    def configure(self, limits: FileLimits, keep_seconds: float) -> None:
        """Sets other limits and another time to keep, for files that come from now on."""
        self.limits = limits
        self.keep_seconds = keep_seconds

    @property
    def max_bytes(self) -> int:
        """The most bytes that one upload may have."""
        return self.limits.max_bytes

    async def start(self) -> None:
        """Makes the folder and begins to remove what has expired; idempotent. Raises ConfigError."""
        try:
            await asyncio.to_thread(self.folder.mkdir, mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            reason = f"cannot be made: {error.strerror}"
            raise ConfigError([Problem(str(self.folder), "files.folder", reason)]) from None
        await super().start()

    @asynccontextmanager
    async def create(
        self, *, kind: Kind, name: str, media_type: str, owner: str | None = None
    ) -> AsyncIterator[NewFile]:
        """A file to write. It is kept when the block ends, all of it, and removed when the block raises.

        Raises OSError for a disk that is full, FileTooLarge for an upload over the limit, UploadQuotaReached where
        the owner keeps too much, RecordsUnavailable.
        """
        number = secrets.token_hex(16)
        new = NewFile(number, self._path(number).with_suffix(".part"), owner)
        await asyncio.to_thread(self.check_room)
        try:
            await self._arrive(new)
            await asyncio.to_thread(_touch, new.path)
            yield new
            size_bytes = await asyncio.to_thread(_sync, new.path)
            if kind == "upload" and size_bytes > self.max_bytes:
                raise FileTooLarge(f"the file is over {self.max_bytes:,} bytes (files.max_bytes)")
            await asyncio.to_thread(_put_in_place, new.path, self._path(number))
            new.stored = await self._write_row(new, kind, name, media_type, size_bytes)
        except BaseException:
            _remove(new.path, self._path(number))
            raise
        finally:
            self._leave(new)

    def grow(self, new: NewFile, size_bytes: int) -> None:
        """So many more bytes come. Raises FileTooLarge, UploadQuotaReached."""
        new.size_bytes += size_bytes
        if new.size_bytes > self.max_bytes:
            raise FileTooLarge(f"the file is over {self.max_bytes:,} bytes (files.max_bytes)")
        if new.owner is not None:
            coming = self._coming[new.owner]
            coming.bytes += size_bytes
            self._check_quota(new.owner, new.kept, coming)

    def check_room(self, size_bytes: int = 0) -> None:
        """Raises OSError where this many more bytes would leave less room than has to be left. Blocks."""
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize < size_bytes + self.limits.keep_free:
            raise OSError(errno.ENOSPC, f"{self.limits.keep_free:,} bytes of it stay free (files.keep_free)")

    async def get(self, file_id: str) -> StoredFile:
        """A file that is there and has not expired; raises UnknownFile and RecordsUnavailable."""
        row = None
        if _ID.fullmatch(file_id):
            async with self._database.reading() as session:
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

    async def _arrive(self, new: NewFile) -> None:
        if new.owner is None:
            return
        coming = self._coming.setdefault(new.owner, _Coming())
        coming.files += 1
        async with self._database.reading() as session:
            new.kept = await _kept(session, new.owner)
        self._check_quota(new.owner, new.kept, coming)

    def _leave(self, new: NewFile) -> None:
        coming = self._coming.get(new.owner or "")
        if coming is not None:
            coming.files -= 1
            coming.bytes -= new.size_bytes
            if coming.files <= 0:
                del self._coming[new.owner or ""]

    def _check_quota(self, owner: str, kept: Kept, more: _Coming) -> None:
        """Raises UploadQuotaReached where the owner would have too many files, or bytes."""
        limits = self.limits
        if kept.files + more.files > limits.quota_files:
            what = f"{limits.quota_files:,} uploads (files.quota_files)"
        elif kept.bytes + more.bytes > limits.quota_bytes:
            what = f"{limits.quota_bytes:,} bytes of uploads (files.quota_bytes)"
        else:
            return
        seconds = max(1.0, (kept.first_expires_at - utc_now()).total_seconds()) if kept.first_expires_at else 60.0
        raise UploadQuotaReached(f"{owner} may keep {what}; the first expires in {seconds:,.0f} s", seconds)

    async def _write_row(self, new: NewFile, kind: str, name: str, media_type: str, size_bytes: int) -> StoredFile:
        row = File(
            id=new.id,
            owner=new.owner,
            kind=kind,
            name=plain_name(name),
            media_type=plain_media_type(media_type),
            size_bytes=size_bytes,
            expires_at=utc_now() + timedelta(seconds=self.keep_seconds),
        )
        async with self._database.transaction() as session:
            if new.owner is not None:  # others may have come to other daemons meanwhile
                self._check_quota(new.owner, await _kept(session, new.owner), _Coming(1, size_bytes))
            session.add(row)
        return self._stored(row)

    async def _remove_rows(self) -> int:
        expired = select(File.id).where(File.expires_at <= utc_now()).order_by(File.expires_at).limit(SWEEP_BATCH)
        async with self._database.reading() as session:
            numbers = list(await session.scalars(expired))
        if not numbers:
            return 0
        # The bytes first: a row without them is looked at again, bytes without a row only after a day.
        await asyncio.to_thread(_remove, *(self._path(number) for number in numbers))
        async with self._database.transaction() as session:
            await session.execute(delete(File).where(File.id.in_(numbers)))
        return len(numbers)

    async def _remove_abandoned(self) -> int:
        """Removes what daemons left that died while they wrote, and what no row knows any more."""
        old = await asyncio.to_thread(_old_names, self.folder, time.time() - ABANDONED_AFTER_S)
        removed = 0
        for begin in range(0, len(old), SWEEP_BATCH):
            batch = old[begin : begin + SWEEP_BATCH]
            async with self._database.reading() as session:
                known = set(await session.scalars(select(File.id).where(File.id.in_(batch))))
            gone = [self._path(name) for name in batch if name not in known]
            await asyncio.to_thread(_remove, *gone)
            removed += len(gone)
        return removed

    async def _run(self) -> None:
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


async def _kept(session: AsyncSession, owner: str) -> Kept:
    mine = (File.owner == owner) & (File.expires_at > utc_now())
    counted = select(func.count(), func.coalesce(func.sum(File.size_bytes), 0), func.min(File.expires_at))
    files, size_bytes, first_expires_at = (await session.execute(counted.where(mine))).one()
    return Kept(files, int(size_bytes), first_expires_at)


def _touch(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _sync(path: Path) -> int:
    """Writes the file through to the disk; returns its size in bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_size


def _put_in_place(path: Path, final: Path) -> None:
    path.replace(final)
    final.chmod(0o600)  # a library may have replaced the file
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
