"""When an endpoint counts as failing, and when it is disabled."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from crmd.crm.database.database import Database
from crmd.crm.webhooks import repository as endpoints
from crmd.crm.webhooks.repository import EndpointStatus
from tests.support.database import commit, fetch

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAYS = timedelta(days=3)


async def fail(database: Database, after: timedelta, *, disable_after: timedelta | None = DAYS) -> bool:
    return await commit(
        database, endpoints.note_failure, "shop", AT + after, "x" * 600, disable_after=disable_after
    )


async def succeed(database: Database) -> None:
    await commit(database, endpoints.note_success, "shop")


async def status(database: Database) -> EndpointStatus:
    return await fetch(database, endpoints.status, "shop")


async def test_failures_without_a_success_disable(database: Database) -> None:
    assert await status(database) == EndpointStatus()
    assert not await fail(database, timedelta(0))
    assert not await fail(database, timedelta(days=2))
    assert await status(database) == EndpointStatus(failing_since=AT)
    assert await fail(database, DAYS)
    assert not await fail(database, timedelta(days=4))  # told once
    found = await status(database)
    assert found.disabled_at == AT + DAYS
    assert found.reason == "x" * endpoints.MAX_REASON_CHARS


async def test_a_success_begins_the_span_anew(database: Database) -> None:
    await fail(database, timedelta(0))
    await succeed(database)
    assert await status(database) == EndpointStatus()
    assert not await fail(database, DAYS)
    assert not await fail(database, DAYS * 2 - timedelta(seconds=1))
    assert await fail(database, DAYS * 2)


async def test_only_a_person_enables(database: Database) -> None:
    await fail(database, timedelta(0))
    await fail(database, DAYS)
    await succeed(database)
    assert (await status(database)).disabled_at is not None
    await commit(database, endpoints.enable, "shop")
    assert await status(database) == EndpointStatus()
    assert not await fail(database, DAYS)


async def test_never_and_at_once(database: Database) -> None:
    assert not await fail(database, timedelta(0), disable_after=None)
    assert not await fail(database, timedelta(days=900), disable_after=None)
    assert await fail(database, timedelta(days=900), disable_after=timedelta(0))


async def test_many_at_once_disable_once(database: Database) -> None:
    await fail(database, timedelta(0))
    assert (await asyncio.gather(*(fail(database, DAYS) for _ in range(10)))).count(True) == 1
