"""Programs that know only `saq` and `redis` work with a pool as they do with SAQ's own worker."""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import saq
from redis.asyncio import Redis
from saq.job import Job, Status
from saq.queue.redis import RedisQueue

from crmd.engine.admin.views import State
from crmd.engine.durations import Rate
from crmd.engine.saq.worker import SaqWorker
from crmd.engine.settings import Backoff, QueueSettings
from crmd.engine.worker.worker import QueueWorker
from crmd.errors import InvalidPayload
from tests.support.documents import put_job, stored_job
from tests.support.engine_harness import EngineHarness, engine_harness, saq_queue
from tests.support.programs import PROGRAMS, run_program, running_program
from tests.support.store import StoreServer
from tests.support.wait import wait_until

FAST = Backoff(base_seconds=0.02, max_seconds=0.05)
QUEUES = (
    QueueSettings("message", rate_limit=Rate.parse("20/min")),
    QueueSettings("notification"),
    QueueSettings("email", attempts=5, timeout_seconds=0.3, backoff=FAST),
    QueueSettings("webhook", backoff=FAST),
    QueueSettings("ai", keep_completed=5, keep_failed=5),
)


@pytest.fixture
def tcp_url(store_server: StoreServer) -> Iterator[str]:
    """The URL of an empty store on a TCP port, where plain programs find it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with store_server.client() as admin:
        admin.flushall()
        admin.config_set("port", port)
        yield f"redis://127.0.0.1:{port}/0"
        admin.config_set("port", 0)


@asynccontextmanager
async def working(url: str, **parts: Any) -> AsyncIterator[EngineHarness]:
    """A pool with handlers that plain programs call."""
    async with engine_harness(url, *QUEUES) as engine:

        async def double(_: Any, n: int) -> int:
            return n * 2

        async def echo(_: Any, n: int) -> int:
            return n

        async def fail(_: Any) -> None:
            raise ValueError("no luck")

        async def sleep(_: Any, seconds: float) -> str:
            await asyncio.sleep(seconds)
            return "slept"

        async def hold(_: Any, until: str) -> None:
            async with Redis.from_url(url) as client:
                await cast(Any, client).blpop(until, 60)

        async def long(_: Any) -> None:
            await asyncio.sleep(60)

        async def clock(_: Any) -> float:
            return time.time()

        for handler in (double, echo, fail, sleep, hold, long, clock):
            for settings in QUEUES:
                engine.handle(settings.name, handler.__name__, handler)
        pool = await engine.start_pool(**parts)
        await pool.wake_listener.ready.wait()
        yield engine


@pytest.fixture
async def engine(store_url: str) -> AsyncIterator[EngineHarness]:
    async with working(store_url) as made:
        yield made


def test_the_programs_know_nothing_of_crmd() -> None:
    allowed = {"saq", "redis", *sys.stdlib_module_names}
    programs = list(PROGRAMS.glob("*.py"))
    assert len(programs) >= 8
    for program in programs:
        for node in ast.walk(ast.parse(program.read_text())):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= allowed, program
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] in allowed, program


async def test_500_jobs_are_accepted_into_a_limited_queue_and_20_start(tcp_url: str) -> None:
    async with working(tcp_url) as engine:
        assert await run_program("accept.py", tcp_url, "message", "double", "500") == {"accepted": 500}
        await wait_until(lambda: _completed(engine, "message", 20))
        counts = await engine.inspector.counts("message")
        assert (counts.waiting, counts.completed, counts.rate_left) == (480, 20, 0)


async def test_500_jobs_are_awaited_to_their_end(tcp_url: str) -> None:
    async with working(tcp_url):
        answer = await run_program("wait_for_all.py", tcp_url, "notification", "echo", "500")
        assert answer == {"statuses": {"complete": 500}, "right": 500}


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_jobs_are_called_like_functions(tcp_url: str, store_url: str, kind: str) -> None:
    url = tcp_url if kind == "tcp" else store_url
    async with working(url):
        answer = await run_program("apply_and_map.py", url, "email")
        assert answer["applied"] == 42
        assert answer["seconds"] < 1
        assert answer["mapped"] == [n * 2 for n in range(20)]
        assert "no luck" in answer["error"]
        assert answer["exceptions"] == ["JobError", "JobError"]


async def test_waiting_delayed_and_running_jobs_are_aborted(engine: EngineHarness, store_url: str) -> None:
    await engine.control.pause("webhook")
    answer = await run_program("abort.py", store_url, "webhook", "notification")
    for kind, found in answer.items():
        assert (kind, found["status"], found["stored"]) == (kind, "aborted", "aborted")
        assert found["incomplete"] is None
        assert found["error"] == "not wanted"
        assert found["published"][-1] == "aborted"
        # at once, and perhaps a second time for clients that subscribed too late
        assert found["published"].count("aborted") in (1, 2)
        assert found["seconds"] < 2
    for queue, key in (("webhook", "waiting"), ("notification", "delayed"), ("notification", "running")):
        assert (await engine.inspector.job(queue, key)).state is State.CANCELLED


async def test_running_jobs_end_as_a_program_says_by_update_and_finish(
    engine: EngineHarness, store_url: str
) -> None:
    answer = await run_program("end_running.py", store_url, "webhook")
    assert answer == {
        "updated": {"status": "aborted", "result": None, "error": "enough"},
        "completed": {"status": "complete", "result": {"by": "hand"}, "error": None},
        "failed": {"status": "failed", "result": None, "error": "by hand"},
    }
    states = [(await engine.inspector.job("webhook", key)).state for key in answer]
    assert states == [State.CANCELLED, State.COMPLETED, State.FAILED]
    assert await engine.store.command("LLEN", "saq:webhook:active") == 0


async def test_a_payload_that_speaks_of_aborting_aborts_nothing(engine: EngineHarness) -> None:
    seen = asyncio.Event()

    @engine.handler("webhook")
    async def progress(ctx: dict[str, Any], **_: Any) -> str:
        await ctx["job"].update(progress=0.5)
        await engine._pools[0].workers["webhook"].executor.check()
        seen.set()
        return "done"

    await put_job(
        engine.store, "webhook", "k", {"function": "progress", "kwargs": {"job": {"status": "aborting"}}}
    )
    view = await engine.finished("webhook", "k")
    assert (view.state, view.result, seen.is_set()) == (State.COMPLETED, "done", True)


@pytest.mark.parametrize(("function", "error"), [("echo", None), ("fail", "no luck")])
async def test_a_late_abort_leaves_a_finished_job_its_end(
    store_url: str, function: str, error: str | None
) -> None:
    async with working(store_url, janitor_grace=0.0) as engine:
        await put_job(
            engine.store,
            "ai",
            "k",
            {"function": function, "kwargs": {"n": 1} if error is None else {}, "retries": 1},
        )
        before = await engine.finished("ai", "k")
        assert error is None or error in (before.error or "")
        saq = RedisQueue.from_url(store_url, name="ai")
        job = await saq.job("k")
        assert job is not None
        await job.abort("late")
        await saq.disconnect()

        async def healed() -> bool:
            return bool((await stored_job(engine.store, "ai", "k"))["status"] != "aborting")

        await wait_until(healed, 10)
        after = await engine.inspector.job("ai", "k")
        assert (after.state, after.result, after.error) == (before.state, before.result, before.error)


async def test_calls_of_a_saq_function_on_a_finished_job_are_no_errors(engine: EngineHarness) -> None:
    await put_job(engine.store, "email", "done", {"function": "echo", "kwargs": {"n": 1}})
    before = await engine.finished("email", "done")

    @engine.handler("email")
    async def calls(ctx: dict[str, Any]) -> list[Any]:
        queue = ctx["queue"]
        done = await queue.job("done")
        answers = [await queue.abort(done, "late"), await queue.retry(done, "once more"), await done.update()]
        return [*answers, await queue.job("missing")]

    await put_job(engine.store, "email", "k", {"function": "calls"})
    assert (await engine.finished("email", "k")).result == [None] * 4
    assert await engine.inspector.job("email", "done") == before


@pytest.mark.usefixtures("engine")
async def test_an_aborted_key_may_be_used_again_at_once_in_every_queue(store_url: str) -> None:
    answer = await run_program("abort_then_enqueue.py", store_url, "notification", "webhook")
    assert answer["status"] == "aborted"
    assert max(answer["refused"].values()) < 1.0  # SAQ's own worker: 5.1 s in the other queue


async def test_saq_options_are_honoured(engine: EngineHarness, store_url: str) -> None:
    answer = await run_program("options.py", store_url, "webhook")

    def took(key: str) -> float:
        return float((answer[key]["completed"] - answer[key]["queued"]) / 1000)

    assert (answer["timeout"]["status"], answer["timeout"]["attempts"]) == ("failed", 2)
    assert "timed out after 1s" in answer["timeout"]["error"]
    assert (answer["retries"]["status"], answer["retries"]["attempts"]) == ("failed", 2)
    assert 0.2 <= took("retries") < 1.0
    assert (answer["backoff"]["status"], answer["backoff"]["attempts"]) == ("failed", 3)
    assert 0.1 <= took("backoff") < 1.0  # at least half of 0.1 and 0.15
    assert 0 < answer["ttl"]["lives"] <= 30
    assert answer["forever"]["lives"] == -1
    assert answer["deleted"] is None
    due = int(answer["began"]) + 2
    assert due <= answer["scheduled"]["result"] < due + 1.2
    assert (answer["foreign"]["status"], answer["foreign"]["result"]) == ("complete", "slept")
    assert (answer["foreign"]["priority"], answer["foreign"]["group_key"]) == (5, "g")
    assert answer["meta"]["meta"] == {"tenant": "one"}
    assert not [key for queue in QUEUES for key in await _keys(engine, f"crmd:q:{queue.name}:priorit*")]


async def test_a_timeout_of_null_is_the_queues_and_zero_is_none(engine: EngineHarness) -> None:
    slow = {"function": "sleep", "kwargs": {"seconds": 30}, "retries": 2}
    await put_job(engine.store, "email", "null", {**slow, "timeout": None})
    await put_job(engine.store, "email", "zero", {"function": "sleep", "kwargs": {"seconds": 0.6}, "timeout": 0})
    null, zero = await engine.finished("email", "null"), await engine.finished("email", "zero")
    assert (null.state, null.error) == (State.FAILED, "TimeoutError: timed out after 300ms")
    assert (zero.state, zero.result) == (State.COMPLETED, "slept")


async def test_unknown_fields_stay_in_the_job(engine: EngineHarness) -> None:
    extra = {"tenant": "one", "trace": {"id": [1, 2, {"deep": []}]}, "big": 2**70}
    await put_job(engine.store, "email", "k", {"function": "double", "kwargs": {"n": 2}, **extra})
    await put_job(engine.store, "email", "f", {"function": "fail", "kwargs": {}, "retries": 2, **extra})
    await engine.finished("email", "k")
    await engine.finished("email", "f")
    for key in ("k", "f"):
        stored = await stored_job(engine.store, "email", key)
        assert {name: stored[name] for name in extra} == extra
        assert set(stored) <= extra.keys() | _SAQ_FIELDS


async def test_a_saq_function_sees_its_job_as_in_a_saq_worker(engine: EngineHarness) -> None:
    seen: list[tuple[int, int, bool, float]] = []

    @engine.handler("email")
    async def count(ctx: dict[str, Any]) -> None:
        job = ctx["job"]
        seen.append((job.attempts, job.retries, job.retryable, job.timeout))
        assert (job.status, job.queue.name) == (Status.ACTIVE, "email")
        assert job.started
        raise ValueError("once more")

    await put_job(engine.store, "email", "own", {"function": "count", "retries": 2, "timeout": 7})
    await engine.finished("email", "own")
    await put_job(engine.store, "email", "queues", {"function": "count"})
    await engine.finished("email", "queues")
    assert seen == [
        *((1, 2, True, 7), (2, 2, False, 7)),
        *((n, 5, n < 5, 0.3) for n in range(1, 6)),
    ]
    assert "retries" not in await stored_job(engine.store, "email", "queues")


def test_every_method_of_a_saq_worker_is_served() -> None:
    """None is inherited unseen: SAQ's would look after the queue in a way that loses jobs."""
    offered = {name for name, value in vars(saq.Worker).items() if callable(value) and name[0] != "_"}
    assert offered - {*vars(SaqWorker), *vars(QueueWorker)} == set()
    assert {"start", "stop", "process", "upkeep", "schedule", "abort", "worker_info"} <= offered


