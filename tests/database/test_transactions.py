"""Transactions: all or nothing, writers in turn, readers from one moment, and what a dead process leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts.tables import Contact
from crmd.crm.database import database as database_module
from crmd.crm.database import engine
from crmd.crm.database.database import Database
from crmd.crm.schema import SCHEMA
from crmd.errors import RecordsUnavailable
from tests.support.postgres import Postgres
from tests.support.started import started
from tests.support.wait import wait_until

PHONE = "+491701234567"

HOLDER = """
import asyncio, sys
from pathlib import Path
from crmd.crm.database.database import Database
from crmd.crm.schema import SCHEMA
from crmd.crm.contacts.tables import Contact

async def main():
    database = Database(sys.argv[1], SCHEMA, folder=Path())
    await database.start()
    async with database.transaction() as session:
        session.add(Contact(phone="+491700000000"))
        await session.flush()
        print("writing", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def count(database: Database) -> int:
    async with database.reading() as session:
        return int(await session.scalar(select(func.count()).select_from(Contact)) or 0)


async def add(database: Database, phone: str = PHONE) -> None:
    async with database.transaction() as session:
        session.add(Contact(phone=phone))


@contextlib.contextmanager
def writer_elsewhere(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process, inside a transaction that has written."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_what_a_block_changed_is_kept_when_it_ends(database: Database) -> None:
    await add(database)
    assert await count(database) == 1


async def test_a_block_that_raises_changes_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as session:
            session.add(Contact(phone=PHONE))
            await session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await count(database) == 0


async def test_a_block_that_is_cancelled_changes_nothing_and_holds_nothing(database: Database) -> None:
    inside = asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as session:
            session.add(Contact(phone=PHONE))
            await session.flush()
            inside.set()
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(hold()) for _ in range(20)]
    await inside.wait()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert await count(database) == 0
    await add(database)
    assert await count(database) == 1


async def test_many_writers_lose_nothing(database: Database) -> None:
    """More than there are connections; each reads first and writes then."""
    await add(database)

    async def one_more() -> None:
        async with database.transaction() as session:
            contact = (await session.scalars(select(Contact).with_for_update())).one()
            contact.attributes = {"count": contact.attributes.get("count", 0) + 1}

    await asyncio.gather(*(one_more() for _ in range(60)))
    async with database.reading() as session:
        assert (await session.scalars(select(Contact))).one().attributes == {"count": 60}


async def test_a_reader_sees_one_moment_and_waits_for_no_writer(database: Database) -> None:
    async with database.reading() as session:
        first = await session.scalar(select(func.count()).select_from(Contact))
        await asyncio.create_task(add(database))
        second = await session.scalar(select(func.count()).select_from(Contact))
    assert (first, second) == (0, 0)
    assert await count(database) == 1


async def test_work_that_lost_a_deadlock_is_run_again(postgres: Postgres, tmp_path: Path) -> None:
    """Two transactions take two rows in opposite order; PostgreSQL lets one of them go on."""
    name = postgres.new_database()
    database = Database(postgres.url(name), SCHEMA, folder=tmp_path)
    await database.start()
    phones = [PHONE, f"{PHONE}0"]
    for phone in phones:
        await add(database, phone)
    both_hold_one, runs = asyncio.Barrier(2), 0

    async def name_both(order: list[str], called: str) -> str:
        met = False

        async def work(session: AsyncSession) -> str:
            nonlocal met, runs
            runs += 1
            for phone in order:
                await session.execute(update(Contact).where(Contact.phone == phone).values(name=called))
                if not met:
                    met = True
                    await both_hold_one.wait()
            return called

        return await database.run(work)

    try:
        assert tuple(await asyncio.gather(name_both(phones, "a"), name_both(phones[::-1], "b"))) == ("a", "b")
        assert runs == 3
        assert database.last_error is None
        async with database.reading() as session:
            assert len(set(await session.scalars(select(Contact.name)))) == 1
    finally:
        await database.stop()
        postgres.drop(name)


async def test_work_that_fails_otherwise_is_not_run_again(database: Database) -> None:
    runs = 0

    async def work(session: AsyncSession) -> None:
        nonlocal runs
        runs += 1
        session.add(Contact(phone=PHONE))
        await session.flush()
        raise RecordsUnavailable("busy")

    with pytest.raises(RecordsUnavailable, match="busy"):
        await database.run(work)
    assert runs == 1
    assert await count(database) == 0


async def test_a_transaction_inside_another_is_a_mistake_and_no_deadlock(tmp_path: Path) -> None:
    async with started(Database("", SCHEMA, folder=tmp_path)) as database:
        async with database.transaction():
            with pytest.raises(RuntimeError, match="is open in this task"):
                await add(database)
        await add(database)


async def test_what_a_killed_process_wrote_is_gone_and_locks_nothing(
    database: Database, database_url: str
) -> None:
    with writer_elsewhere(database_url) as process:
        assert await count(database) == 0
        process.kill()
        process.wait()
        await add(database, "+491700000000")  # the number that it wrote
    assert await count(database) == 1


async def test_writers_that_are_kept_waiting_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.2)
    async with started(Database("", SCHEMA, folder=tmp_path)) as database:
        with writer_elsewhere(f"sqlite:///{database.address.path}"):
            with pytest.raises(RecordsUnavailable, match="database is locked"):
                await add(database)
            assert await count(database) == 0, "readers go on"
        await add(database)


