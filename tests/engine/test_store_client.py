"""The connection to the store: how it begins, breaks, is refused, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from redis.asyncio.connection import DefaultParser

from crmd.engine.admin.views import JobView, NewJob, State
from crmd.engine.settings import QueueSettings
from crmd.engine.store import client
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.store.translate import refuses_writes, store_error
from crmd.errors import StoreError, StoreFull, StoreUnavailable, StoreUnusable
from crmd.telemetry.events import Events
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.proxy import Proxy, proxy
from tests.support.store import StoreServer, open_store
from tests.support.wait import HANG_S, wait_until


async def refused(url: str, *, wait: bool = True) -> StoreError:
    """The error that a start ends with."""
    store = Store(StoreTarget(url), Events())
    try:
        async with asyncio.timeout(5):
            with pytest.raises(StoreError) as caught:
                await store.start(wait)
        return caught.value
    finally:
        await store.stop()


# How it begins


async def test_a_connected_store_answers_and_says_how_it_stands(store_url: str) -> None:
    async with open_store(store_url) as store:
        assert store.connected
        assert await store.command("PING") == b"PONG"
        await store.probe()
        assert store.latency_ms is not None
        assert store.latency_ms < 1000
        assert store.server.startswith(("Valkey ", "Redis "))
        assert len(store.run_id) == 40
        assert (store.last_error, store.memory_ratio) == (None, None)


async def test_a_store_that_is_away_is_waited_for(own_store: StoreServer) -> None:
    own_store.stop()
    store = Store(StoreTarget(own_store.url), Events())
    started = asyncio.create_task(store.start())
    try:
        await wait_until(lambda: store.last_error is not None)
        assert not started.done()
        own_store.start()
        await asyncio.wait_for(started, HANG_S)
        assert store.connected
    finally:
        started.cancel()
        await store.stop()


async def test_without_waiting_a_store_that_is_away_is_an_error_at_once(tmp_path: Path) -> None:
    began = time.monotonic()
    error = await refused(f"unix://{tmp_path}/nobody", wait=False)
    assert isinstance(error, StoreUnavailable)
    assert str(tmp_path / "nobody") in str(error)
    assert time.monotonic() - began < HANG_S


async def test_a_frozen_store_is_an_error_within_three_seconds(own_store: StoreServer) -> None:
    with own_store.paused():
        began = time.monotonic()
        assert isinstance(await refused(own_store.url, wait=False), StoreUnavailable)
        assert time.monotonic() - began < HANG_S


@pytest.mark.parametrize("credentials", ["?password=wrong", "?username=nobody&password=wrong", ""])
async def test_wrong_credentials_are_final_and_not_shown(own_store: StoreServer, credentials: str) -> None:
    with own_store.client() as admin:
        admin.config_set("requirepass", "right")
    error = await refused(own_store.url + credentials)
    assert isinstance(error, StoreUnusable)
    assert "password" in str(error)
    assert "wrong" not in str(error)


async def test_right_credentials_serve(own_store: StoreServer) -> None:
    with own_store.client() as admin:
        admin.config_set("requirepass", "right")
    async with open_store(f"{own_store.url}?password=right") as store:
        assert await store.command("PING") == b"PONG"


async def test_credentials_that_may_not_what_we_need_are_final(own_store: StoreServer) -> None:
    with own_store.client() as admin:
        admin.execute_command("ACL", "SETUSER", "weak", "on", ">pw", "~*", "+ping")
    assert isinstance(await refused(f"{own_store.url}?username=weak&password=pw"), StoreUnusable)


async def test_a_store_that_evicts_is_refused_with_the_remedy(own_store: StoreServer) -> None:
    with own_store.client() as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    error = await refused(own_store.url)
    assert isinstance(error, StoreUnusable)
    assert "allkeys-lru" in str(error)
    assert "noeviction" in str(error)


@pytest.mark.parametrize(
    "reply", ["NOREPLICAS Not enough good replicas to write.", "TRYAGAIN Multiple keys", "MISCONF x"]
)
def test_a_reply_that_refuses_all_writes_is_known_as_such(reply: str) -> None:
    error = DefaultParser.parse_error(reply)  # type: ignore[no-untyped-call]
    assert refuses_writes(error)
    assert isinstance(store_error(error, "redis://h"), StoreUnavailable | StoreFull)


async def test_a_database_that_is_not_there_is_final(own_store: StoreServer) -> None:
    error = await refused(f"{own_store.url}?db=99")
    assert isinstance(error, StoreUnusable)
    assert "?db=99: the store has no database of that number" in str(error)


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"])
async def test_a_tls_file_that_cannot_be_read_is_final_and_named(tmp_path: Path, option: str) -> None:
    error = await refused(f"rediss://127.0.0.1:1/0?{option}={tmp_path}/nothing")
    assert isinstance(error, StoreUnusable)
    assert f"{option}: {tmp_path}/nothing cannot be read: No such file" in str(error)


async def test_a_tls_file_of_another_kind_is_final_and_named(tmp_path: Path) -> None:
    file = tmp_path / "file.pem"
    file.write_text("no certificate")
    for query in (f"ssl_ca_certs={file}", f"ssl_certfile={file}&ssl_keyfile={file}"):
        error = await refused(f"rediss://127.0.0.1:1/0?{query}")
        assert isinstance(error, StoreUnusable)
        assert f"{file} is not what it should be" in str(error)


async def test_a_cluster_is_refused(store_binary: Path) -> None:
    with StoreServer(store_binary, persistent=False, settings="cluster-enabled yes\ncluster-port 0\n") as server:
        error = await refused(server.url)
    assert isinstance(error, StoreUnusable)
    assert "cluster" in str(error)


def test_a_url_is_shown_without_its_credentials() -> None:
    assert StoreTarget("redis://user:secret@host:6379/0").masked == "redis://user:***@host:6379/0"
    assert StoreTarget("unix:///run/s?password=secret").masked == "unix:///run/s?password=***"


# How it breaks and comes back


async def test_during_an_outage_calls_fail_at_once_and_later_serve_again(own_store: StoreServer) -> None:
    async with open_store(own_store.url) as store:
        events: list[str] = []
        store.events.subscribe(lambda name, fields: events.append(name))
        own_store.kill()
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreUnavailable):
                await store.command("PING")
        assert time.monotonic() - began < 100 * client.BACKOFF_FIRST_S / 2, "none of them waited for the next try"
        own_store.start()
        back = time.monotonic()
        await store.wait_connected()
        assert time.monotonic() - back < HANG_S
        assert await store.command("PING") == b"PONG"
        assert events == ["store.lost", "store.back"]


async def test_a_call_under_way_fails_when_the_store_dies(own_store: StoreServer) -> None:
    async with open_store(own_store.url) as store:
        own_store.pause()
        call = asyncio.create_task(store.command("PING"))
        assert not (await asyncio.wait([call], timeout=0.05))[0]
        own_store.kill()
        with pytest.raises(StoreUnavailable):
            await asyncio.wait_for(call, HANG_S)


async def test_a_store_that_says_nothing_is_away_within_five_seconds(own_store: StoreServer) -> None:
    async with open_store(own_store.url) as store:
        blocked = await store.dedicated_connection()
        await blocked.send_command("BLMOVE", "a", "a", "LEFT", "LEFT", 30)
        reading = asyncio.create_task(blocked.read_response())
        with own_store.paused():
            began = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.command("PING")
            assert time.monotonic() - began < HANG_S
            assert not store.connected
            # A reader that blocks on a connection of its own must not wait for ever either.
            await asyncio.wait([reading], timeout=HANG_S)
            assert reading.done()
            assert reading.exception()
        await asyncio.wait_for(store.wait_connected(), HANG_S)


async def test_reconnects_are_jittered_and_neither_rare_nor_hasty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", draw)
    store = Store(StoreTarget(f"unix://{tmp_path}/nobody"), Events())
    starting = asyncio.create_task(store.start())
    began = time.monotonic()
    try:
        await wait_until(lambda: len(drawn) == 6, 5)
    finally:
        starting.cancel()
        await store.stop()
    # 50, 100, 200, 400, 800 ms, each times what was drawn
    assert 1.5 <= time.monotonic() - began < HANG_S
    assert set(drawn) == {(0.5, 1.0)}
    assert client.BACKOFF_MAX_S <= 1.0


async def test_scripts_are_loaded_again_after_a_flush(engine: EngineHarness, own_store: StoreServer) -> None:
    await engine.add("q", "any")
    with own_store.client() as admin:
        admin.script_flush()
    await engine.add("q", "any")
    assert (await engine.inspector.counts("q")).waiting == 2


async def test_a_master_that_becomes_a_replica_is_away_without_spinning_and_back_as_master(
    engine: EngineHarness, own_store: StoreServer
) -> None:
    ran: list[int] = []

    @engine.handler("q")
    async def note(_: Any) -> None:
        ran.append(1)

    await engine.start_pool()
    await engine.add("q", "note")
    await wait_until(lambda: len(ran) == 1)
    with own_store.client() as admin:
        admin.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreUnavailable):
            await engine.add("q", "note")
        assert not engine.store.connected
        await wait_until(lambda: "replica" in (engine.store.last_error or ""))
        before, calls = time.process_time(), admin.info("stats")["total_commands_processed"]
        await asyncio.sleep(1)
        assert time.process_time() - before < 0.2
        assert admin.info("stats")["total_commands_processed"] - calls < 60
        admin.replicaof("NO", "ONE")
    await asyncio.wait_for(engine.store.wait_connected(), HANG_S)
    await engine.finished("q", await engine.add("q", "note"))
    assert len(ran) == 2


async def test_a_store_that_loads_its_data_is_waited_for(store_binary: Path) -> None:
    slowly = "key-load-delay 100\nloading-process-events-interval-bytes 1024\n"
    with StoreServer(store_binary, persistent=True, settings=slowly) as server:
        with server.client() as admin:
            pipe = admin.pipeline(transaction=False)
            for number in range(12_000):
                pipe.set(f"k{number}", "x" * 100)
            pipe.execute()
        server.stop()
        starting = asyncio.create_task(asyncio.to_thread(server.start))
        store = Store(StoreTarget(server.url), Events())
        try:
            waiting = asyncio.create_task(store.start())
            await wait_until(lambda: "loading" in (store.last_error or "").lower())
            await asyncio.wait_for(waiting, 8)
            assert await store.command("EXISTS", "k11999") == 1
        finally:
            await starting
            await store.stop()


async def test_many_losses_leave_no_connection_behind(own_store: StoreServer) -> None:
    async with proxy(own_store.socket) as between, open_store(between.url) as store:
        held = []
        for _ in range(5):
            held.append(await store.dedicated_connection())
            await store.redis.get("any")
            between.cut()
            with pytest.raises(StoreUnavailable):
                await store.command("PING")
            assert not store.connected
            await store.wait_connected()
        await wait_until(lambda: between.connections == 1)
        assert not any(connection.is_connected for connection in held)


# Replies that are lost


class Counted:
    """A handler that counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    async def __call__(self, _: Any) -> str:
        self.runs += 1
        return "done"


