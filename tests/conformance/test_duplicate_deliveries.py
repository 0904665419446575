"""Jobs that stock SAQ runs twice, or whose end it overwrites: `saq_defects.py` says which test is for which."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest
from saq.job import Status

from crmd.engine.admin.views import NewJob, State
from crmd.engine.settings import Backoff, QueueSettings
from crmd.engine.store import keys
from crmd.engine.store.replies import Ack, AckKind
from crmd.errors import IllegalTransition, RequestError, Retry
from tests.support.documents import put_job, stored_job
from tests.support.engine_harness import (
    EngineHarness,
    kill,
    saq_queue,
    saq_worker,
    watch_for_a_lease,
)
from tests.support.store import StoreServer
from tests.support.wait import wait_until


class Runs:
    """A handler that notes when each of its runs begins and ends."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.began: list[str] = []
        self.now: list[str] = []
        self.at_once: dict[str, int] = {}

    async def __call__(self, ctx: dict[str, Any]) -> str:
        key = ctx["job"].key
        self.began.append(key)
        self.now.append(key)
        self.at_once[key] = max(self.at_once.get(key, 0), self.now.count(key))
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.now.remove(key)
        return "done"


def runs(engine: EngineHarness, seconds: float = 0.0, name: str = "work") -> Runs:
    """Makes a counting handler known."""
    handler = Runs(seconds)
    engine.handle("q", name, handler.__call__)
    return handler


@pytest.mark.parametrize("document", [{}, {"retry_delay": 0.0}, {"scheduled": 1}, {"retry_backoff": True}])
@pytest.mark.queues(QueueSettings("q", attempts=3, backoff=Backoff(0.0, 0.0)))
async def test_a_retry_at_once_runs_once_for_each_attempt(engine: EngineHarness, document: dict[str, Any]) -> None:
    attempts: list[int] = []

    @engine.handler("q")
    async def fail(ctx: dict[str, Any]) -> None:
        attempts.append(ctx["job"].attempts)
        raise ValueError("no luck")

    pool = await engine.start_pool()
    await put_job(engine.store, "q", "k", {"function": "fail", "retries": 2, **document})
    view = await engine.finished("q", "k", 5)
    for _ in range(2):
        await pool.tick.run_once()
        pool.workers["q"].claim_now()
    await wait_until(lambda: engine.idle("q"), 5)
    assert (view.state, view.attempt, len(attempts)) == (State.FAILED, 2, 2)


@pytest.mark.queues(QueueSettings("q", concurrency=5))
async def test_a_job_mentioned_many_times_runs_once(engine: EngineHarness) -> None:
    work = runs(engine, 0.1)
    added = [await engine.add("q", "work") for _ in range(20)]
    mentions = [f"saq:job:q:{key}" for key in added * 5]
    random.shuffle(mentions)
    await engine.store.command("RPUSH", "saq:q:queued", *mentions)
    await engine.start_pool()
    await engine.start_pool()
    await engine.completed("q", *added)
    await wait_until(lambda: engine.idle("q"), 5)
    assert sorted(work.began) == sorted(added)
    assert (await engine.inspector.totals())["q"].completed == 20


@pytest.mark.queues(QueueSettings("q", concurrency=50))
async def test_a_recovery_takes_no_job_of_a_living_daemon(engine: EngineHarness) -> None:
    work = runs(engine, 0.02)
    one, two = await engine.start_pool(), await engine.start_pool()
    added = []
    for _ in range(10):
        added += [new.key for new in await engine.control.enqueue("q", [NewJob("work") for _ in range(50)])]
        await asyncio.gather(*(watch_for_a_lease(pool, (one, two)) for pool in (one, two)))
        await asyncio.gather(*(pool.tick.run_once() for pool in (one, two)))
    for key in added:
        await engine.finished("q", key)
    assert len(work.began) == 500
    assert (await engine.inspector.totals())["q"].lost == 0


async def test_the_end_of_a_job_that_was_taken_over_is_not_overwritten(engine: EngineHarness) -> None:
    work = runs(engine, 0.3)
    first = await engine.start_pool("one")
    key = await engine.add("q", "work")
    await wait_until(lambda: first.active == 1)
    job_id = f"saq:job:q:{key}"
    [run] = first.workers["q"].executor.executions.values()
    # Another daemon took the job over while this one was cut off, and completes it.
    await engine.store.command("HSET", "crmd:q:q:leases", job_id, "another:0")
    end = {**await stored_job(engine.store, "q", key), "status": "complete", "result": "theirs"}
    await first.workers["q"].scripts.settle(
        [Ack(job_id, "another:0", AckKind.COMPLETE, json.dumps(end).encode(), 0, b"", run.marked)]
    )
    await wait_until(lambda: first.active == 0)
    await wait_until(lambda: engine.idle("q"), 5)
    view = await engine.inspector.job("q", key)
    assert (view.state, view.result, len(work.began)) == (State.COMPLETED, "theirs", 1)
    assert (await engine.inspector.totals())["q"].completed == 1