async def test_a_saq_function_may_call_its_worker(engine: EngineHarness) -> None:
    @engine.handler("notification")
    async def call(ctx: dict[str, Any]) -> dict[str, Any]:
        worker, before = ctx["worker"], asyncio.all_tasks()
        assert await worker.upkeep() == []
        assert asyncio.all_tasks() == before
        await worker.abort(0.0)
        await worker.schedule()
        info: dict[str, Any] = await worker.worker_info()
        return info

    await put_job(engine.store, "notification", "k", {"function": "call"})
    info = (await engine.finished("notification", "k")).result
    assert (info["queue_key"], info["metadata"]) == ("notification", None)
    assert info["stats"]["uptime"] >= 0
    assert {"complete", "failed", "retried", "aborted"} <= info["stats"].keys()


async def test_what_a_saq_function_updates_is_kept_beside_unknown_fields(engine: EngineHarness) -> None:
    updated, go = asyncio.Event(), asyncio.Event()

    @engine.handler("webhook")
    async def update(ctx: dict[str, Any]) -> str:
        ctx["job"].meta["seen"] = [1]
        await ctx["job"].update(progress=0.5, status="complete", function="other")
        with pytest.raises(InvalidPayload):
            await ctx["job"].update(meta={"no": object()})
        updated.set()
        await go.wait()
        return "done"

    await put_job(engine.store, "webhook", "k", {"function": "update", "tenant": "one", "meta": {"own": 1}})
    await asyncio.wait_for(updated.wait(), 3)
    stored = await stored_job(engine.store, "webhook", "k")
    assert (stored["progress"], stored["status"], stored["tenant"]) == (0.5, "active", "one")
    assert stored["meta"] == {"own": 1, "seen": [1]}
    # from another process: only what SAQ's object says is written
    queue = saq_queue(engine.new_pool(), "webhook")
    other = await queue.job("k")
    assert other is not None
    await other.update(meta={"other": 2})
    stored = await stored_job(engine.store, "webhook", "k")
    assert (stored["meta"], stored["tenant"], stored["function"]) == ({"other": 2}, "one", "update")
    go.set()
    view = await engine.finished("webhook", "k")
    assert (view.state, view.result, view.job) == (State.COMPLETED, "done", "update")
    assert (await stored_job(engine.store, "webhook", "k"))["tenant"] == "one"


