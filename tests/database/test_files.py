"""Files: whole or not at all, for their time, and nobody's but the owner's."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.files import store as files_module
from crmd.crm.files.store import FileLimits, FileStore, StoredFile, plain_media_type, plain_name
from crmd.crm.files.tables import File
from crmd.crm.schema import SCHEMA
from crmd.errors import ConfigError, FileTooLarge, RecordsUnavailable, UnknownFile
from tests.support.started import started
from tests.support.wait import wait_until

LIMIT = 1_000


@pytest.fixture
async def store(database: Database, tmp_path: Path) -> AsyncIterator[FileStore]:
    made = FileStore(database, tmp_path / "new" / "files", LIMIT, 3600.0)
    await made.start()
    await made.start()
    yield made
    await made.stop()
    await made.stop()


async def keep(store: FileStore, data: bytes = b"a;b\n", name: str = "a.csv") -> StoredFile:
    async with store.create(kind="upload", name=name, media_type="text/csv") as new:
        new.path.write_bytes(data)
    assert new.stored is not None
    return new.stored


async def rows(database: Database) -> int:
    async with database.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(File)) or 0)


async def expire(database: Database, file_id: str) -> None:
    async with database.transaction() as session:
        past = utc_now() - timedelta(seconds=1)
        await session.execute(update(File).where(File.id == file_id).values(expires_at=past))


def age(path: Path, seconds: float) -> None:
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


async def test_a_file_is_found_as_it_was_written(store: FileStore) -> None:
    stored = await keep(store)
    found = await store.get(stored.id)
    assert found == stored
    assert found.path.read_bytes() == b"a;b\n"
    assert (found.kind, found.name, found.media_type, found.size_bytes) == ("upload", "a.csv", "text/csv", 4)
    lasts = (found.expires_at - utc_now()).total_seconds()
    assert 3500 < lasts <= 3600


async def test_it_is_for_its_owner_only(store: FileStore) -> None:
    stored = await keep(store)
    assert store.folder.stat().st_mode & 0o777 == 0o700
    assert stored.path.stat().st_mode & 0o777 == 0o600


async def test_until_it_is_whole_nobody_finds_it(store: FileStore) -> None:
    async with store.create(kind="export", name="a", media_type="text/csv") as new:
        new.path.write_bytes(b"half")
        with pytest.raises(UnknownFile):
            await store.get(new.id)
    assert (await store.get(new.id)).size_bytes == 4


async def test_what_raises_in_the_block_leaves_nothing(store: FileStore, database: Database) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    async def fail(error: BaseException) -> None:
        async with store.create(kind="export", name="a", media_type="text/csv") as new:
            new.path.write_bytes(b"half")
            raise error

    for error in (full, ZeroDivisionError(), asyncio.CancelledError()):
        with pytest.raises(type(error)):
            await fail(error)
    assert list(store.folder.iterdir()) == []
    assert await rows(database) == 0


async def test_an_upload_over_the_limit_is_refused_and_an_export_is_not(store: FileStore) -> None:
    with pytest.raises(FileTooLarge, match="over 1,000 bytes"):
        await keep(store, b"x" * (LIMIT + 1))
    assert list(store.folder.iterdir()) == []
    async with store.create(kind="export", name="a", media_type="text/csv") as new:
        new.path.write_bytes(b"x" * (LIMIT + 1))
    store.configure(FileLimits(LIMIT + 1), 60.0)
    stored = await keep(store, b"x" * (LIMIT + 1))
    assert (stored.expires_at - utc_now()).total_seconds() <= 60


async def test_without_the_database_nothing_is_kept(tmp_path: Path) -> None:
    async with started(FileStore(Database("", SCHEMA, folder=tmp_path), tmp_path / "files", LIMIT, 60.0)) as store:
        with pytest.raises(RecordsUnavailable):
            await keep(store)
        assert list(store.folder.iterdir()) == []


async def test_ids_that_are_none(store: FileStore) -> None:
    for file_id in ("", "x", "../records.sqlite", "0" * 32, "G" * 32, "0" * 33, "a/b", "\x00"):
        with pytest.raises(UnknownFile, match="there is no file"):
            await store.get(file_id)


async def test_what_has_expired_is_gone_at_once_and_removed_later(store: FileStore, database: Database) -> None:
    stored, other = await keep(store), await keep(store)
    await expire(database, stored.id)
    with pytest.raises(UnknownFile, match="has expired"):
        await store.get(stored.id)
    assert await store.remove_expired() == 1
    assert await store.remove_expired() == 0
    assert not stored.path.exists()
    assert await rows(database) == 1
    assert (await store.get(other.id)).path.exists()


async def test_what_dead_daemons_left_is_removed_after_a_day(store: FileStore) -> None:
    """And nothing else: what is younger may be written right now, and other files are not ours."""
    old_part, old_file, young, foreign = (
        store.folder / name for name in (f"{'a' * 32}.part", "b" * 32, f"{'c' * 32}.part", "notes.txt")
    )
    for path in (old_part, old_file, young, foreign):
        path.write_bytes(b"x")
    kept = await keep(store)
    for path in (old_part, old_file, foreign, kept.path):
        age(path, files_module.ABANDONED_AFTER_S + 60)
    assert await store.remove_expired() == 2
    assert {path.name for path in store.folder.iterdir()} == {young.name, foreign.name, kept.id}


async def test_a_file_of_another_machine_is_told_so(store: FileStore) -> None:
    stored = await keep(store)
    stored.path.unlink()
    with pytest.raises(UnknownFile, match=r"daemons that share a database share files\.folder too"):
        await store.get(stored.id)


async def test_it_sweeps_by_itself(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files_module, "SWEEP_EVERY_S", 0.02)
    async with started(FileStore(database, tmp_path / "swept", LIMIT, 3600.0)) as store:
        stored = await keep(store)
        await expire(database, stored.id)
        await wait_until(lambda: not stored.path.exists())
        store.folder.rename(tmp_path / "away")  # a sweep that fails is not the last one
        await wait_until(lambda: "expired files are not removed now" in caplog.text)
        (tmp_path / "away").rename(store.folder)
        again = await keep(store)
        await expire(database, again.id)
        await wait_until(lambda: not again.path.exists())


async def test_a_folder_that_cannot_be_made_is_told(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FileStore(database, tmp_path / "file" / "files", LIMIT, 60.0)
    with pytest.raises(ConfigError, match=r"files\.folder: cannot be made: Not a directory"):
        await store.start()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("a.csv", "a.csv"),
        ("../../etc/passwd", "passwd"),
        (r"C:\Users\Ada\kunden ü.xlsx", "kunden ü.xlsx"),
        ("a\r\nSet-Cookie: x.csv", "aSet-Cookie: x.csv"),
        ("invoice\u202excod.exe", "invoicexcod.exe"),
        ("", "file"),
        ("..", "file"),
        ("/", "file"),
        ("x" * 300 + ".csv", "x" * 196 + ".csv"),
        ("\udcff.csv", "\ufffd.csv"),
    ],
)
def test_names_for_people(given: str, name: str) -> None:
    assert plain_name(given) == name


@pytest.mark.parametrize(
    ("given", "media_type"),
    [
        ("text/CSV; charset=latin1", "text/csv"),
        ("application/vnd.ms-excel", "application/vnd.ms-excel"),
        ("", "application/octet-stream"),
        ("text/html\r\nX: y", "application/octet-stream"),
        ("nonsense", "application/octet-stream"),
    ],
)
def test_media_types(given: str, media_type: str) -> None:
    assert plain_media_type(given) == media_type
