"""What a stop must not break: nothing starts after it, nothing is lost, nothing holds it up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from crmd.engine.admin.views import NewJob, State
from crmd.engine.settings import QueueSettings
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.store.replies import Ack, AckKind
from crmd.engine.worker import pending_acks
from crmd.engine.worker.next_claim import LanePeek
from crmd.engine.worker.pending_acks import MemoryFiles
from crmd.engine.worker.threads import HandlerThreads
from crmd.errors import StoreFull
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.proxy import proxy
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until


class FullDisk(MemoryFiles):
    """A state folder that takes nothing any more."""

    def write_private(self, name: str, text: str) -> None:
        raise StoreFull("the disk is full")


async def test_a_peek_can_be_stopped_at_any_moment_of_its_connecting(store: Store) -> None:
    for turns in range(60):
        peek = LanePeek(store, "saq:q:queued", lambda: None)
        peek.start()
        peek.want(True)
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(peek.closed(), HANG_S)


async def test_a_store_can_be_stopped_at_any_moment_of_its_connecting(store_url: str) -> None:
    for turns in range(120):
        store = Store(StoreTarget(store_url))
        started = asyncio.create_task(store.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(store.stop(), HANG_S)
        started.cancel()
        await asyncio.wait([started])


async def test_a_claim_answered_after_the_stop_starts_nothing(store_server: StoreServer, store_url: str) -> None:
    queue = QueueSettings("q")
    async with (
        proxy(store_server.socket) as middle,
        engine_harness(store_url, queue) as direct,
        engine_harness(middle.url, queue) as r,
    ):
        ran: list[str] = []

        @r.handler("q")
        async def note(_: Any) -> None:
            ran.append("ran")

        pool = await r.start_pool()
        await wait_until(pool.wake_listener.ready.is_set)
        middle.reply_delay = 0.3
        key = await direct.add("q", "note")
        await wait_until(direct.inspector.queue("q").leases, 2, "the job is claimed")
        await pool.drain(5.0)

        async def given_back() -> bool:
            return (await direct.inspector.job("q", key)).state is State.WAITING

        await wait_until(given_back, 3)
        middle.reply_delay = 0.0
        assert ran == []


async def test_what_a_lost_claim_leased_is_given_back_at_the_stop(engine: EngineHarness) -> None:
    pool = await engine.start_pool()
    worker = pool.workers["q"]
    worker.stop_taking()
    key = await engine.add("q", "absent")
    # a claim of this daemon whose answer was lost: nobody here knows of it
    assert (await worker.scripts.claim(next(pool.context.tokens), 5)).jobs
    await pool.stop(0.0)
    view = await engine.inspector.job("q", key)
    assert (view.state, view.delivery, view.timeline) == (State.WAITING, 0, [])


@pytest.mark.queues(QueueSettings("q", concurrency=1, keep_completed=2000))
async def test_outcomes_are_spooled_and_written_in_batches(engine: EngineHarness) -> None:
    await engine.control.enqueue("q", [NewJob("absent", {}) for _ in range(1100)])
    scripts, files = engine.inspector.queue("q"), MemoryFiles()
    outcomes = []
    for batch in range(3):
        token = f"{'e' * 32}-0:{batch}"
        jobs = (await scripts.claim(token, 500)).jobs
        outcomes += [Ack(job_id, token, AckKind.COMPLETE, document) for job_id, document, _ in jobs]
    pending_acks.save(files, {"q": outcomes})
    await engine.start_pool(identity="e" * 32, files=files)
    counts = await engine.inspector.counts("q")
    assert (counts.completed, counts.waiting, counts.active) == (1100, 0, 0)
    assert files.files == {}


async def test_a_full_disk_does_not_keep_the_fleet_from_stopping(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    release = asyncio.Event()

    @engine.handler("q")
    async def wait(_: Any) -> None:
        await release.wait()

    pool = await engine.start_pool(files=FullDisk())
    await engine.add("q", "wait")
    await wait_until(lambda: pool.active)
    own_store.kill()
    await wait_until(lambda: not engine.store.connected)
    release.set()
    report = await pool.stop(1.0)
    assert (report.finished, report.pending_acks) == (1, 1)


async def test_threads_that_nobody_waits_for_are_counted_until_they_end() -> None:
    threads, release, leaks = HandlerThreads(2), threading.Event(), []
    both_run = threading.Barrier(3)

    def hold() -> bool:
        both_run.wait(5)
        return release.wait(10)

    calls = [asyncio.create_task(threads.call(hold, lambda: leaks.append(1))) for _ in range(2)]
    await asyncio.to_thread(both_run.wait, 5)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
    assert (threads.leaked, len(leaks)) == (2, 2)
    # both threads are held, and others run all the same
    assert await asyncio.wait_for(threads.call(lambda: "runs", lambda: None), HANG_S) == "runs"
    release.set()
    await wait_until(lambda: threads.leaked == 0)
    threads.shutdown()


async def test_a_call_that_waits_for_a_thread_is_no_leak_when_cancelled() -> None:
    threads, release, leaks = HandlerThreads(2), threading.Event(), []
    running = [asyncio.create_task(threads.call(lambda: release.wait(10), lambda: None)) for _ in range(2)]
    waiting = asyncio.create_task(threads.call(lambda: release.wait(10), lambda: leaks.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    release.set()
    assert await asyncio.gather(*running) == [True, True]
    assert (threads.leaked, leaks) == (0, [])
    threads.shutdown()


async def test_a_bug_in_one_trip_does_not_end_the_queues_work(
    engine: EngineHarness, caplog: pytest.LogCaptureFixture
) -> None:

    @engine.handler("q")
    async def work(_: Any) -> str:
        return "ran"

    pool = await engine.start_pool()
    worker, trip = pool.workers["q"], pool.workers["q"].scripts.settle_and_claim

    async def broken(*_: Any, **__: Any) -> Any:
        worker.scripts.settle_and_claim = trip  # type: ignore[method-assign]
        raise KeyError("a bug")

    worker.scripts.settle_and_claim = broken  # type: ignore[method-assign]
    view = await engine.finished("q", await engine.add("q", "work"), 5)
    assert view.result == "ran"
    assert "queue q failed, and goes on" in caplog.text
    assert ("queue.degraded", {"queue": "q", "reason": "KeyError: 'a bug'"}) in engine.events


async def test_more_threads_are_there_after_a_resize_and_what_runs_goes_on() -> None:
    threads, all_run = HandlerThreads(2), threading.Barrier(5)
    calls = [asyncio.create_task(threads.call(lambda: all_run.wait(5), lambda: None)) for _ in range(2)]
    await asyncio.sleep(0)
    threads.resize(3)
    calls += [asyncio.create_task(threads.call(lambda: all_run.wait(5), lambda: None)) for _ in range(3)]
    assert len(set(await asyncio.gather(*calls))) == 5  # each passed the barrier, so all ran at once
    threads.shutdown()
