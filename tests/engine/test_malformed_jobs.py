"""Jobs that no sane program writes, and handlers that do not keep to the rules: each ends, and the others run."""

from __future__ import annotations

import math
import time
from typing import Any

import orjson
import pytest

from crmd.engine import codec
from crmd.engine.admin.views import State
from crmd.engine.durations import Rate
from crmd.engine.settings import Backoff, KeyedLimit, QueueSettings
from crmd.errors import RateLimited, Retry
from crmd.jobs import JobContext, JobSpec
from tests.support.documents import put_job, stored_job
from tests.support.engine_harness import EngineHarness, engine_harness, saq_queue
from tests.support.wait import wait_until

FAST = Backoff(base_seconds=0.01, max_seconds=0.02)
Q = QueueSettings("q", attempts=2, backoff=FAST)


async def note(_: Any, **kwargs: Any) -> str:
    """A handler that takes anything."""
    return "ran"


async def fail(_: Any, **kwargs: Any) -> None:
    """A handler that always fails."""
    raise ValueError("no")


def handlers(r: EngineHarness) -> None:
    r.handle("q", "note", note)
    r.handle("q", "fail", fail)


async def others_run(r: EngineHarness) -> None:
    """A plain job still gets through."""
    assert (await r.finished("q", await r.add("q", "note"), 5)).result == "ran"
    assert (await r.inspector.counts("q")).active == 0


@pytest.mark.parametrize(
    "fields",
    [
        b'"timeout":1' + b"0" * 400,
        b'"timeout":1e999',
        b'"timeout":NaN',
        b'"timeout":{}',
        b'"retry_delay":1' + b"0" * 400 + b',"retries":1',
        b'"retry_delay":-1' + b"0" * 400 + b',"retries":2',
        b'"retries":1' + b"0" * 400 + b',"retry_delay":86400',
        b'"ttl":1' + b"0" * 40,
        b'"ttl":[]',
        b'"queued":1' + b"0" * 400,
        b'"queued":"x"',
        b'"attempts":1' + b"0" * 400,
        b'"attempts":-7',
        b'"meta":null',
        b'"meta":[1]',
        b'"status":"no such"',
        b'"status":[]',
        b'"progress":"far"',
        b'"error":{"a":[]}',
        b'"started":1' + b"0" * 400 + b',"completed":-1' + b"0" * 400,
        b'"scheduled":"x"',
        b'"key":7,"queue":8',
        b'"kwargs":null',
        b'"result":' + b"[" * 400 + b"]" * 400,
    ],
    ids=lambda raw: raw[:24].decode(),
)
@pytest.mark.parametrize("name", ["note", "fail"])
@pytest.mark.queues(Q)
async def test_a_field_may_hold_anything(engine: EngineHarness, fields: bytes, name: str) -> None:
    handlers(engine)
    pool = await engine.start_pool()
    await put_job(engine.store, "q", "odd", b'{"function":"%s",%s}' % (name.encode(), fields))
    await wait_until(lambda: over(engine, "odd"), 5)
    await others_run(engine)
    view = await engine.inspector.job("q", "odd")
    assert view.state in (State.COMPLETED, State.FAILED, State.DELAYED)
    assert view.state is not State.DELAYED or b'"retr' in fields
    codec.dumps(view.to_json())
    await engine.inspector.metrics()
    [shown] = [job for job in (await engine.inspector.jobs("q")).jobs if job.key == "odd"]
    assert shown.state is view.state
    assert len((await saq_queue(pool, "q").info(jobs=True))["jobs"]) == 2


async def over(r: EngineHarness, key: str) -> bool:
    """Whether a job has ended, or waits for long."""
    view = await r.inspector.job("q", key)
    return view.state.finished or (view.run_at or 0) > time.time() + 60


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"function":7}',
        b'{"function":"note","kwargs":[1]}',
        b"[" * 2_000,
        b"{" * 9,
    ],
    ids=repr,
)
@pytest.mark.queues(Q)
async def test_what_is_no_job_is_set_aside(engine: EngineHarness, document: bytes) -> None:
    handlers(engine)
    await engine.start_pool()
    await put_job(engine.store, "q", "odd", document)
    await others_run(engine)
    scripts = engine.inspector.queue("q")
    [entry] = await wait_until(lambda: engine.store.command("LRANGE", scripts.keys.quarantine, 0, -1), 5)
    assert orjson.loads(entry)["id"] == "saq:job:q:odd"
    assert await engine.store.command("EXISTS", "saq:job:q:odd") == 0


