"""`import_contacts` in a real queue: cancelled, drained, killed and timed out half-way; and 5,000 rows at once."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import func, select

from crmd.crm.contacts.tables import Contact
from crmd.crm.imports import jobs as import_module
from crmd.engine.admin.views import State
from crmd.engine.settings import QueueSettings
from tests.support.engine_harness import EngineHarness, kill
from tests.support.transfers import Office, transfer_harness
from tests.support.wait import wait_until

ROWS = 3_000
MANY = 5_000
MANY_SECONDS = 15.0
"""What these may take on a busy machine; on a quiet one it is half a second."""


def big_file(office: Office, rows: int = ROWS) -> str:
    lines = (f"+4917{n:08},Person {n},p{n}@example.org,new,Köln" for n in range(rows))
    return office.write("phone,name,email,tags,city\n" + "\n".join(lines) + "\nbad,,,,\n")


async def count(office: Office) -> int:
    async with office.database.reading() as s:
        return await s.scalar(select(func.count()).select_from(Contact)) or 0


@asynccontextmanager
async def stuck_half_way(office: Office) -> AsyncIterator[None]:
    """Once some rows are in, the import waits for its turn to write."""
    await wait_until(lambda: count(office), 20.0, "rows come in")
    async with office.database.transaction():
        assert 0 < await count(office) < ROWS
        yield


async def finished(harness: EngineHarness, key: str) -> Any:
    return await harness.finished("import", key, 50.0)


async def test_five_thousand_rows_in_a_moment(harness: EngineHarness, office: Office) -> None:
    await harness.start_pool(resources=office.resources)
    begin = time.monotonic()
    key = await harness.add("import", "import_contacts", path=big_file(office, MANY))
    view = await finished(harness, key)
    assert view.state is State.COMPLETED, view.error
    assert time.monotonic() - begin < MANY_SECONDS
    assert (view.result["created"], view.result["rejected"]) == (MANY, 1)
    assert await count(office) == MANY


async def test_a_cancelled_import_leaves_what_is_in(harness: EngineHarness, office: Office) -> None:
    await harness.start_pool(resources=office.resources)
    key = await harness.add("import", "import_contacts", path=big_file(office))
    async with stuck_half_way(office):
        await harness.control.cancel("import", key, "enough")
        assert (await finished(harness, key)).state is State.CANCELLED
    assert 0 < await count(office) < ROWS
    assert list(office.files.folder.iterdir()) == []


async def test_a_drain_gives_the_job_back_and_the_next_daemon_goes_on(
    harness: EngineHarness, office: Office
) -> None:
    first = await harness.start_pool(resources=office.resources)
    key = await harness.add("import", "import_contacts", path=big_file(office))
    async with stuck_half_way(office):
        await first.stop(0.0)
    view = await harness.inspector.job("import", key)
    assert (view.state, view.attempt) == (State.WAITING, 0)
    await _comes_to_an_end(harness, office, key)


async def test_a_daemon_that_dies_costs_nothing(harness: EngineHarness, office: Office) -> None:
    first = await harness.start_pool("one", resources=office.resources)
    key = await harness.add("import", "import_contacts", path=big_file(office))
    async with stuck_half_way(office):
        await kill(first)
    await _comes_to_an_end(harness, office, key, "one")


async def test_an_import_that_gets_on_outlives_any_number_of_daemons(
    harness: EngineHarness, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module, "CHUNK_ROWS", 50)

    async def has_more(rows: int) -> bool:
        return await count(office) > rows

    async def has_told(progress: float) -> bool:
        view = await harness.inspector.job("import", key)
        assert view.state is not State.FAILED, view.error
        return view.progress > progress

    key = await harness.add("import", "import_contacts", path=big_file(office))
    for _ in range(5):
        progress = (await harness.inspector.job("import", key)).progress
        daemon = await harness.start_pool("one", resources=office.resources)
        await wait_until(functools.partial(has_more, await count(office)), 20.0, "rows come in")
        async with office.database.transaction():  # the import waits for its turn to write
            await wait_until(functools.partial(has_told, progress), 20.0, "progress is told")
            await kill(daemon)
    await _comes_to_an_end(harness, office, key, "one")


async def test_a_timeout_fails_the_job_and_a_retry_goes_on(store_url: str, office: Office) -> None:
    async with transfer_harness(store_url, QueueSettings("import", timeout_seconds=2.0, attempts=1)) as harness:
        await harness.start_pool(resources=office.resources)
        key = await harness.add("import", "import_contacts", path=big_file(office))
        async with stuck_half_way(office):
            view = await finished(harness, key)
        assert view.state is State.FAILED
        assert "timed out after" in view.error
        await harness.control.retry("import", key)
        view = await finished(harness, key)
        assert view.state is State.COMPLETED, view.error
        # counted over both runs: nothing was written twice
        assert (view.result["created"], view.result["unchanged"]) == (ROWS, 0)
        assert await count(office) == ROWS


async def _comes_to_an_end(harness: EngineHarness, office: Office, key: str, identity: str | None = None) -> None:
    """Another daemon finishes the job: each contact was created once, over both runs."""
    before = await count(office)
    assert before < ROWS
    await harness.start_pool(identity, resources=office.resources)
    view = await finished(harness, key)
    assert view.state is State.COMPLETED, view.error
    assert (view.result["created"], view.result["unchanged"], view.result["updated"]) == (ROWS, 0, 0)
    assert [row["row"] for row in await office.report(view.result)] == [str(ROWS + 2)]
    assert await count(office) == ROWS
