"""Jobs that stock SAQ loses or leaves stuck: `saq_defects.py` says which test is for which defect."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from crmd.engine.admin.views import NewJob, State
from crmd.engine.maintenance.heartbeat import host_prefix
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import Backoff, QueueSettings
from crmd.engine.store.keys import QueueKeys
from crmd.errors import IllegalTransition, StoreError
from tests.support.config import ConfigBench
from tests.support.documents import put_job, stored_job
from tests.support.engine_harness import EngineHarness, engine_harness, kill, saq_queue, watch_for_a_lease
from tests.support.proxy import proxy
from tests.support.store import StoreServer
from tests.support.storeclock import freeze
from tests.support.wait import HANG_S, wait_until

FAST = Backoff(base_seconds=0.02, max_seconds=0.05)


class Held:
    """A handler whose jobs run until they are let go."""

    def __init__(self) -> None:
        self.starts = 0
        self.go = asyncio.Event()

    async def __call__(self, _: Any) -> str:
        self.starts += 1
        await self.go.wait()
        return "done"


def held(engine: EngineHarness, queue: str = "q", *, released: bool = False) -> Held:
    """Makes a held handler known under the name `work`."""
    handler = Held()
    engine.handle(queue, "work", handler.__call__)
    if released:
        handler.go.set()
    return handler


# Killed daemons


@pytest.mark.queues(QueueSettings("q", attempts=1))
async def test_a_job_of_one_attempt_runs_again_when_its_daemon_is_killed(engine: EngineHarness) -> None:
    work, key = await _orphan(engine)
    work.go.set()
    await engine.start_pool("one")
    view = await engine.finished("q", key, 5)
    assert (view.state, view.attempt, work.starts) == (State.COMPLETED, 1, 2)


@pytest.mark.parametrize("document", [{"timeout": 0}, {"timeout": 0, "heartbeat": 0, "retries": 1}, {}])
@pytest.mark.queues(QueueSettings("q", timeout_seconds=None))
async def test_a_job_without_a_time_limit_runs_again_when_its_daemon_is_killed(
    engine: EngineHarness, document: dict[str, Any]
) -> None:
    work = held(engine)
    pool = await engine.start_pool("one")
    await put_job(engine.store, "q", "k", {"function": "work", **document})
    await wait_until(lambda: work.starts == 1)
    await wait_until(lambda: _status(engine, "k", "active"))
    await kill(pool)
    work.go.set()
    await engine.start_pool("one")
    assert (await engine.finished("q", "k", 5)).state is State.COMPLETED
    assert await engine.store.command("LLEN", "saq:q:active") == 0


@pytest.mark.queues(QueueSettings("q", concurrency=1000, keep_completed=1000))
async def test_a_thousand_jobs_of_a_killed_daemon_run_again_within_two_seconds(engine: EngineHarness) -> None:
    work = held(engine)
    pool = await engine.start_pool("one")
    await engine.control.enqueue("q", [NewJob("work") for _ in range(1000)])
    await wait_until(lambda: work.starts == 1000, 10)
    await kill(pool)
    began = time.monotonic()
    await engine.start_pool("one")
    await wait_until(lambda: work.starts == 2000, 10)
    assert time.monotonic() - began < HANG_S  # a second on a machine at rest; by a sweep, minutes
    work.go.set()
    await wait_until(lambda: _completed(engine, 1000), 10)


@pytest.mark.queues(QueueSettings("q", concurrency=20))
async def test_another_daemon_takes_the_jobs_of_a_dead_one_when_its_lease_is_over(engine: EngineHarness) -> None:
    work = held(engine)
    dead = await engine.start_pool()
    await engine.control.enqueue("q", [NewJob("work") for _ in range(20)])
    await wait_until(lambda: work.starts == 20)
    other = await engine.start_pool()
    await kill(dead)
    await watch_for_a_lease(other)
    work.go.set()
    await wait_until(lambda: work.starts == 40, 5)
    await wait_until(lambda: _completed(engine, 20), 5)
    assert (await engine.inspector.totals())["q"].lost == 20


async def test_leases_that_ran_out_while_the_store_was_away_are_not_believed(engine: EngineHarness) -> None:
    work, key, other = await _not_renewed(engine)
    engine.store.connected_since = time.monotonic()  # as after a reconnect
    await _is_not_lost(engine, work, key, other)


async def test_leases_that_nobody_could_renew_are_not_believed(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    work, key, other = await _not_renewed(engine)
    with own_store.client() as admin:  # as on a full disk
        admin.execute_command("ACL", "SETUSER", "default", "-zadd")
        with pytest.raises(StoreError):
            await other.tick.announce()
        admin.execute_command("ACL", "SETUSER", "default", "+@all")
    await _is_not_lost(engine, work, key, other)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 4, 6, 9, 14])
@pytest.mark.queues(QueueSettings("q", concurrency=30))
async def test_a_recovery_that_is_cut_short_anywhere_loses_no_job(engine: EngineHarness, turns: int) -> None:
    starts: list[str] = []
    go = asyncio.Event()

    @engine.handler("q")
    async def work(ctx: dict[str, Any]) -> None:
        starts.append(ctx["job"].key)
        await go.wait()

    pool = await engine.start_pool("one")
    await engine.control.enqueue("q", [NewJob("work") for _ in range(30)])
    await wait_until(lambda: len(starts) == 30)
    begun, poison, *others = pool.workers["q"].executor.executions.values()
    await pool.workers["q"].scripts.begin_effect(begun.job_id, begun.token)
    await engine.store.command("HSET", "crmd:q:q:crashes", poison.job_id, 2)
    await kill(pool)
    go.set()
    successor = engine.new_pool("one")
    starting = asyncio.create_task(successor.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    await kill(successor)
    await engine.start_pool("one")
    await engine.completed("q", *(run.key for run in others))
    assert (await engine.finished("q", begun.key, 5)).state is State.UNKNOWN
    assert "poison" in ((await engine.finished("q", poison.key, 5)).error or "")
    assert (starts.count(begun.key), starts.count(poison.key)) == (1, 1)


async def test_what_a_recovery_took_over_and_could_not_settle_keeps_its_outcome(engine: EngineHarness) -> None:
    work = held(engine)
    pool = await engine.start_pool("one")
    added = [await engine.add("q", "work") for _ in range(3)]
    await wait_until(lambda: work.starts == 3)
    begun, aborted, other = (pool.workers["q"].executor.executions[f"saq:job:q:{key}"] for key in added)
    await pool.workers["q"].scripts.begin_effect(begun.job_id, begun.token)
    await engine.control.cancel("q", aborted.key, "not wanted")
    await kill(pool)
    work.go.set()
    # The recovery's answer is lost, or its daemon's connection: the leases are the new daemon's by now.
    successor = engine.new_pool("one")
    await successor.workers["q"].scripts.recover(
        successor.context.instance_id, host_prefix("one"), next(successor.context.tokens)
    )
    await successor.start()
    assert (await engine.finished("q", begun.key, 5)).state is State.UNKNOWN
    view = await engine.finished("q", aborted.key, 5)
    assert (view.state, view.error) == (State.CANCELLED, "not wanted")
    assert (await engine.finished("q", other.key, 5)).state is State.COMPLETED
    assert work.starts == 4


async def test_a_crash_looping_job_stays_one_when_it_is_given_back(engine: EngineHarness) -> None:
    work = held(engine)
    key = await _crash_looping(engine)
    pool = await engine.start_pool("one")
    await wait_until(lambda: work.starts == 1)
    await pool.stop(0.0)
    # Its next run is alone again: jobs beside it would be blamed for its third death.
    assert await engine.store.command("LRANGE", "crmd:q:q:suspects", 0, -1) == [f"saq:job:q:{key}".encode()]
    work.go.set()
    await engine.start_pool("one")
    assert ((await engine.finished("q", key)).state, work.starts) == (State.COMPLETED, 2)


async def test_a_crash_looping_job_whose_claim_is_lost_is_tried_again(
    own_store: StoreServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with proxy(own_store.socket) as between, engine_harness(between.url, QueueSettings("q")) as engine:
        work = held(engine, released=True)
        key = await _crash_looping(engine)
        unique_prefix = QueueKeys("q").unique_prefix
        between.lose_reply(
            f"{unique_prefix}\r\n$1\r\n2\r\n$1\r\n1\r\n"
        )  # the claim of one slot: others ask for more
        await engine.start_pool("one")
        await wait_until(between.lost.is_set, 5)
        assert work.starts == 0
        await wait_until(lambda: work.starts == 1, 15)
        await wait_until(lambda: engine.store.connected)
        assert (await engine.finished("q", key)).state is State.COMPLETED
        gc.collect()
        assert "never retrieved" not in caplog.text


# What is stored


@pytest.mark.parametrize(
    "document",
    [
        b"not json",
        b"",
        b"[]",
        b"null",
        b'"text"',
        b'{"function": "work"',
        b"{}",
        b'{"function": 5}',
        b'{"function": "work", "kwargs": [1]}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
async def test_what_is_no_job_is_set_aside_once_and_the_others_run(engine: EngineHarness, document: bytes) -> None:
    held(engine, released=True)
    await put_job(engine.store, "q", "bad", document)
    key = await engine.add("q", "work")
    before = await engine.inspector.jobs("q")
    json.dumps([view.to_json() for view in before.jobs])
    pool = await engine.start_pool()
    assert isinstance(await saq_queue(pool, "q").info(jobs=True), dict)
    assert (await engine.finished("q", key)).state is State.COMPLETED
    await wait_until(lambda: [name for name, _ in engine.events].count("job.quarantined") == 1)
    await pool.tick.run_once()
    assert await engine.store.command("LLEN", "crmd:q:q:quarantine") == 1
    assert await engine.store.command("EXISTS", "saq:job:q:bad") == 0
    counts = await engine.inspector.counts("q")
    assert (counts.waiting, counts.active) == (0, 0)


async def test_a_running_job_that_becomes_unreadable_does_not_stop_the_recovery_of_others(
    engine: EngineHarness,
) -> None:
    work = held(engine)
    pool = await engine.start_pool("one")
    first, second, third = [await engine.add("q", "work") for _ in range(3)]
    await wait_until(lambda: work.starts == 3)
    await wait_until(lambda: _status(engine, third, "active"))
    await kill(pool)
    await engine.store.command("SET", f"saq:job:q:{first}", b"not json")
    await engine.store.command("DEL", f"saq:job:q:{second}")
    work.go.set()
    await engine.start_pool("one")
    assert (await engine.finished("q", third)).state is State.COMPLETED
    await wait_until(lambda: [name for name, _ in engine.events].count("job.quarantined") == 1)
    await wait_until(lambda: engine.idle("q"))


@pytest.mark.parametrize(
    "fields",
    [
        {"queue": None},
        {"queue": "other"},
        {"tenant": "one", "status": "queued"},
        {"status": "no such status"},
        {"attempts": "many", "queued": "yesterday", "scheduled": None, "progress": "half", "meta": None},
        {"retries": -5, "retry_delay": "x", "retry_backoff": "y", "timeout": "z", "ttl": "w"},
        {"queued": 1e300, "scheduled": 1e300, "started": float("nan"), "completed": -1},
        {"ttl": 10**15},
        {"ttl": 10**30, "timeout": 1e300, "attempts": 10**30},
        {"ttl": True, "retries": True, "timeout": False, "priority": "high"},
        {"kwargs": None, "error": {"not": "text"}, "result": [1], "worker_id": 7},
    ],
)
@pytest.mark.queues(QueueSettings("q", backoff=FAST))
async def test_a_job_with_odd_fields_runs_and_is_shown(engine: EngineHarness, fields: dict[str, Any]) -> None:
    work = held(engine)
    await put_job(engine.store, "q", "odd", {"function": "work", **fields})
    await put_job(engine.store, "q", "odd fails", {"function": "fail", **fields})

    @engine.handler("q")
    async def fail(_: Any) -> None:
        raise ValueError("no luck")

    await _show(engine)
    await engine.start_pool()
    key = await engine.add("q", "work")
    await wait_until(lambda: work.starts == 2)
    await wait_until(lambda: _status(engine, "odd", "active"))
    await _show(engine)
    work.go.set()
    assert (await engine.finished("q", "odd", 5)).state is State.COMPLETED
    assert (await engine.finished("q", "odd fails", 5)).state is State.FAILED
    assert (await engine.finished("q", key, 5)).state is State.COMPLETED
    await _show(engine)


# Schedules


@pytest.mark.parametrize("cron", ["0 0 30 2 *", "0 0 31 4,6 *", "61 * * * *", "* * *", "every day"])
def test_an_impossible_cron_is_refused_with_its_reason(cron: str, tmp_path: Path) -> None:
    text = f'[schedules.never]\nqueue = "analytics"\njob = "snapshot"\ncron = "{cron}"\n'
    [problem] = ConfigBench(tmp_path).problems(text)
    assert problem.key == "schedules.never.cron"
    assert cron in problem.reason


def test_two_schedules_of_one_job_are_two(tmp_path: Path) -> None:
    job = 'queue = "analytics"\njob = "snapshot"\n'
    text = f'[schedules.a]\n{job}cron = "@daily"\n[schedules.b]\n{job}cron = "@hourly"\n'
    schedules = ConfigBench(tmp_path).load(text).settings.schedules
    assert {name: schedules[name].cron for name in ("a", "b")} == {"a": "@daily", "b": "@hourly"}


async def test_delayed_jobs_run_whatever_cron_jobs_a_saq_worker_left(engine: EngineHarness) -> None:
    held(engine, released=True)
    # What SAQ's worker leaves: a cron job in its slot, one long past, and one of a function that is gone.
    await put_job(engine.store, "q", "cron:work", {"function": "work"}, due=time.time() + 0.3)
    await put_job(engine.store, "q", "cron:past", {"function": "work"}, due=time.time() - 3600)
    await put_job(engine.store, "q", "cron:yearly", {"function": "work"}, due=time.time() + 300_000)
    await put_job(engine.store, "q", "cron:gone", {"function": "gone"}, due=time.time() - 1)
    await engine.start_pool()
    [delayed] = await engine.control.enqueue("q", [NewJob("work", delay=0.5)])
    await engine.completed("q", "cron:work", "cron:past", delayed.key)
    await engine.control.delete("q", "cron:yearly")
    view = await engine.inspector.job("q", "cron:gone")
    assert (view.state, view.error) == (State.DELAYED, "no job 'gone' in queue q; known: work")


# Handlers


@pytest.mark.parametrize(
    "error",
    [
        asyncio.CancelledError(),
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit(),
        MemoryError(),
        RecursionError(),
        StopAsyncIteration(),
        BaseExceptionGroup("several", [SystemExit(), ValueError()]),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
@pytest.mark.queues(QueueSettings("q", concurrency=1, attempts=2, backoff=FAST, timeout_seconds=None))
async def test_whatever_a_handler_raises_its_job_fails_and_the_next_runs(
    engine: EngineHarness, error: BaseException, sync: bool
) -> None:
    runs: list[int] = []

    def fail(_: Any) -> None:
        runs.append(1)
        raise error

    async def fail_async(_: Any) -> None:
        fail(_)

    engine.handle("q", "fail", fail if sync else fail_async)
    held(engine, released=True)
    pool = await engine.start_pool()
    failing, following = await engine.add("q", "fail"), await engine.add("q", "work")
    view = await engine.finished("q", failing, 5)
    assert (view.state, view.attempt, len(runs)) == (State.FAILED, 2, 2)
    assert type(error).__name__ in (view.error or "")
    assert (await engine.finished("q", following, 5)).state is State.COMPLETED
    assert (pool.active, pool.leaked) == (0, 0)


@pytest.mark.queues(QueueSettings("q", attempts=1))
async def test_sys_exit_in_a_thread_fails_its_job_only(engine: EngineHarness) -> None:

    @engine.handler("q")
    def leave(_: Any) -> None:
        sys.exit("bye")

    await engine.start_pool()
    view = await engine.finished("q", await engine.add("q", "leave"), 5)
    assert view.state is State.FAILED
    assert "SystemExit: bye" in (view.error or "")


def _recursive() -> Any:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _deep() -> Any:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (lambda: {1, 2}, "not JSON"),
        (lambda: float("nan"), "not JSON"),
        (lambda: [float("inf")], "not JSON"),
        (object, "not JSON"),
        (lambda: "x" * 10_000_000, "bytes"),
        (_recursive, "not JSON"),
        (_deep, "not JSON"),
        (lambda: b"bytes", "not JSON"),
        (lambda: {("a", "b"): 1}, "not JSON"),
    ],
)
@pytest.mark.queues(QueueSettings("q", attempts=3, backoff=FAST))
async def test_a_result_that_is_no_json_fails_its_job_once(
    engine: EngineHarness, result: Callable[[], Any], reason: str
) -> None:
    runs: list[int] = []

    @engine.handler("q")
    async def odd(_: Any) -> Any:
        runs.append(1)
        return result()

    await engine.start_pool()
    view = await engine.finished("q", await engine.add("q", "odd"), 5)
    assert (view.state, view.result, len(runs)) == (State.FAILED, None, 1)
    assert reason in (view.error or "")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.queues(QueueSettings("q", attempts=2, backoff=FAST))
async def test_a_handler_that_spoils_its_payload_spoils_nothing_else(engine: EngineHarness, fails: bool) -> None:

    @engine.handler("q")
    async def spoil(ctx: dict[str, Any], items: list[Any]) -> int:
        items.append({1, 2})
        ctx["job"].kwargs["other"] = object()
        await asyncio.sleep(0.1)  # long enough to be marked as active
        if fails:
            raise ValueError("no luck")
        return len(items)

    await engine.start_pool()
    view = await engine.finished("q", await engine.add("q", "spoil", items=[1]), 5)
    assert view.payload == {"items": [1]}
    if fails:
        assert (view.state, view.attempt) == (State.FAILED, 2)
    else:
        assert (view.state, view.result) == (State.COMPLETED, 2)


async def test_a_result_beyond_64_bits_is_kept_as_it_is(engine: EngineHarness) -> None:

    @engine.handler("q")
    async def big(_: Any, n: int) -> list[int]:
        return [n, 2**70]

    await engine.start_pool()
    assert (await engine.finished("q", await engine.add("q", "big", n=2**65), 5)).result == [2**65, 2**70]


# Answers under way, and cancels


async def test_a_claim_whose_answer_is_late_when_the_daemon_stops_is_given_back(own_store: StoreServer) -> None:
    async with proxy(own_store.socket) as between, engine_harness(between.url, QueueSettings("q")) as engine:
        held(engine, released=True)
        pool = await engine.start_pool("one")
        await pool.wake_listener.ready.wait()
        between.reply_delay = 0.15
        key = await engine.add("q", "work")
        began = time.monotonic()
        await pool.stop(0.0)
        assert time.monotonic() - began < HANG_S
        between.reply_delay = 0.0
        await wait_until(lambda: engine.store.connected)
        await engine.start_pool("one")
        view = await engine.finished("q", key, 5)
        assert (view.state, view.attempt, view.delivery) == (State.COMPLETED, 1, 0)


async def test_a_finished_job_takes_no_cancel_and_keeps_its_end(engine: EngineHarness) -> None:
    held(engine, released=True)
    pool = await engine.start_pool()
    await put_job(engine.store, "q", "k", {"function": "work", "ttl": 60})
    await engine.finished("q", "k")
    before = await stored_job(engine.store, "q", "k")
    job = await saq_queue(pool, "q").job("k")
    assert job is not None
    await saq_queue(pool, "q").abort(job, "too late")  # no error, as with SAQ
    with pytest.raises(IllegalTransition):
        await engine.control.cancel("q", "k")
    assert await stored_job(engine.store, "q", "k") == before
    assert 0 < await engine.store.command("TTL", "saq:job:q:k") <= 60


async def test_what_a_saq_client_writes_over_a_finished_job_is_put_right(engine: EngineHarness) -> None:
    held(engine, released=True)
    key = await engine.add("q", "work")
    pool = await engine.start_pool(janitor_grace=0.1)
    await engine.finished("q", key)
    ended = await stored_job(engine.store, "q", key)
    # abort() of SAQ's own queue on a finished job
    await engine.store.command(
        "SET", f"saq:job:q:{key}", json.dumps({**ended, "status": "aborting", "error": "late"})
    )
    await _janitor(pool, lambda: _status(engine, key, "complete"))
    assert (await engine.inspector.job("q", key)).state is State.COMPLETED


async def test_an_abort_of_a_job_whose_daemon_is_dead_ends_it(engine: EngineHarness) -> None:
    work, key = await _orphan(engine)
    await engine.control.cancel("q", key, "not wanted")
    await engine.start_pool("one")
    view = await engine.finished("q", key, 5)
    assert (view.state, view.error, work.starts) == (State.CANCELLED, "not wanted", 1)


@pytest.mark.queues(QueueSettings("qa"), QueueSettings("qb"))
async def test_an_abort_in_one_queue_leaves_the_same_key_of_another_alone(engine: EngineHarness) -> None:
    work = held(engine, "qb")
    await engine.control.enqueue("qa", [NewJob("work", key="same")])
    await engine.control.cancel("qa", "same")
    [added] = await engine.control.enqueue("qb", [NewJob("work", key="same")])
    assert added.created
    work.go.set()
    await engine.start_pool()
    assert (await engine.finished("qb", "same")).state is State.COMPLETED
    assert (await engine.inspector.job("qa", "same")).state is State.CANCELLED


@pytest.mark.parametrize("name", ["job", "abort", "Upper", "with space", "a:b", "", "x" * 65])
def test_queue_names_that_would_meet_other_keys_are_refused(name: str, tmp_path: Path) -> None:
    problems = ConfigBench(tmp_path).problems(f'[queues."{name}"]\nattempts = 2\n')
    assert "queues" in problems[0].key


# Clocks


@pytest.mark.parametrize("step", [3600.0, -3600.0, 86_400.0])
@pytest.mark.queues(QueueSettings("q", concurrency=50))
async def test_a_step_of_the_clock_takes_no_running_job(
    engine: EngineHarness, step: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = held(engine)
    pool = await engine.start_pool()
    keys_ = [await engine.add("q", "work") for _ in range(50)]
    await put_job(engine.store, "q", "k", {"function": "work", "timeout": 600})
    await wait_until(lambda: work.starts == 50)
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + step)
    pool.context.clock.now = engine.control._now = lambda: wall() + step
    [delayed] = await engine.control.enqueue("q", [NewJob("work", delay=0.3)])
    await watch_for_a_lease(pool)
    await pool.tick.run_once()
    assert pool.active == 50
    assert all(run.cancel_reason is None for run in pool.workers["q"].executor.executions.values())
    work.go.set()
    await engine.completed("q", *keys_, "k", delayed.key)
    assert work.starts == 52
    assert (await engine.inspector.totals())["q"].lost == 0


@pytest.mark.parametrize("step_ms", [40_000, 3_600_000, -3_600_000])
@pytest.mark.queues(QueueSettings("q", concurrency=25))
async def test_a_step_of_the_stores_clock_takes_no_job_of_a_living_daemon(
    engine: EngineHarness, step_ms: int
) -> None:
    clock = await freeze(engine.store)
    work = held(engine)
    pools = [await engine.start_pool(), await engine.start_pool()]
    added = [await engine.add("q", "work") for _ in range(50)]
    await wait_until(lambda: work.starts == 50)
    for _ in range(4):
        await clock.step(step_ms)
        for pool in pools:
            await watch_for_a_lease(pool, pools)
        for pool in pools:
            await pool.tick.run_once()
    work.go.set()
    await engine.completed("q", *added)
    assert (work.starts, (await engine.inspector.totals())["q"].lost) == (50, 0)


@pytest.mark.queues(QueueSettings("q", concurrency=5))
async def test_a_dead_daemons_jobs_are_taken_though_the_stores_clock_went_back(engine: EngineHarness) -> None:
    clock = await freeze(engine.store)
    work = held(engine)
    dead = await engine.start_pool()
    await engine.control.enqueue("q", [NewJob("work") for _ in range(5)])
    await wait_until(lambda: work.starts == 5)
    other = await engine.start_pool()
    await kill(dead)
    await clock.step(-3_600_000)
    await watch_for_a_lease(other)
    work.go.set()
    await wait_until(lambda: _completed(engine, 5), 5)
    assert (work.starts, (await engine.inspector.totals())["q"].lost) == (10, 5)
    assert [daemon.id for daemon in await engine.inspector.daemons()] == [other.context.instance_id]


async def _orphan(engine: EngineHarness) -> tuple[Held, str]:
    """A job that ran when its daemon was killed, and its key."""
    work = held(engine)
    pool = await engine.start_pool("one")
    key = await engine.add("q", "work")
    await wait_until(lambda: work.starts == 1)
    await kill(pool)
    return work, key


async def _not_renewed(engine: EngineHarness) -> tuple[Held, str, WorkerPool]:
    """A job that runs, its key, and a daemon that has watched the other's lease run out."""
    work = held(engine)
    holder = await engine.start_pool()
    key = await engine.add("q", "work")
    await wait_until(lambda: work.starts == 1)
    other = await engine.start_pool()
    await holder.tick.stop()
    await holder.keeper.stop()
    await watch_for_a_lease(other)
    return work, key, other