def told(r: EngineHarness, name: str) -> list[dict[str, Any]]:
    """The fields of each event of that name."""
    return [fields for event, fields in r.events if event == name]


@asynccontextmanager
async def spoiled(own_store: StoreServer, **settings: Any) -> AsyncIterator[tuple[EngineHarness, Proxy, Counted]]:
    """A pool behind a proxy, with one handler."""
    async with (
        proxy(own_store.socket) as between,
        engine_harness(between.url, QueueSettings("q", **settings)) as r,
    ):
        handler = Counted()
        r.handle("q", "work", handler.__call__)
        yield r, between, handler


async def test_a_claim_whose_reply_is_lost_costs_neither_the_job_nor_an_attempt(own_store: StoreServer) -> None:
    async with spoiled(own_store, attempts=1) as (r, between, handler):
        keys = [await r.add("q", "work") for _ in range(20)]
        between.lose_reply(r.store.scripts["claim"].sha)
        await r.start_pool()
        await between.lost.wait()
        views = [await _finished(r, key) for key in keys]
        assert {(view.state, view.attempt, view.delivery) for view in views} == {(State.COMPLETED, 1, 0)}
        assert handler.runs == 20


async def test_a_settle_whose_reply_is_lost_is_sent_again_and_counts_once(own_store: StoreServer) -> None:
    async with spoiled(own_store) as (r, between, handler):
        between.lose_reply('"status":"complete"')
        await r.start_pool()
        key = await r.add("q", "work")
        await between.lost.wait()
        await wait_until(lambda: told(r, "job.completed"))
        assert [job[0] for event in told(r, "job.completed") for job in event["jobs"]] == [key]
        assert told(r, "job.stale") == []
        view = await r.inspector.job("q", key)
        totals = (await r.inspector.totals())["q"]
        assert (view.state, handler.runs, totals.completed, totals.started) == (State.COMPLETED, 1, 1, 1)