@pytest.mark.queues(Q)
async def test_an_id_that_is_no_text_is_set_aside(engine: EngineHarness) -> None:
    handlers(engine)
    await engine.start_pool()
    raw = b"saq:job:q:\xff\xfe"
    await engine.store.command("SET", raw, b'{"function":"note"}')
    await engine.store.command("ZADD", "saq:q:incomplete", 0, raw)
    await engine.store.command("RPUSH", "saq:q:queued", b"\x80", raw)
    scripts = engine.inspector.queue("q")
    [entry] = await wait_until(lambda: engine.store.command("LRANGE", scripts.keys.quarantine, 0, -1), 5)
    assert orjson.loads(entry)["id"] == "saq:job:q:\\xff\\xfe"
    await others_run(engine)
    assert await engine.store.command("EXISTS", raw) == 0


@pytest.mark.queues(Q, QueueSettings("other"))
async def test_ids_of_another_queue_are_dropped_and_its_jobs_left_alone(engine: EngineHarness) -> None:
    handlers(engine)
    key = await engine.add("other", "any")
    await engine.store.command("RPUSH", "saq:q:queued", f"saq:job:other:{key}", "rubbish")
    await engine.store.command("ZADD", "saq:q:incomplete", 0, f"saq:job:other:{key}", 0, "rubbish")
    await engine.start_pool(only=["q"])
    await others_run(engine)
    assert (await engine.inspector.job("other", key)).state is State.WAITING
    assert await engine.store.command("ZCARD", "saq:q:incomplete") == 0


@pytest.mark.queues(Q)
async def test_a_page_of_jobs_with_ids_that_are_no_text_is_still_a_page(
    engine: EngineHarness, untidy: None
) -> None:
    key = await engine.add("q", "note")
    await engine.store.command("RPUSH", "saq:q:queued", b"\xff", b"saq:job:q:\xff", "foreign")
    await engine.store.command("SET", "foreign", "{}")
    await engine.store.command("ZADD", "saq:q:incomplete", 4e9, b"saq:job:q:\xfe")
    await engine.store.command("ZADD", "crmd:q:q:failed", 1, b"saq:job:q:\xfd")
    await engine.store.command("HSET", "crmd:q:q:leases", b"saq:job:q:\xfc", b"\xff")
    await engine.store.command("ZADD", "crmd:daemons", 1, b"\xff")
    assert [job.key for job in (await engine.inspector.jobs("q")).jobs] == [key]
    assert await engine.inspector.daemons() == []


@pytest.mark.queues(Q)
async def test_what_a_handler_does_to_its_arguments_is_not_stored(engine: EngineHarness) -> None:
    seen: list[Any] = []

    @engine.handler("q")
    async def meddle(context: Any, items: list[Any], deep: dict[str, Any]) -> None:
        seen.append(orjson.dumps([items, deep]))
        items.append({"a set": {1, 2}})
        deep["when"] = object()
        context["job"].kwargs.clear()
        context["job"].meta["tag"] = {3}
        raise ValueError("again")

    await engine.start_pool()
    view = await engine.finished("q", await engine.add("q", "meddle", items=[1], deep={"x": None}))
    assert (view.state, view.attempt) == (State.FAILED, 2)
    assert seen == [b'[[1],{"x":null}]'] * 2
    assert view.payload == {"items": [1], "deep": {"x": None}}