async def test_a_late_outcome_of_a_dead_daemon_changes_nothing(engine: EngineHarness) -> None:
    work = runs(engine, 0.2)
    pool = await engine.start_pool("one")
    key = await engine.add("q", "work")
    await wait_until(lambda: pool.active == 1)
    [run] = pool.workers["q"].executor.executions.values()
    late = Ack(run.job_id, run.token, AckKind.ABORTED, b'{"late": true}', 0, b"{}", True)
    await kill(pool)
    await engine.start_pool("one")
    stale, _ = await pool.workers["q"].scripts.settle([late])
    assert stale == [run.job_id]
    view = await engine.finished("q", key)
    assert (view.state, view.result, len(work.began)) == (State.COMPLETED, "done", 2)


async def test_a_running_job_is_not_queued_a_second_time(engine: EngineHarness) -> None:
    work = runs(engine, 0.3)
    pool = await engine.start_pool()
    key = await engine.add("q", "work")
    await wait_until(lambda: work.now)
    job = await saq_queue(pool, "q").job(key)
    assert job is not None
    for _ in range(2):
        await saq_queue(pool, "q").retry(job, "again")  # no error, as with SAQ, and no second run
        with pytest.raises(IllegalTransition):
            await engine.control.retry("q", key)
    await engine.finished("q", key)
    with pytest.raises(IllegalTransition):  # nor a completed one
        await engine.control.retry("q", key)
    await wait_until(lambda: engine.idle("q"), 5)
    assert (work.began, work.at_once) == ([key], {key: 1})


@pytest.mark.queues(QueueSettings("q", attempts=1))
async def test_a_failed_job_that_is_retried_many_times_at_once_is_queued_once(engine: EngineHarness) -> None:
    work = runs(engine, 0.1)
    await put_job(engine.store, "q", "k", {"function": "fails"})

    @engine.handler("q", "fails")
    async def fail(_: Any) -> None:
        raise ValueError

    pool = await engine.start_pool()
    await engine.finished("q", "k")
    engine.handle("q", "fails", work.__call__)
    answers = await asyncio.gather(*(engine.control.retry("q", "k") for _ in range(5)), return_exceptions=True)
    assert sum(not isinstance(answer, Exception) for answer in answers) >= 1
    await engine.finished("q", "k")
    await wait_until(lambda: engine.idle("q"), 5)
    assert (work.began, work.at_once, pool.active) == (["k"], {"k": 1}, 0)


@pytest.mark.queues(QueueSettings("q", concurrency=30))
async def test_jobs_that_end_while_the_store_is_dead_ran_once_and_complete_at_once(
    engine: EngineHarness,
    own_store: StoreServer,
) -> None:
    work = runs(engine, 0.4)
    pool = await engine.start_pool()
    added = [new.key for new in await engine.control.enqueue("q", [NewJob("work") for _ in range(30)])]
    await wait_until(lambda: pool.active == 30)
    own_store.kill()
    await wait_until(lambda: not work.now, 5)
    assert len(work.began) == 30
    own_store.start()
    loop = asyncio.get_running_loop()
    back = loop.time()
    await wait_until(lambda: engine.store.connected)
    await engine.completed("q", *added)
    assert loop.time() - back < 2.5
    await wait_until(lambda: engine.idle("q"), 5)
    assert len(work.began) == 30
    assert (await engine.inspector.totals())["q"].completed == 30


async def test_an_update_of_a_finished_job_changes_nothing(engine: EngineHarness) -> None:
    work = runs(engine, 0.2)
    pool = await engine.start_pool()
    await put_job(engine.store, "q", "k", {"function": "work", "ttl": 60})
    await wait_until(lambda: work.now)
    queue = saq_queue(pool, "q")
    job = await queue.job("k")
    assert job is not None
    await engine.finished("q", "k")
    before = await stored_job(engine.store, "q", "k")
    await job.update(status=Status.ACTIVE, progress=0.5)
    await job.update()
    assert await stored_job(engine.store, "q", "k") == before
    assert 0 < await engine.store.command("TTL", "saq:job:q:k") <= 60