async def test_a_retry_whose_reply_is_lost_is_counted_once(own_store: StoreServer) -> None:
    async with spoiled(own_store, attempts=2) as (r, between, _):
        runs: list[int] = []

        @r.handler("q")
        async def fail(_: Any) -> None:
            runs.append(1)
            raise ValueError

        [added] = await r.control.enqueue("q", [NewJob("fail")])
        between.lose_reply("$5\r\nretry\r\n")
        await r.start_pool()
        await between.lost.wait()
        view = await _finished(r, added.key)
        assert (view.state, view.attempt, len(runs)) == (State.FAILED, 2, 2)
        assert [entry.event for entry in view.timeline] == ["retried", "failed"]
        await wait_until(lambda: told(r, "job.failed"))
        assert (len(told(r, "job.retried")), told(r, "job.stale")) == (1, [])


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.queues(QueueSettings("q", attempts=2))
async def test_what_the_store_refuses_is_told_as_stale_and_as_nothing_else(
    engine: EngineHarness, begun: bool, untidy: None
) -> None:
    going = asyncio.Event()

    @engine.handler("q")
    async def fail(_: Any) -> None:
        await going.wait()
        raise ValueError

    pool = await engine.start_pool()
    [added] = await engine.control.enqueue("q", [NewJob("fail")])
    await wait_until(lambda: _status(engine, added.key, "active"))
    await pool.tick.stop()  # neither it nor the mark of a running job is to find out before the outcome does
    [run] = pool.workers["q"].executor.executions.values()
    run.side_effect_started = begun
    await engine.store.command("HSET", "crmd:q:q:leases", run.job_id, "another:0")
    going.set()
    await wait_until(lambda: told(engine, "job.stale"))
    assert told(engine, "job.stale") == [{"queue": "q", "key": added.key}]
    assert [name for name in ("job.retried", "job.unknown") if told(engine, name)] == []


