"""Short jobs are fetched ahead of their slots; nothing else changes by that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from crmd.engine.admin.views import NewJob, State
from crmd.engine.durations import Rate
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import KeyedLimit, QueueSettings
from crmd.engine.worker import executor
from crmd.engine.worker.executor import FETCHED, SHORT_IN_A_ROW, SHORT_S
from crmd.engine.worker.worker import QueueWorker
from tests.support.engine_harness import EngineHarness, engine_harness, kill
from tests.support.wait import wait_until

SHORT = 5 * FETCHED
LONG = FETCHED
SLOTS = 2
IDENTITY = "e" * 32


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stalls for a moment changes nothing: any job is short, and what was fetched may wait."""
    monkeypatch.setattr(executor, "SHORT_S", 60.0)
    monkeypatch.setattr(executor, "FETCHED_FOR_S", 0.5)


class Ahead:
    """A queue of short jobs, and then of long ones: with the first long ones others are fetched."""

    def __init__(self, r: EngineHarness) -> None:
        self.r = r
        self.began: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.most_held = 0
        self.release = asyncio.Event()
        self.long_began = asyncio.Event()
        self.keys: list[str] = []
        self.pool: WorkerPool

    @property
    def worker(self) -> QueueWorker:
        """The queue's."""
        return self.pool.workers["q"]

    @property
    def fetched(self) -> list[str]:
        """Keys of what was fetched and has not begun."""
        return [run.key for run in self.worker.executor.executions.values() if run.task is None]

    async def work(self, _: Any, n: int) -> None:
        """Notes what a job sees of the others."""
        self.began.append(n)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.most_held = max(self.most_held, len(self.worker.executor.executions))
        try:
            if n < SHORT:
                await asyncio.sleep(0)
            else:
                self.long_began.set()
                await self.release.wait()
        finally:
            self.at_once -= 1

    async def until_fetched(self) -> list[str]:
        """Waits until long jobs run and others were fetched behind them; returns the keys of those."""
        await self.long_began.wait()
        fetched: list[str] = await wait_until(lambda: self.fetched)
        return fetched


@asynccontextmanager
async def ahead(url: str, settings: QueueSettings | None = None, long: int = LONG) -> AsyncIterator[Ahead]:
    async with engine_harness(url, settings or QueueSettings("q", concurrency=SLOTS)) as r:
        queue = Ahead(r)
        r.handle("q", "work", queue.work)
        added = await r.control.enqueue("q", [NewJob("work", {"n": n}) for n in range(SHORT + long)])
        queue.keys = [one.key for one in added]
        queue.pool = await r.start_pool(identity=IDENTITY)
        try:
            yield queue
        finally:
            queue.release.set()


@pytest.mark.usefixtures("patient")
async def test_no_more_run_at_once_than_there_are_slots(store_url: str) -> None:
    async with ahead(store_url, long=0) as queue:
        await wait_until(lambda: len(queue.began) == SHORT)
        assert queue.most_at_once == SLOTS
        assert SLOTS < queue.most_held <= FETCHED
        assert sorted(queue.began) == list(range(SHORT))


@pytest.mark.usefixtures("patient")
async def test_what_cannot_begin_soon_goes_back_for_others(store_url: str) -> None:
    async with ahead(store_url) as queue:
        await queue.until_fetched()
        scripts = queue.r.inspector.queue("q")

        async def only_what_runs_is_leased() -> bool:
            return len(await scripts.leases()) == SLOTS

        await wait_until(only_what_runs_is_leased)
        view = await queue.r.inspector.job("q", queue.keys[SHORT + SLOTS])
        assert (view.state, view.attempt, view.timeline) == (State.WAITING, 0, [])
        assert (queue.worker.active, queue.worker.executor.capacity) == (SLOTS, SLOTS)
        queue.release.set()
        await wait_until(lambda: len(queue.began) == SHORT + LONG)
        assert sorted(queue.began) == list(range(SHORT + LONG))


@pytest.mark.usefixtures("patient")
async def test_nothing_that_was_fetched_begins_after_the_stop(store_url: str) -> None:
    async with ahead(store_url) as queue:
        fetched = await queue.until_fetched()
        began = len(queue.began)
        queue.worker.stop_taking()
        queue.release.set()
        report = await queue.pool.stop(5.0)
        assert (len(queue.began), report.pending_acks) == (began, 0)
        states = [(await queue.r.inspector.job("q", key)).state for key in fetched]
        assert states == [State.WAITING] * len(fetched)


@pytest.mark.usefixtures("patient")
async def test_a_fetched_job_can_be_cancelled(store_url: str) -> None:
    async with ahead(store_url) as queue:
        await queue.until_fetched()
        key = queue.fetched[-1]
        assert queue.worker.cancel(queue.worker.scripts.keys.job_id(key))
        assert key not in queue.fetched
        await queue.r.control.cancel("q", key, "not wanted")
        queue.release.set()
        view = await queue.r.finished("q", key)
        await wait_until(lambda: len(queue.began) == SHORT + LONG - 1)
        assert view.state is State.CANCELLED
        assert queue.keys.index(key) not in queue.began


@pytest.mark.usefixtures("patient")
async def test_a_fetched_job_whose_lease_is_lost_does_not_begin(store_url: str) -> None:
    async with ahead(store_url) as queue:
        await queue.until_fetched()
        key = queue.fetched[-1]
        keys = queue.worker.scripts.keys
        await queue.r.store.command("HSET", keys.leases, keys.job_id(key), "another:1")
        await queue.worker.reconcile()
        assert key not in queue.fetched
        queue.release.set()
        await wait_until(lambda: len(queue.began) == SHORT + LONG - 1)
        assert queue.keys.index(key) not in queue.began


@pytest.mark.parametrize(
    "limited",
    [{"rate_limit": Rate.parse("100000/s")}, {"limits": (KeyedLimit("n", Rate.parse("100/s"), 100),)}],
)
async def test_a_limited_queue_fetches_nothing_ahead(store_url: str, limited: dict[str, Any]) -> None:
    async with ahead(store_url, QueueSettings("q", concurrency=SLOTS, **limited), long=0) as queue:
        await wait_until(lambda: len(queue.began) == SHORT)
        assert queue.most_held <= SLOTS


@pytest.mark.queues(QueueSettings("q", concurrency=SLOTS))
async def test_only_short_jobs_are_fetched_ahead(engine: EngineHarness) -> None:
    held: list[int] = []

    @engine.handler("q")
    async def long(_: Any) -> None:
        await asyncio.sleep(SHORT_S)
        held.append(len(worker.executor.executions))

    worker = (await engine.start_pool()).workers["q"]
    await engine.control.enqueue("q", [NewJob("long") for _ in range(2 * SHORT_IN_A_ROW)])
    await wait_until(lambda: len(held) == 2 * SHORT_IN_A_ROW)
    assert max(held) == SLOTS


@pytest.mark.usefixtures("patient")
async def test_what_a_killed_daemon_had_fetched_runs_in_the_next(store_url: str) -> None:
    async with ahead(store_url) as queue:
        fetched = await queue.until_fetched()
        await kill(queue.pool)
        queue.release.set()
        queue.pool = await queue.r.start_pool(identity=IDENTITY)
        await wait_until(lambda: set(queue.began) == set(range(SHORT + LONG)))
        for key in fetched:
            assert (await queue.r.finished("q", key)).state is State.COMPLETED
            assert queue.began.count(queue.keys.index(key)) == 1
