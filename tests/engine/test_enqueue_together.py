"""What is added in one turn of the loop goes to the store together, and each caller hears of its own."""

from __future__ import annotations

import asyncio

import pytest

from crmd.engine.store.replies import NewDocument
from crmd.engine.store.scripts import ALONE_FROM, ENQUEUE_BATCH, QueueScripts
from crmd.errors import RequestError, StoreError, StoreUnavailable
from tests.support.engine_harness import EngineHarness
from tests.support.store import StoreServer
from tests.support.wait import wait_until


def one(scripts: QueueScripts, key: str) -> list[NewDocument]:
    return [NewDocument(scripts.keys.job_id(key), b"{}")]


async def scripts_run(engine: EngineHarness) -> int:
    await engine.store.command("PING")  # what the loop has to send is sent
    stats = (await engine.store.command("INFO", "commandstats")).decode()
    [line] = [line for line in stats.splitlines() if line.startswith("cmdstat_evalsha:")] or ["calls=0,"]
    return int(line.partition("calls=")[2].partition(",")[0])


async def test_callers_of_one_moment_share_a_script(engine: EngineHarness) -> None:
    scripts = engine.inspector.queue("q")
    assert await scripts.enqueue(one(scripts, "taken")) == [True]
    before = await scripts_run(engine)
    keys = ["a", "b", "taken", "a", "c"]
    created = await asyncio.gather(*(scripts.enqueue(one(scripts, key)) for key in keys))
    assert created == [[True], [True], [False], [False], [True]]
    assert await scripts_run(engine) == before + 1
    counts = await engine.inspector.counts("q")
    assert counts.waiting == 4


@pytest.mark.parametrize("size", [3, ALONE_FROM])
async def test_however_many_they_are(engine: EngineHarness, size: int) -> None:
    scripts = engine.inspector.queue("q")
    calls = [
        [NewDocument(scripts.keys.job_id(f"{call}-{n}"), b"{}") for n in range(size)]
        for call in range(2 * ENQUEUE_BATCH // size)
    ]
    created = await asyncio.gather(*(scripts.enqueue(documents) for documents in calls))
    assert created == [[True] * size] * len(calls)


async def test_a_caller_that_leaves_takes_nothing_from_the_others(engine: EngineHarness) -> None:
    scripts = engine.inspector.queue("q")
    tasks = [asyncio.create_task(scripts.enqueue(one(scripts, key))) for key in ("a", "b", "c")]
    await asyncio.sleep(0)
    tasks[1].cancel()
    assert [await tasks[0], await tasks[2]] == [[True], [True]]
    assert tasks[1].cancelled()


async def test_what_cannot_be_sent_fails_its_caller_alone(engine: EngineHarness) -> None:
    scripts = engine.inspector.queue("q")
    said = await asyncio.gather(
        *(scripts.enqueue(one(scripts, key)) for key in ("a", "\ud800", "b")), return_exceptions=True
    )
    assert (said[0], said[2]) == ([True], [True])
    assert isinstance(said[1], RequestError)


async def test_what_the_store_refuses_every_caller_hears(engine: EngineHarness) -> None:
    scripts = engine.inspector.queue("q")
    await engine.store.command("SET", scripts.keys.queued, "no list")
    said = await asyncio.gather(
        *(scripts.enqueue(one(scripts, key)) for key in ("a", "b")), return_exceptions=True
    )
    assert all(isinstance(error, StoreError) and "WRONGTYPE" in str(error) for error in said)
    assert said[0] is not said[1]


async def test_a_store_that_goes_away_every_caller_hears(engine: EngineHarness, own_store: StoreServer) -> None:
    scripts = engine.inspector.queue("q")
    own_store.kill()
    await wait_until(lambda: not engine.store.connected)
    said = await asyncio.gather(
        *(scripts.enqueue(one(scripts, key)) for key in ("a", "b")), return_exceptions=True
    )
    assert [type(error) for error in said] == [StoreUnavailable] * 2
