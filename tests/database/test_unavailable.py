"""A database that is unavailable, at the start or later: waited for, told of once, and back by itself."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import pytest
from sqlalchemy import func, select

from crmd.crm.contacts.tables import Contact
from crmd.crm.database import database as database_module
from crmd.crm.database import engine
from crmd.crm.database.database import Database
from crmd.crm.schema import SCHEMA
from crmd.errors import RecordsUnavailable, RecordsUnusable
from tests.support.postgres import Postgres
from tests.support.started import started
from tests.support.wait import wait_until


async def count(database: Database) -> int:
    async with database.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(Contact)) or 0)


async def answers(database: Database) -> bool:
    try:
        await count(database)
    except RecordsUnavailable:
        return False
    return True


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged of it, in order: unavailable, back."""
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("crmd.records")]
    return ["back" if "again" in line else "unavailable" for line in lines]


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.url(postgres.shared_database)


async def test_a_server_that_comes_after_the_start_is_found(
    postgres: Postgres, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "OPEN_AGAIN_S", (0.02,))
    caplog.set_level(logging.INFO)
    database = Database(url, SCHEMA, folder=Path())
    postgres.stop()
    try:
        await database.start()
        await database.start()
        for _ in range(3):
            assert not await answers(database)
        assert database.last_error
    finally:
        postgres.start()
    await wait_until(lambda: answers(database))
    assert told(caplog) == ["unavailable", "back"]
    assert database.last_error is None
    await database.stop()


async def test_a_server_that_goes_and_comes_is_found_again(
    postgres: Postgres, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with started(Database(url, SCHEMA, folder=Path())) as database:
        async with database.reading() as one, database.reading() as two:  # two connections are lost
            await one.execute(select(1))
            await two.execute(select(1))
        postgres.stop()
        try:
            assert not await answers(database)
            assert not await answers(database)
        finally:
            postgres.start()
        assert await answers(database)
        assert told(caplog) == ["unavailable", "back"]


async def test_a_server_that_goes_in_a_transaction(postgres: Postgres, url: str) -> None:
    async with started(Database(url, SCHEMA, folder=Path())) as database:
        before = await count(database)

        async def use() -> None:
            async with database.transaction() as session:
                session.add(Contact(phone="+491709999999"))
                await session.flush()
                postgres.stop()
                await session.execute(select(1))

        try:
            with pytest.raises(RecordsUnavailable):
                await use()
        finally:
            postgres.start()
        assert await count(database) == before


async def test_a_server_that_says_nothing_is_not_waited_for(
    postgres: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT_S", 0.2)
    database = Database(url, SCHEMA, folder=Path())
    os.kill(postgres.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(10):
            await database.start()
            assert not await answers(database)
            await database.stop()
    finally:
        os.kill(postgres.pid, signal.SIGCONT)


async def test_an_answer_that_does_not_come_is_not_waited_for(postgres: Postgres, url: str) -> None:
    async with started(Database(url, SCHEMA, folder=Path(), statement_timeout=0.2)) as database:

        async def use() -> None:
            async with database.transaction() as session:
                await session.execute(select(func.pg_sleep(30)))

        async with asyncio.timeout(10):
            with pytest.raises(RecordsUnavailable):
                await use()
        assert await answers(database)


async def test_the_stop_does_not_wait_for_a_server_that_is_unavailable(
    postgres: Postgres, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "OPEN_AGAIN_S", (3600.0,))
    database = Database(url, SCHEMA, folder=Path())
    postgres.stop()
    try:
        await database.start()
        async with asyncio.timeout(5):
            await database.stop()
    finally:
        postgres.start()


async def test_wrong_credentials_are_told_at_the_start(postgres: Postgres) -> None:
    wrong = f"postgresql://nobody-known:secret@/postgres?host={postgres.folder}"
    with pytest.raises(RecordsUnusable) as raised:
        await Database(wrong, SCHEMA, folder=Path()).start()
    assert "nobody-known" in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_a_database_that_does_not_exist_is_told_at_the_start(postgres: Postgres) -> None:
    with pytest.raises(RecordsUnusable, match=r"nothing-here.* does not exist"):
        await Database(postgres.url("nothing-here"), SCHEMA, folder=Path()).start()


async def test_a_file_that_is_no_database_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").write_text("a diary, and no database at all\n" * 100)
    with pytest.raises(RecordsUnusable, match=r"records\.sqlite: file is not a database"):
        await Database("", SCHEMA, folder=tmp_path).start()


async def test_a_folder_that_is_not_there_is_told_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(RecordsUnusable, match="No such file or directory"):
        await Database("", SCHEMA, folder=tmp_path / "absent").start()


async def test_a_port_where_nobody_listens_may_be_listened_on_later(tmp_path: Path) -> None:
    async with started(Database("postgresql://crmd@127.0.0.1:1/x", SCHEMA, folder=tmp_path)) as database:
        assert "127.0.0.1" in str(database.last_error)