async def test_an_outcome_that_was_refused_at_the_second_try_may_be_anothers(own_store: StoreServer) -> None:
    async with spoiled(own_store, attempts=2) as (r, between, _):
        going = asyncio.Event()

        @r.handler("q")
        async def fail(_: Any) -> None:
            await going.wait()
            raise ValueError

        pool = await r.start_pool()
        await r.control.enqueue("q", [NewJob("fail")])
        await wait_until(lambda: pool.active == 1)
        [run] = pool.workers["q"].executor.executions.values()
        between.refusing = True
        between.cut()
        going.set()
        await wait_until(lambda: pool.workers["q"].acks._doubtful)
        with own_store.client() as client:
            client.hset("crmd:q:q:leases", run.job_id, "another:0")
        between.refusing = False
        await wait_until(lambda: told(r, "job.stale"))
        assert told(r, "job.retried") == []


async def test_an_enqueue_whose_reply_is_lost_may_be_repeated_under_its_key(own_store: StoreServer) -> None:
    async with spoiled(own_store) as (r, between, _):
        between.lose_reply(r.store.scripts["enqueue"].sha)
        with pytest.raises(StoreUnavailable):
            await r.control.enqueue("q", [NewJob("work", key="once")])
        await r.store.wait_connected()
        [added] = await r.control.enqueue("q", [NewJob("work", key="once")])
        assert (added.created, added.key) == (False, "once")
        assert (await r.inspector.counts("q")).waiting == 1


async def test_a_give_back_whose_reply_is_lost_leaves_one_mention(own_store: StoreServer) -> None:
    async with spoiled(own_store) as (r, between, _):
        started = asyncio.Event()

        @r.handler("q")
        async def long(_: Any) -> None:
            started.set()
            await asyncio.sleep(60)

        pool = await r.start_pool("one")
        await r.add("q", "long")
        await started.wait()
        between.lose_reply("$6\r\nreturn\r\n")
        await pool.stop(0.0)
        assert between.lost.is_set()
        await r.store.wait_connected()
        started.clear()
        await r.start_pool("one")
        await started.wait()
        counts = await r.inspector.counts("q")
        assert (counts.waiting, counts.active, await r.store.command("LLEN", "saq:q:queued")) == (0, 1, 0)


async def test_outcomes_that_a_restarted_store_forgot_are_written_again(
    engine: EngineHarness, own_store: StoreServer, tmp_path: Path
) -> None:
    runs, release = list[int](), asyncio.Event()

    @engine.handler("q")
    async def work(_: Any) -> str:
        runs.append(1)
        await release.wait()
        return "kept"

    pool = await engine.start_pool()
    key = await engine.add("q", "work")
    await wait_until(lambda: any(run.marked for run in pool.workers["q"].executor.executions.values()))
    await wait_until(lambda: _status(engine, key, "active"))
    data = next(path for path in own_store.folder.iterdir() if path.is_dir())
    shutil.copytree(data, tmp_path / "before")
    release.set()
    await wait_until(lambda: _status(engine, key, "complete"))
    own_store.kill()
    shutil.rmtree(data)
    shutil.copytree(tmp_path / "before", data)
    own_store.start()
    await engine.store.wait_connected()
    view = await _finished(engine, key)
    assert (view.state, view.result, len(runs)) == (State.COMPLETED, "kept", 1)


async def _status(r: EngineHarness, key: str, status: str) -> bool:
    document = await r.store.command("GET", f"saq:job:q:{key}")
    return bool(orjson.loads(document)["status"] == status)


async def _finished(r: EngineHarness, key: str) -> JobView:
    """The job once it is over, whatever becomes of the connection meanwhile."""

    async def look() -> JobView | None:
        with contextlib.suppress(StoreUnavailable):
            view = await r.inspector.job("q", key)
            return view if view.state.finished else None
        return None

    found: JobView = await wait_until(look, 10, f"job {key} is over")
    return found