@pytest.mark.queues(QueueSettings("q", concurrency=20))
async def test_an_update_that_races_with_the_end_never_wins(engine: EngineHarness) -> None:

    @engine.handler("q")
    async def updating(ctx: dict[str, Any]) -> str:
        async def heartbeat() -> None:
            while not ended.is_set():
                await ctx["job"].update(progress=0.5)

        beat = asyncio.create_task(heartbeat())
        await asyncio.sleep(random.uniform(0.06, 0.1))
        ctx["beats"].append(beat)
        return "done"

    ended = asyncio.Event()
    beats: list[asyncio.Task[None]] = []
    pool = await engine.start_pool()
    saq_worker(pool, "q").context["beats"] = beats
    added = [await engine.add("q", "updating") for _ in range(20)]
    await engine.completed("q", *added)
    ended.set()
    await asyncio.gather(*beats)
    for key in added:
        assert (await stored_job(engine.store, "q", key))["status"] == "complete"
    assert await engine.store.command("LLEN", "saq:q:active") == 0


async def test_what_a_saq_clients_update_made_of_a_finished_job_is_put_right(engine: EngineHarness) -> None:
    runs(engine)
    pool = await engine.start_pool(janitor_grace=0.1)
    key = await engine.add("q", "work")
    await engine.finished("q", key)
    ended = await stored_job(engine.store, "q", key)
    # SAQ's own update() reads the status before the end and writes it after, without a TTL.
    await engine.store.command("SET", f"saq:job:q:{key}", json.dumps({**ended, "status": "active"}))
    await wait_until(lambda: _healed(engine, pool, key), 5)
    view = await engine.inspector.job("q", key)
    assert (view.state, view.result) == (State.COMPLETED, "done")


@pytest.mark.queues(QueueSettings("q", attempts=1))
async def test_a_job_given_back_by_deploys_spends_neither_attempts_nor_deliveries(engine: EngineHarness) -> None:
    work = runs(engine, 60.0)
    key = await engine.add("q", "work")
    for deploy in range(1, 5):
        pool = await engine.start_pool("one")
        await wait_until(lambda: len(work.began) == deploy)  # noqa: B023
        await pool.stop(0.0)
    view = await engine.inspector.job("q", key)
    assert (view.state, view.attempt, view.delivery) == (State.WAITING, 0, 0)
    assert [entry.event for entry in view.timeline] == ["given_back"] * 4
    work.seconds = 0.0
    await engine.start_pool("one")
    assert (await engine.finished("q", key)).state is State.COMPLETED


async def test_an_enqueue_under_a_taken_key_answers_with_the_job_that_has_it(engine: EngineHarness) -> None:
    queue = saq_queue(engine.new_pool(), "q")
    first = await queue.enqueue("work", key="k", n=1)
    again = await queue.enqueue("work", key="k", n=2)
    assert first is not None
    assert again is not None
    assert (again.key, again.kwargs) == ("k", {"n": 1})
    [added] = await engine.control.enqueue("q", [NewJob("work", {"n": 3}, key="k")])
    assert (added.created, added.key) == (False, "k")
    assert (await engine.inspector.counts("q")).waiting == 1


async def test_calls_that_lose_jobs_in_saq_are_refused(engine: EngineHarness) -> None:
    queue = saq_queue(engine.new_pool(), "q")
    job = await queue.enqueue("work", key="k")
    assert job is not None
    with pytest.raises(RequestError):
        await queue.dequeue()
    with pytest.raises(IllegalTransition):
        await job.finish(Status.COMPLETE)
    assert await queue.sweep() == []
    assert await queue.schedule() == []
    assert (await engine.inspector.counts("q")).waiting == 1


@pytest.mark.queues(QueueSettings("q", attempts=2, backoff=Backoff(600.0, 600.0)))
async def test_a_retry_after_the_time_of_the_handlers_choice_runs_once(engine: EngineHarness) -> None:
    times: list[float] = []

    @engine.handler("q")
    async def fail(_: Any) -> str:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise Retry("later", after=0.3)
        return "done"

    await engine.start_pool()
    await engine.start_pool()
    view = await engine.finished("q", await engine.add("q", "fail"))
    await wait_until(lambda: engine.idle("q"), 5)
    assert (view.state, view.attempt, len(times)) == (State.COMPLETED, 2, 2)
    assert times[1] - times[0] >= 0.3


@pytest.mark.queues(QueueSettings("q", concurrency=10, keep_completed=1000))
async def test_several_daemons_share_a_queue_and_run_each_job_once(engine: EngineHarness) -> None:
    work = runs(engine)
    pools = [await engine.start_pool() for _ in range(3)]
    await engine.control.enqueue("q", [NewJob("work") for _ in range(1000)])
    await wait_until(lambda: len(work.began) >= 1000, 10)
    await wait_until(lambda: engine.idle("q"), 5)
    assert len(work.began) == len(set(work.began)) == 1000
    assert len(pools) == await engine.store.command("ZCARD", keys.DAEMONS)


async def _healed(engine: EngineHarness, pool: Any, key: str) -> bool:
    await pool.janitor.run_once()
    return bool((await stored_job(engine.store, "q", key))["status"] == "complete")
