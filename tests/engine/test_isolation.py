"""Jobs that crashed their daemons: each runs alone, and holds the other queues back no longer than it must."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crmd.engine.admin.views import NewJob, State
from crmd.engine.durations import Rate
from crmd.engine.settings import QueueSettings
from crmd.engine.worker import isolation
from crmd.engine.worker.isolation import CrashLoopIsolation
from tests.support.engine_harness import EngineHarness
from tests.support.script_harness import document
from tests.support.wait import wait_until

BUSY = QueueSettings("busy")


async def make_crash_looping(r: EngineHarness, queue: str, name: str) -> str:
    """A waiting job whose daemon died twice with it."""
    keys = r.inspector.queue(queue).keys
    job_id = keys.job_id("crash-looping")
    await r.store.command("SET", job_id, document(queue, "crash-looping", function=name))
    await r.store.command("HSET", keys.crashes, job_id, 2)
    await r.store.command("RPUSH", keys.suspects, job_id)
    await r.store.command("ZADD", keys.incomplete, 0, job_id)
    return "crash-looping"


class Work:
    """Handlers that note when they run, and how many others run then."""

    def __init__(self, r: EngineHarness) -> None:
        self.running = 0
        self.log: list[tuple[str, int]] = []
        self.hold = asyncio.Event()
        for queue in r.registry.queues:
            r.handle(queue, "quick", self.quick)
            r.handle(queue, "long", self.long)
            r.handle(queue, "alone", self.alone)

    async def quick(self, _: Any) -> None:
        self.log.append(("quick", self.running))

    async def long(self, _: Any) -> None:
        self.running += 1
        await self.hold.wait()
        self.running -= 1

    async def alone(self, _: Any) -> int:
        self.log.append(("alone", self.running))
        return self.running


@pytest.mark.queues(QueueSettings("q"), BUSY)
async def test_a_crash_looping_job_waits_for_the_others_and_runs_alone(engine: EngineHarness) -> None:
    work = Work(engine)
    pool = await engine.start_pool()
    await engine.add("busy", "long")
    await wait_until(lambda: work.running == 1, 5)
    key = await make_crash_looping(engine, "q", "alone")
    other = await engine.add("q", "quick")
    await engine.finished("q", other)
    await wait_until(lambda: pool.context.isolation.active)
    later = await engine.add("busy", "quick")
    await asyncio.sleep(0.1)  # it is held back: nothing starts beside what runs
    assert (await engine.inspector.job("busy", later)).state is State.WAITING
    work.hold.set()
    view = await engine.finished("q", key, 5)
    assert (view.state, view.result) == (State.COMPLETED, 0)
    await engine.finished("busy", later, 5)


@pytest.mark.parametrize("state", ["paused", "blocked", "limited"])
@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(1, 60)), BUSY)
async def test_a_crash_looping_job_that_may_not_start_holds_nobody_back(engine: EngineHarness, state: str) -> None:
    work = Work(engine)
    await engine.start_pool()
    await engine.add("busy", "long")
    await wait_until(lambda: work.running == 1, 5)
    if state == "limited":
        await engine.finished("q", await engine.add("q", "quick"))
    elif state == "paused":
        await engine.control.pause("q")
    else:
        await engine.inspector.queue("q").slow_down(60)
    await make_crash_looping(engine, "q", "alone")
    await engine.add("q", "quick")
    for _ in range(5):
        await engine.finished("busy", await engine.add("busy", "quick"), 1)
    work.hold.set()


@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(2, 0.5)))
async def test_a_crash_looping_job_of_a_limited_queue_is_not_starved_by_those_who_wait(
    engine: EngineHarness,
) -> None:
    Work(engine)
    await engine.control.enqueue("q", [NewJob("quick") for _ in range(60)])
    key = await make_crash_looping(engine, "q", "alone")
    await engine.start_pool()
    assert (await engine.finished("q", key, 5)).state is State.COMPLETED
    assert (await engine.inspector.counts("q")).waiting > 40


async def test_where_the_others_never_rest_they_are_let_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "WAIT_FOR_IDLE_S", 0.05)
    monkeypatch.setattr(isolation, "BUSY_PAUSE_S", 60.0)
    isolating = CrashLoopIsolation()
    worker = Restless(isolating)
    isolating.add(worker)
    worker.claim_now()
    await wait_until(lambda: worker.claims == 2, 1)
    assert not isolating.active
    await asyncio.sleep(0.2)
    assert not isolating.active
    assert (worker.claims, worker.isolated) == (2, 0)
    await isolating.stop()
    await isolating.stop()


class Restless:
    """A worker that always has something to do, and sees a crash-looping job whenever it claims."""

    idle = False

    def __init__(self, isolating: CrashLoopIsolation) -> None:
        self._isolating = isolating
        self.claims = self.isolated = 0

    def claim_now(self) -> None:
        self.claims += 1
        self._isolating.request(self)

    async def run_isolated(self) -> bool:
        self.isolated += 1
        return True