@pytest.mark.usefixtures("engine")
async def test_long_jobs_show_as_active_and_short_ones_never(store_url: str) -> None:
    answer = await run_program("watch.py", store_url, "notification")
    assert answer["long"] == ["active", "complete"] or answer["long"] == ["active", "complete", "complete"]
    for statuses in answer["short"]:
        assert set(statuses) == {"complete"}
    assert answer["active"] == 1
    assert answer["info"] == {"name": "notification", "queued": 0, "active": 1, "scheduled": 0}
    assert answer["listed"] == ["long"]
    assert answer["attempts"] == 1
    assert (answer["active_after"], answer["incomplete_after"]) == (0, 0)
    assert answer["found"] == sorted(["long", *(f"short{n}" for n in range(20))])


async def test_a_saq_worker_is_reported_once_and_its_cron_job_is_an_ordinary_job(
    engine: EngineHarness, store_url: str
) -> None:
    ran: list[int] = []

    @engine.handler("ai")
    async def tick(_: Any) -> None:
        ran.append(1)

    async with running_program("worker.py", store_url, "ai"):
        await wait_until(lambda: engine.store.command("ZCARD", "saq:ai:stats"), 10)
        foreign = engine._pools[0].tick._external_workers
        assert await foreign.run_once() == 1
        assert await foreign.run_once() == 0
        [fields] = [fields for name, fields in engine.events if name == "queue.foreign_worker"]
        assert fields["queue"] == "ai"
        assert len(fields["worker"]) > 10
        await wait_until(lambda: len(ran) >= 2, 10)
    assert (await engine.inspector.job("ai", "cron:tick")).attempt <= 1


_SAQ_FIELDS = {field.name for field in dataclasses.fields(Job)}


async def _completed(engine: EngineHarness, queue: str, count: int) -> bool:
    return (await engine.inspector.counts(queue)).completed == count


async def _keys(engine: EngineHarness, pattern: str) -> list[bytes]:
    return [key async for key in engine.store.redis.scan_iter(pattern)]