@pytest.mark.queues(Q)
async def test_a_function_may_write_nonsense_into_its_job(engine: EngineHarness) -> None:

    @engine.handler("q")
    async def meddle(context: Any) -> None:
        context["job"].retries = "many"
        context["job"].timeout = "long"
        context["job"].ttl = {}
        context["job"].progress = "far"
        await context["job"].update()
        raise ValueError("no")

    handlers(engine)
    await engine.start_pool()
    view = await engine.finished("q", await engine.add("q", "meddle"), 5)
    assert (view.state, view.attempt) == (State.FAILED, 2)
    await others_run(engine)


@pytest.mark.queues(Q)
async def test_numbers_that_only_python_writes_survive_a_retry(engine: EngineHarness) -> None:
    seen: list[Any] = []

    @engine.handler("q")
    async def look(_: Any, **kwargs: Any) -> None:
        seen.append(kwargs)
        raise Retry("again", after=0)

    await engine.start_pool()
    kwargs = {"nan": math.nan, "inf": -math.inf, "big": 2**70, "none": None, "lone": "\ud800"}
    await put_job(engine.store, "q", "odd", {"function": "look", "kwargs": kwargs, "retries": 3})
    assert (await engine.finished("q", "odd")).attempt == 3
    for found in (*seen, (await stored_job(engine.store, "q", "odd"))["kwargs"]):
        assert repr(found) == repr(kwargs)


@pytest.mark.parametrize("text", ["lone \ud800", "nul \x00", "\U0001f600" * 5_000])
@pytest.mark.queues(Q)
async def test_any_text_may_stand_in_an_error(engine: EngineHarness, text: str) -> None:

    @engine.handler("q")
    async def complain(_: Any) -> None:
        raise ValueError(text)

    await engine.start_pool()
    view = await engine.finished("q", await engine.add("q", "complain"))
    assert (view.state, len(view.timeline)) == (State.FAILED, 2)
    assert text[-100:] in (view.error or "")


@pytest.mark.queues(Q)
async def test_progress_takes_any_number_and_note(engine: EngineHarness) -> None:

    async def ours(ctx: JobContext, _: Any) -> str:
        for fraction in (0.5, math.nan, math.inf, -3):
            await ctx.progress(fraction, note="far \ud800")
        return "done"

    engine.handle_spec("q", JobSpec("ours", "q", ours))
    await engine.start_pool()
    await put_job(engine.store, "q", "odd", {"function": "ours", "meta": None})
    view = await engine.finished("q", "odd")
    assert (view.state, view.result, view.progress) == (State.COMPLETED, "done", 1.0)


async def test_a_job_without_the_limited_field_slows_nobody_down(store_url: str) -> None:
    limited = QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 1), 5),))
    async with engine_harness(store_url, limited) as r:
        tries: list[Any] = []

        @r.handler("q")
        async def busy(_: Any, **kwargs: Any) -> str:
            tries.append(kwargs)
            if len(tries) == 1:
                raise RateLimited("slow", after=0.3, scope="key")
            return "sent"

        handlers(r)
        await r.start_pool()
        key = await r.add("q", "busy", other="x")
        await wait_until(lambda: len(tries) == 1, 5)
        await others_run(r)
        assert len(tries) == 1
        assert (await r.finished("q", key)).result == "sent"


@pytest.mark.parametrize("to", ["ann", 491234567, "x" * 200])
async def test_a_slowed_down_key_holds_its_own_jobs_only(store_url: str, to: Any) -> None:
    limited = QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 1), 5),))
    async with engine_harness(store_url, limited) as r:
        sent: list[Any] = []

        @r.handler("q")
        async def send(_: Any, to: Any, n: int) -> None:
            sent.append((to, n))
            if len(sent) == 1:
                raise RateLimited("slow", after=0.5, scope="key")

        await r.start_pool()
        first = await r.add("q", "send", to=to, n=1)
        await wait_until(lambda: len(sent) == 1, 5)
        second = await r.add("q", "send", to=to, n=2)
        await r.finished("q", await r.add("q", "send", to="bob", n=3), 0.4)
        assert sent == [(to, 1), ("bob", 3)]
        for key in (first, second):
            assert (await r.finished("q", key)).attempt == 1
        assert sent[2:] == [(to, 1), (to, 2)]
