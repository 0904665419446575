"""What makes stock SAQ spin, hang or drain badly: `saq_defects.py` says which test is for which defect."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from typing import Any

import pytest
from saq.job import Status

from crmd.config.shipped import SHIPPED_QUEUES
from crmd.engine.admin.views import NewJob, State
from crmd.engine.maintenance import wake_listener as wake
from crmd.engine.maintenance.tick import RECONCILE_EVERY_TICKS
from crmd.engine.saq.worker import SaqWorker
from crmd.engine.settings import Backoff, QueueSettings
from crmd.engine.store import keys
from crmd.engine.store.keys import QueueKeys
from crmd.errors import JobTooLarge, StoreError, StoreFull, StoreUnavailable
from tests.support.daemon import seconds_queued
from tests.support.documents import put_job
from tests.support.engine_harness import EngineHarness, engine_harness, kill, saq_queue, watch_for_a_lease
from tests.support.fault_cost import FaultCost, fault_cost
from tests.support.proxy import proxy
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until

TEN = tuple(QueueSettings(name) for name in SHIPPED_QUEUES)


async def nothing(_: Any) -> None:
    """A handler."""


def calm(found: FaultCost) -> None:
    """What a steady fault may cost."""
    assert found.cpu < 0.10
    assert found.pulse >= 0.95
    assert found.lines_per_second <= 2, found.lines


# The store is unavailable, or refuses


@pytest.mark.queues(*TEN)
async def test_a_dead_store_costs_nearly_nothing(engine: EngineHarness, own_store: StoreServer) -> None:
    await engine.start_pool()
    await asyncio.sleep(0.3)
    own_store.kill()
    async with fault_cost(engine.store.events) as found:
        await asyncio.sleep(2.0)
    calm(found)
    own_store.start()
    engine.handle("email", "nothing", nothing)
    await wait_until(lambda: engine.store.connected, 2)
    await engine.finished("email", await engine.add("email", "nothing"), 2)


@pytest.mark.queues(*TEN)
async def test_a_store_that_dies_while_queues_start_costs_nearly_nothing(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    starting = asyncio.create_task(engine.start_pool())
    await asyncio.sleep(0.01)
    own_store.kill()
    async with fault_cost(engine.store.events) as found:
        await asyncio.sleep(1.0)
    calm(found)
    await asyncio.wait([starting])
    if starting.exception():
        assert isinstance(starting.exception(), StoreUnavailable)


@pytest.mark.queues(*TEN)
async def test_a_frozen_store_is_noticed_and_every_call_answers(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    await engine.start_pool()
    with own_store.paused():
        began = time.monotonic()
        async with fault_cost(engine.store.events) as found:
            calls = (
                engine.inspector.all_counts(),
                engine.inspector.jobs("email"),
                engine.add("email", "x"),
                engine.inspector.daemons(),
            )
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert time.monotonic() - began < HANG_S
            assert {type(answer) for answer in answers} == {StoreUnavailable}
            assert not engine.store.connected
            again = asyncio.create_task(engine.inspector.counts("email"))
            await asyncio.sleep(0)
            assert again.done(), "it is known, and not asked again"
            assert isinstance(again.exception(), StoreUnavailable)
        calm(found)
    await asyncio.wait_for(engine.store.wait_connected(), HANG_S)
    assert (await engine.inspector.counts("email")).waiting <= 1


@pytest.mark.queues(*TEN)
async def test_an_acl_that_denies_what_queues_need_is_said_and_costs_little(
    engine: EngineHarness,
    own_store: StoreServer,
) -> None:
    pool = await engine.start_pool()
    engine.handle("email", "nothing", nothing)
    await pool.wake_listener.ready.wait()
    with own_store.client() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-evalsha", "-blmove", "-eval", "-hgetall")
        async with fault_cost(engine.store.events) as found:
            for name in SHIPPED_QUEUES:
                await engine.store.command("RPUSH", f"saq:{name}:queued", "x")
            await asyncio.sleep(2.0)
        assert found.cpu < 0.10
        assert found.pulse >= 0.95
        assert len(found.lines) <= 12, found.lines  # one for each queue
        assert any("evalsha" in reason for reason in pool.degraded.values())
        admin.execute_command("ACL", "SETUSER", "default", "+@all")
    assert (await engine.finished("email", await engine.add("email", "nothing"), 5)).state is State.COMPLETED
    await wait_until(lambda: not pool.degraded)


@pytest.mark.queues(*TEN)
async def test_a_connected_store_that_takes_no_writes_is_said_and_costs_little(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    pool = await engine.start_pool()
    engine.handle("email", "nothing", nothing)
    await pool.wake_listener.ready.wait()
    with own_store.client() as admin:
        admin.config_set("min-replicas-to-write", 1)
        for name in SHIPPED_QUEUES:
            pool.workers[name].claim_now()
        async with fault_cost(engine.store.events) as found:
            await asyncio.sleep(2.0)
        assert found.cpu < 0.10
        assert found.pulse >= 0.95
        assert len(found.lines) <= 12, found.lines
        assert "replicas" in pool.degraded["email"]
        admin.config_set("min-replicas-to-write", 0)
    assert (await engine.finished("email", await engine.add("email", "nothing"), 5)).state is State.COMPLETED
    await wait_until(lambda: not pool.degraded)


@pytest.mark.usefixtures("own_store")
@pytest.mark.queues(QueueSettings("q", unique_for_seconds=60))
async def test_a_wrong_type_where_daemons_tell_of_unique_for_stops_nobody(engine: EngineHarness) -> None:
    engine.handle("q", "nothing", nothing)
    await engine.store.command("SET", "crmd:unique_for", "wrong")
    pool = await engine.start_pool()
    await engine.finished("q", await engine.add("q", "nothing"))
    await pool.tick.announce()
    assert await engine.store.command("ZSCORE", keys.DAEMONS, pool.context.instance_id)
    assert await engine.store.command("HGETALL", "crmd:unique_for") == [b"q", b"60000"]


@pytest.mark.usefixtures("own_store")
@pytest.mark.queues(QueueSettings("bad"), QueueSettings("good"))
async def test_one_queues_broken_leases_neither_keep_the_dead_on_the_list_nor_fill_the_log(
    engine: EngineHarness,
) -> None:
    dead = await engine.start_pool()
    await engine.store.command("SET", QueueKeys("bad").leases, "wrong")
    pool = await engine.start_pool()
    await kill(dead)
    await watch_for_a_lease(pool)
    await pool.tick.stop()
    told: list[str] = []
    engine.store.events.subscribe(lambda name, _: told.append(name))
    for _ in range(3):
        await pool.tick.run_once()
    assert await engine.store.command("ZRANGE", keys.DAEMONS, 0, -1) == [pool.context.instance_id.encode()]
    pool.recoverer.observer.found_unlisted(["another"])
    for _ in range(3):
        await pool.recoverer.run_once({"another": ""})
    assert told.count("queue.degraded") <= 1
    await engine.store.command("DEL", QueueKeys("bad").leases)


async def test_wrong_types_at_every_structural_key_degrade_their_queue_only(own_store: StoreServer) -> None:
    parts = [name for name, value in vars(QueueKeys("x")).items() if value in _structures("x")]
    assert len(parts) >= 22
    broken = {f"bad-{part}": part for part in parts}
    settings = [QueueSettings(name, backoff=Backoff(0.01, 0.01)) for name in (*broken, "good")]
    async with engine_harness(own_store.url, *settings) as engine:
        for name in (*broken, "good"):
            engine.handle(name, "nothing", nothing)
        keys = {name: await engine.add(name, "nothing") for name in broken}
        for name, part in broken.items():
            at = getattr(QueueKeys(name), part)
            if await engine.store.command("EXISTS", at):
                await engine.store.command("RENAME", at, f"kept:{at}")
            wrong = ("LPUSH", at, "x") if await _is_string(part) else ("SET", at, "wrong")
            await engine.store.command(*wrong)
        pool = await engine.start_pool()
        async with fault_cost(engine.store.events) as found:
            await engine.control.enqueue("good", [NewJob("nothing") for _ in range(1000)])
            await put_job(engine.store, "good", "due", {"function": "nothing"}, due=time.time() + 1)
            await wait_until(lambda: _completed(engine, "good", 1001), 2.5)
            counts = await engine.inspector.all_counts()
            assert set(counts) == {*broken, "good"}
            assert counts["good"].waiting == 0
            await engine.inspector.metrics()
            await engine.inspector.totals()
            await asyncio.sleep(1.0)
        assert found.pulse >= 0.9
        assert found.cpu < 0.6  # most of it is the thousand jobs
        assert "good" not in pool.degraded
        assert {"bad-queued", "bad-incomplete", "bad-leases"} <= set(pool.degraded)
        assert not await _problems(pool)
        for name, part in broken.items():
            at = getattr(QueueKeys(name), part)
            await engine.store.command("DEL", at)
            if await engine.store.command("EXISTS", f"kept:{at}"):
                await engine.store.command("RENAME", f"kept:{at}", at)
        await engine.control.resume("bad-paused")
        for name, key in keys.items():
            assert (await engine.finished(name, key, 5)).state is State.COMPLETED
        await wait_until(lambda: not pool.degraded, 3)


@pytest.mark.queues(QueueSettings("q", attempts=2, backoff=Backoff(0.05, 0.05)))
async def test_at_the_memory_limit_the_backlog_drains_and_new_jobs_are_refused(
    engine: EngineHarness, own_store: StoreServer
) -> None:

    @engine.handler("q")
    async def work(ctx: dict[str, Any], n: int) -> None:
        if n % 100 == 0 and ctx["job"].attempts < 2:
            raise ValueError("once more")
        if n % 100 == 1:
            await asyncio.sleep(0.1)

    await engine.control.enqueue("q", [NewJob("work", {"n": n}) for n in range(500)])
    with own_store.client() as admin:
        admin.config_set("maxmemory", 1)
        pool = await engine.start_pool()
        await wait_until(lambda: _ended(engine, "q", 500), 10)
        await pool.tick.run_once()
        with pytest.raises(StoreFull):
            await engine.add("q", "work", n=2)
        async with fault_cost(engine.store.events) as found:
            await asyncio.sleep(2.0)
        calm(found)
        counts = await engine.inspector.counts("q")
        assert (counts.waiting, counts.active, counts.failed) == (0, 0, 0)
        admin.config_set("maxmemory", 0)
    await pool.tick.run_once()
    await engine.store.probe()
    assert (await engine.finished("q", await engine.add("q", "work", n=2))).state is State.COMPLETED


async def test_new_jobs_are_refused_before_the_memory_limit_is_reached(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    with own_store.client() as admin:
        used = int(admin.info("memory")["used_memory"])
        admin.config_set("maxmemory", int(used * 1.1))
        await engine.store.probe()
        with pytest.raises(StoreFull, match="full"):
            await engine.add("q", "work")
        admin.config_set("maxmemory", used * 10)
        await engine.store.probe()
    await engine.add("q", "work")


async def test_a_wake_connection_that_died_silently_is_noticed(
    own_store: StoreServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wake, "PING_EVERY_S", 0.2)
    monkeypatch.setattr(wake, "RECONNECT_S", 0.1)
    async with proxy(own_store.socket) as between, engine_harness(between.url, QueueSettings("q")) as engine:
        engine.handle("q", "nothing", nothing)
        pool = await engine.start_pool()
        subscribe = b"*2\r\n$9\r\nSUBSCRIBE"

        def answered() -> bool:
            """Whether it listens on a connection that sent a third ping: no ping follows one without an answer."""
            lines = [line.said for line in between._lines if subscribe in line.said]
            return pool.wake_listener.ready.is_set() and any(said.count(b"PING") >= 3 for said in lines)

        await wait_until(answered, 20)
        assert between.mute(subscribe.decode()) >= 1
        [added] = await engine.control.enqueue("q", [NewJob("nothing", priority=1)])
        await wait_until(lambda: _completed(engine, "q", 1), 10)
        assert (await engine.inspector.job("q", added.key)).state is State.COMPLETED


async def test_a_wake_up_that_was_lost_is_made_up_for(engine: EngineHarness) -> None:
    engine.handle("q", "nothing", nothing)
    pool = await engine.start_pool()
    await pool.wake_listener.stop()
    await asyncio.sleep(0.1)
    await engine.control.enqueue("q", [NewJob("nothing", priority=1)])
    pool.tick._ticks = RECONCILE_EVERY_TICKS - 1
    await pool.tick.run_once()
    await wait_until(lambda: _completed(engine, "q", 1), 1)


@pytest.mark.queues(QueueSettings("q", concurrency=1, timeout_seconds=None), QueueSettings("bad"))
async def test_a_part_of_the_maintenance_that_is_refused_keeps_no_other_from_its_work(
    engine: EngineHarness,
    own_store: StoreServer,
) -> None:
    await engine.store.command("SET", "saq:bad:stats", "wrong")
    await engine.store.command("ZADD", "saq:q:stats", time.time() * 1000 + 60_000, "saq:q:worker_info:theirs")
    pool = await engine.start_pool()
    await pool.tick.stop()
    pool.tick._ticks = 0
    with own_store.client() as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-scan")  # the janitor's
        await pool.tick.run_once()
    names = [(name, fields.get("worker")) for name, fields in engine.events if name == "queue.foreign_worker"]
    assert names == [("queue.foreign_worker", "theirs")]


# Stops


def test_workers_take_no_signals() -> None:
    assert SaqWorker.SIGNALS == []


async def test_ten_queues_start_and_stop_without_touching_signals_and_at_once(store_url: str) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with engine_harness(store_url, *TEN) as engine:
        pool = await engine.start_pool()
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
        await asyncio.sleep(0.3)  # all peeks block now
        began = time.monotonic()
        await pool.stop(30.0)
        assert time.monotonic() - began < HANG_S
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.queues(QueueSettings("q", concurrency=5))
async def test_no_job_starts_during_a_drain(engine: EngineHarness) -> None:
    started, go = list[float](), asyncio.Event()

    @engine.handler("q")
    async def work(_: Any) -> None:
        started.append(time.monotonic())
        await go.wait()

    pool = await engine.start_pool()
    await engine.control.enqueue("q", [NewJob("work") for _ in range(20)])
    await wait_until(lambda: len(started) == 5)
    stopping = asyncio.create_task(pool.stop(5.0))
    await engine.control.enqueue("q", [NewJob("work") for _ in range(5)])
    go.set()
    report = await stopping
    assert (len(started), report.finished, report.given_back) == (5, 5, 0)
    counts = await engine.inspector.counts("q")
    assert (counts.waiting, counts.active, counts.completed) == (20, 0, 5)


class Stubborn:
    """A handler that ignores being cancelled. A second time, at the end of the loop, it heeds it."""

    def __init__(self) -> None:
        self.released = asyncio.Event()
        self.started = asyncio.Event()

    async def __call__(self, _: Any) -> None:
        self.started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await self.released.wait()
        await self.released.wait()


@pytest.mark.queues(QueueSettings("q", timeout_seconds=None))
async def test_a_handler_that_ignores_cancellation_does_not_hold_up_a_stop(engine: EngineHarness) -> None:
    stubborn = Stubborn()
    engine.handle("q", "stubborn", stubborn.__call__)
    pool = await engine.start_pool()
    key = await engine.add("q", "stubborn")
    await stubborn.started.wait()
    began = time.monotonic()
    report = await pool.stop(0.5)
    assert time.monotonic() - began < HANG_S
    assert report.leaked == 1
    assert (await engine.inspector.job("q", key)).state is State.WAITING
    stubborn.released.set()
    await wait_until(lambda: pool.leaked == 0)


@pytest.mark.queues(QueueSettings("q", concurrency=2, attempts=1))
async def test_a_handler_that_ignores_its_timeout_frees_its_slot_and_delays_no_cancel(
    engine: EngineHarness,
) -> None:
    stubborn = Stubborn()
    long = asyncio.Event()

    @engine.handler("q")
    async def wait(_: Any) -> None:
        long.set()
        await asyncio.sleep(60)

    engine.handle("q", "stubborn", stubborn.__call__)
    engine.handle("q", "nothing", nothing)
    pool = await engine.start_pool()
    await pool.wake_listener.ready.wait()
    await put_job(engine.store, "q", "stubborn", {"function": "stubborn", "timeout": 0.3})
    waiting = await engine.add("q", "wait")
    await asyncio.gather(stubborn.started.wait(), long.wait())
    await engine.control.cancel("q", waiting)
    assert (await engine.finished("q", waiting)).state is State.CANCELLED
    assert (await engine.inspector.job("q", "stubborn")).state is State.ACTIVE, "its grace is not over yet"
    assert (await engine.finished("q", "stubborn")).state is State.FAILED
    both = [await engine.add("q", "nothing") for _ in range(2)]
    for key in both:
        await engine.finished("q", key, 1)
    stubborn.released.set()
    await wait_until(lambda: pool.leaked == 0)


@pytest.mark.queues(QueueSettings("q", concurrency=4, attempts=1, timeout_seconds=0.3))
async def test_a_thread_that_ignores_its_timeout_stalls_neither_the_loop_nor_the_stop(
    engine: EngineHarness,
) -> None:
    released, started = threading.Event(), list[int]()

    @engine.handler("q")
    def block(_: Any) -> None:
        started.append(1)
        released.wait(20)

    @engine.handler("q")
    def quick(_: Any) -> str:
        return "done"

    pool = await engine.start_pool()
    try:
        blocked = [await engine.add("q", "block") for _ in range(4)]
        async with fault_cost(engine.store.events) as found:
            for key in blocked:
                assert (await engine.finished("q", key)).state is State.FAILED
            assert (await engine.finished("q", await engine.add("q", "quick"), 2)).result == "done"
            assert len(started) == 4
            began = time.monotonic()
            report = await pool.stop(0.5)
            assert time.monotonic() - began < HANG_S
            assert report.leaked == 4
        assert found.lag < 0.1
        assert found.pulse >= 0.95
    finally:
        released.set()
    await wait_until(lambda: pool.context.threads.leaked == 0)


# Sizes and rates


async def test_pages_of_jobs_follow_one_another(engine: EngineHarness) -> None:
    for n in range(25):
        await engine.control.enqueue("q", [NewJob("work", key=f"{n:02}")])
    queue = saq_queue(engine.new_pool(), "q")
    pages = [await queue.info(jobs=True, offset=offset, limit=10) for offset in (0, 10, 20, 30)]
    assert [len(page["jobs"]) for page in pages] == [10, 10, 5, 0]
    assert [job["key"] for page in pages for job in page["jobs"]] == [f"{n:02}" for n in range(25)]
    assert {job.key async for job in queue.iter_jobs([Status.QUEUED], batch_size=10)} == {
        f"{n:02}" for n in range(25)
    }
    assert [job async for job in queue.iter_jobs([Status.COMPLETE])] == []


async def test_ten_idle_queues_need_few_connections_and_few_trips(own_store: StoreServer) -> None:
    async with proxy(own_store.socket) as between, engine_harness(between.url, *TEN) as engine:
        pool = await engine.start_pool()
        await pool.wake_listener.ready.wait()
        await asyncio.sleep(1.2)
        before = between.requests
        async with fault_cost(engine.store.events) as found:
            await asyncio.sleep(3.0)
        assert between.connections <= 15
        assert (between.requests - before) / found.seconds <= 5
        assert found.cpu < 0.05


async def test_large_jobs_are_refused(engine: EngineHarness) -> None:
    with pytest.raises(JobTooLarge):
        await engine.add("q", "work", text="x" * 256 * 1024)
    queue = saq_queue(engine.new_pool(), "q")
    with pytest.raises(JobTooLarge):
        await queue.enqueue("work", text="x" * 256 * 1024)
    await engine.add("q", "work", text="x" * 250 * 1024)


async def test_a_short_job_is_written_once_after_its_enqueue(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    engine.handle("q", "nothing", nothing)
    await engine.control.enqueue("q", [NewJob("nothing") for _ in range(200)])
    with own_store.client() as admin:
        admin.config_resetstat()
        await engine.start_pool()
        await wait_until(lambda: _ended(engine, "q", 200))
        calls = {name: stat["calls"] for name, stat in admin.info("commandstats").items()}
    assert calls.get("cmdstat_set", 0) <= 5  # no job was marked, or written one by one
    assert 1 <= calls["cmdstat_mset"] <= calls["cmdstat_evalsha"]
    assert calls["cmdstat_publish"] <= 205
    assert calls["cmdstat_evalsha"] < 100


@pytest.mark.queues(QueueSettings("q", concurrency=50, keep_completed=100))
async def test_due_jobs_are_promoted_in_batches(engine: EngineHarness, own_store: StoreServer) -> None:
    engine.handle("q", "nothing", nothing)
    documents = [NewJob("nothing", at=time.time() + 0.5) for _ in range(5_000)]
    await engine.control.enqueue("q", documents)
    with own_store.client() as admin:
        admin.config_set("slowlog-log-slower-than", 20_000)
        admin.slowlog_reset()
        admin.config_resetstat()
        queued = seconds_queued(own_store.pid)
        await engine.start_pool()
        await wait_until(lambda: _ended(engine, "q", 5_000), 10)
        assert admin.info("commandstats")["cmdstat_rpush"]["calls"] >= 5_000 / 200
        slow = [entry["duration"] / 1e6 for entry in admin.slowlog_get(100)]
        # The store shares its processors: it may have waited for them meanwhile.
        assert len(slow) <= 2 or sum(slow) <= seconds_queued(own_store.pid) - queued + 0.04


@pytest.mark.queues(QueueSettings("q", concurrency=1))
async def test_a_due_job_goes_before_what_comes_later_though_all_slots_are_busy(engine: EngineHarness) -> None:
    order, go = list[str](), asyncio.Event()

    @engine.handler("q")
    async def work(ctx: dict[str, Any]) -> None:
        order.append(ctx["job"].key)
        await go.wait()

    await engine.start_pool()
    await engine.control.enqueue("q", [NewJob("work", key="busy"), NewJob("work", key="due", delay=0.1)])

    async def waits() -> bool:
        counts = await engine.inspector.counts("q")
        return (counts.waiting, counts.delayed) == (1, 0)

    await wait_until(waits, 3)
    await engine.control.enqueue("q", [NewJob("work", key="later")])
    go.set()
    await engine.finished("q", "later")
    assert order == ["busy", "due", "later"]


def _structures(queue: str) -> set[str]:
    return {
        value
        for name, value in vars(QueueKeys(queue)).items()
        if isinstance(value, str) and not name.endswith("prefix") and name not in ("name", "stats")
    }


async def _is_string(part: str) -> bool:
    return part == "blocked"


async def _completed(engine: EngineHarness, queue: str, count: int) -> bool:
    return (await engine.inspector.totals())[queue].completed == count


async def _ended(engine: EngineHarness, queue: str, count: int) -> bool:
    try:
        return (await engine.inspector.totals())[queue].completed == count
    except StoreError:
        return False


async def _problems(pool: Any) -> list[str]:
    """Parts of the daemon that ended though they should run for ever."""
    tasks = [
        pool.tick._task,
        pool.wake_listener._task,
        *(pump for worker in pool.workers.values() for pump in worker._pumps),
    ]
    return [repr(task) for task in tasks if task.done()]