async def test_writers_in_here_give_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    async with started(Database("", SCHEMA, folder=tmp_path)) as database, database.transaction():
        with pytest.raises(RecordsUnavailable, match="other writers kept the records busy"):
            await asyncio.create_task(add(database))


async def test_what_the_block_itself_raises_is_left_alone(database: Database) -> None:
    async def use(error: Exception) -> None:
        async with database.transaction():
            raise error

    for error in (ConnectionRefusedError("the caller's own"), TimeoutError("of the caller")):
        with pytest.raises(type(error), match="caller"):
            await use(error)


async def test_a_wrong_statement_is_not_an_unavailable_database(database: Database) -> None:
    async def use() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT nothing FROM nowhere"))

    with pytest.raises(DBAPIError):
        await use()
    assert await count(database) == 0


async def test_errors_show_no_values(database: Database) -> None:
    await add(database)
    with pytest.raises(DBAPIError) as raised:
        await add(database)
    assert PHONE not in str(raised.value).splitlines()[0]
    assert "parameters hidden" in str(raised.value)


async def test_before_the_start_and_after_the_stop_there_is_no_database(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url, SCHEMA, folder=tmp_path)
    await database.stop()
    with pytest.raises(RecordsUnavailable, match="not opened yet"):
        await add(database)
    await database.start()
    await database.start()
    await add(database)
    await database.stop()
    await database.stop()
    with pytest.raises(RecordsUnavailable, match="closed"):
        await add(database)
    await database.start()
    assert await count(database) == 1
    await database.stop()


async def test_an_instant_comes_back_as_it_was_in_utc(database: Database) -> None:
    at = datetime.fromisoformat("2026-03-29T02:30:00.123+02:00")
    await add(database)
    async with database.transaction() as session:
        await session.execute(update(Contact).values(opted_out_at=at))
    async with database.reading() as session:
        found = await session.scalar(select(Contact.opted_out_at).where(Contact.opted_out_at == at))
    assert found == at
    assert found.tzinfo is UTC


async def test_an_instant_without_a_zone_is_refused(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as session:
            await session.execute(update(Contact).values(opted_out_at=datetime(2026, 1, 1)))

    with pytest.raises(Exception, match="needs a time zone"):
        await write()


async def test_characters_that_a_database_refuses_are_left_out(database: Database) -> None:
    name = "Zo\x00ë \ud83d\ude00 \udcff"
    async with database.transaction() as session:
        session.add(Contact(phone=PHONE, name=name, attributes={"a\x00": ["\x00b", {"c": "\ud800"}]}))
    async with database.reading() as session:
        contact = (await session.scalars(select(Contact))).one()
    assert contact.name == "Zoë 😀 \ufffd"
    assert contact.attributes == {"a": ["b", {"c": "\ufffd"}]}


async def test_what_is_no_json_is_refused(database: Database) -> None:
    async def write() -> None:
        async with database.transaction() as session:
            session.add(Contact(phone=PHONE, attributes={"a": float("nan")}))

    with pytest.raises(Exception, match="not JSON compliant"):
        await write()


async def test_the_files_are_for_their_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        async with started(Database("", SCHEMA, folder=tmp_path)) as database:
            await add(database)
            modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    finally:
        os.umask(old)
    assert modes == {"records.sqlite": 0o600, "records.sqlite-shm": 0o600, "records.sqlite-wal": 0o600}


async def test_cancelled_at_any_moment_nothing_is_left_half_done(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """While connecting too: each second round has no connection yet."""

    async def use() -> None:
        async with database.transaction() as session:
            await session.execute(text("SELECT 1"))
            await session.execute(text("SELECT 2"))

    for number in range(30):
        if number % 2:
            await database.engine.dispose()
        tasks = [asyncio.create_task(use()) for _ in range(3)]
        await asyncio.wait(tasks, timeout=random.random() * 0.02)
        for task in tasks:
            task.cancel()
        _, hanging = await asyncio.wait(tasks, timeout=20)
        assert not hanging
    await add(database)
    assert not caplog.records


async def test_a_loop_of_nothing_but_transactions_can_be_cancelled(database: Database) -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        while True:
            await count(database)
            rounds += 1

    task = asyncio.create_task(work())
    await wait_until(lambda: rounds > 2)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()


async def test_a_time_limit_around_the_database_holds(database: Database) -> None:
    async def work() -> None:
        async with asyncio.timeout(0.05):
            while True:
                await count(database)

    with pytest.raises(TimeoutError):
        await work()
    await count(database)  # no cancellation is left over
    await asyncio.sleep(0)


async def test_who_was_cancelled_may_still_write(database: Database) -> None:
    """As handlers do that leave a note of where they were."""
    entered = asyncio.Event()

    async def work() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            await add(database)

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])
    assert await count(database) == 1