async def _is_not_lost(engine: EngineHarness, work: Held, key: str, other: WorkerPool) -> None:
    for _ in range(3):
        await other.tick.run_once()
    assert (await engine.inspector.totals())["q"].lost == 0
    work.go.set()
    assert ((await engine.finished("q", key)).state, work.starts) == (State.COMPLETED, 1)


async def _crash_looping(engine: EngineHarness) -> str:
    """A waiting job whose daemon died twice with it."""
    key = await engine.add("q", "work")
    job_id = f"saq:job:q:{key}"
    await engine.store.command("LREM", "saq:q:queued", 0, job_id)
    await engine.store.command("HSET", "crmd:q:q:crashes", job_id, 2)
    await engine.store.command("RPUSH", "crmd:q:q:suspects", job_id)
    return key


async def _status(engine: EngineHarness, key: str, status: str) -> bool:
    return bool((await stored_job(engine.store, "q", key))["status"] == status)


async def _completed(engine: EngineHarness, count: int) -> bool:
    return (await engine.inspector.counts("q")).completed == count


async def _show(engine: EngineHarness) -> None:
    """Everything that shows jobs, as JSON."""
    shown = (await engine.inspector.jobs("q")).jobs
    json.dumps([view.to_json() for view in shown], allow_nan=False)
    page = await saq_queue(engine.new_pool(), "q").info(jobs=True, limit=100)
    assert {job["key"] for job in page["jobs"]} <= {view.key for view in shown}
    await engine.inspector.counts("q")
    await engine.inspector.metrics()


async def _janitor(pool: Any, done: Callable[[], Any]) -> None:
    async def once() -> bool:
        await pool.janitor.run_once()
        return bool(await done())

    await wait_until(once, 5)
