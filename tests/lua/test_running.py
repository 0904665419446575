"""mark, begin_effect, running: what a daemon says of jobs that run, and hears of them."""

from __future__ import annotations

import asyncio

import pytest

from crmd.engine.store.replies import AckKind
from tests.support.script_harness import ScriptHarness
from tests.support.wait import HANG_S


@pytest.fixture
async def token(harness: ScriptHarness) -> str:
    """The lease of a job `a` that runs."""
    return await harness.lease("a")


async def test_a_mark_shows_the_job_as_active_once(harness: ScriptHarness, token: str) -> None:
    job_id = harness.keys.job_id("a")
    async with harness.store.redis.pubsub() as listener:
        await listener.subscribe(job_id)
        await listener.get_message(timeout=1)
        assert await harness.scripts.mark([(job_id, token, b'{"n":1}', True)]) == [1]
        assert await harness.scripts.mark([(job_id, token, b'{"n":2}', False)]) == [1]
        heard = await asyncio.wait_for(_next(listener), HANG_S)
    assert (heard, await harness.redis("LRANGE", harness.keys.active, 0, -1)) == (b"active", [job_id.encode()])
    assert await harness.redis("GET", job_id) == b'{"n":2}'


async def _next(listener: object) -> bytes:
    while True:
        message = await listener.get_message(ignore_subscribe_messages=True, timeout=0.5)  # type: ignore[attr-defined]
        if message:
            data: bytes = message["data"]
            return data


@pytest.mark.parametrize("first", [True, False])
async def test_a_mark_under_another_lease_changes_nothing(harness: ScriptHarness, token: str, first: bool) -> None:
    job_id = harness.keys.job_id("a")
    before = await harness.redis("GET", job_id)
    assert await harness.scripts.mark([(job_id, "you:1", b"{}", first)]) == [0]
    assert await harness.scripts.mark([(harness.keys.job_id("nothing"), token, b"{}", first)]) == [0]
    assert (await harness.redis("GET", job_id), await harness.redis("EXISTS", harness.keys.active)) == (before, 0)


async def test_a_mark_does_not_write_over_an_abort(harness: ScriptHarness, token: str) -> None:
    job_id = harness.keys.job_id("a")
    await harness.stock_abort("a")
    assert await harness.scripts.mark([(job_id, token, b"{}", True)]) == [-1]
    assert await harness.status("a") == "aborting"
    assert await harness.settle("a", token, AckKind.ABORTED, marked=True) == "done"
    assert await harness.redis("EXISTS", harness.keys.active) == 0


async def test_marks_of_many_jobs_are_answered_one_by_one(harness: ScriptHarness, token: str) -> None:
    await harness.lease("b")
    marks = [(harness.keys.job_id("a"), token, b"{}", False), (harness.keys.job_id("b"), token, b"{}", False)]
    assert await harness.scripts.mark(marks) == [1, 0]


async def test_an_effect_begins_only_under_the_jobs_own_lease(harness: ScriptHarness, token: str) -> None:
    job_id = harness.keys.job_id("a")
    assert not await harness.scripts.begin_effect(job_id, "you:1")
    assert await harness.redis("EXISTS", harness.keys.begun) == 0
    assert await harness.scripts.begin_effect(job_id, token)
    assert await harness.redis("HGETALL", harness.keys.begun) == [job_id.encode(), token.encode()]


async def test_an_effect_does_not_begin_after_an_abort(harness: ScriptHarness, token: str) -> None:
    await harness.stock_abort("a")
    assert not await harness.scripts.begin_effect(harness.keys.job_id("a"), token)


async def test_a_daemon_hears_which_of_its_jobs_are_still_its_own(harness: ScriptHarness, token: str) -> None:
    await harness.add("b", "c")
    await harness.claim(2, token)
    await harness.stock_abort("b")
    await harness.redis("HSET", harness.keys.leases, harness.keys.job_id("c"), "you:1")
    held = [(harness.keys.job_id(key), token) for key in ("a", "b", "c", "d")]
    assert await harness.scripts.running(held) == [1, -1, 0, 0]
    assert await harness.scripts.running([]) == []
