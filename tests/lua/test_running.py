"""mark, begin_effect, running: what a daemon says of jobs that run, and hears of them."""

from __future__ import annotations

import asyncio

import pytest

from crmd.engine.store.replies import AckKind
from tests.support.script_harness import ScriptHarness
from tests.support.wait import HANG_S


@pytest.fixture
async def token(lab: ScriptHarness) -> str:
    """The lease of a job `a` that runs."""
    token = lab.token()
    await lab.add("a")
    await lab.claim(1, token)
    return token


async def test_a_mark_shows_the_job_as_active_once(lab: ScriptHarness, token: str) -> None:
    job_id = lab.keys.job_id("a")
    async with lab.store.redis.pubsub() as listener:
        await listener.subscribe(job_id)
        await listener.get_message(timeout=1)
        assert await lab.scripts.mark([(job_id, token, b'{"n":1}', True)]) == [1]
        assert await lab.scripts.mark([(job_id, token, b'{"n":2}', False)]) == [1]
        heard = await asyncio.wait_for(_next(listener), HANG_S)
    assert (heard, await lab.redis("LRANGE", lab.keys.active, 0, -1)) == (b"active", [job_id.encode()])
    assert await lab.redis("GET", job_id) == b'{"n":2}'


async def _next(listener: object) -> bytes:
    while True:
        message = await listener.get_message(ignore_subscribe_messages=True, timeout=0.5)  # type: ignore[attr-defined]
        if message:
            data: bytes = message["data"]
            return data


@pytest.mark.parametrize("first", [True, False])
async def test_a_mark_under_another_lease_changes_nothing(lab: ScriptHarness, token: str, first: bool) -> None:
    job_id = lab.keys.job_id("a")
    before = await lab.redis("GET", job_id)
    assert await lab.scripts.mark([(job_id, "you:1", b"{}", first)]) == [0]
    assert await lab.scripts.mark([(lab.keys.job_id("nothing"), token, b"{}", first)]) == [0]
    assert (await lab.redis("GET", job_id), await lab.redis("EXISTS", lab.keys.active)) == (before, 0)


async def test_a_mark_does_not_write_over_an_abort(lab: ScriptHarness, token: str) -> None:
    job_id = lab.keys.job_id("a")
    await lab.stock_abort("a")
    assert await lab.scripts.mark([(job_id, token, b"{}", True)]) == [-1]
    assert await lab.status("a") == "aborting"
    assert await lab.settle("a", token, AckKind.ABORTED, marked=True) == "done"
    assert await lab.redis("EXISTS", lab.keys.active) == 0


async def test_marks_of_many_jobs_are_answered_one_by_one(lab: ScriptHarness, token: str) -> None:
    await lab.add("b")
    other = lab.token()
    await lab.claim(1, other)
    marks = [(lab.keys.job_id("a"), token, b"{}", False), (lab.keys.job_id("b"), token, b"{}", False)]
    assert await lab.scripts.mark(marks) == [1, 0]


async def test_an_effect_begins_only_under_the_jobs_own_lease(lab: ScriptHarness, token: str) -> None:
    job_id = lab.keys.job_id("a")
    assert not await lab.scripts.begin_effect(job_id, "you:1")
    assert await lab.redis("EXISTS", lab.keys.begun) == 0
    assert await lab.scripts.begin_effect(job_id, token)
    assert await lab.redis("HGETALL", lab.keys.begun) == [job_id.encode(), token.encode()]


async def test_an_effect_does_not_begin_after_an_abort(lab: ScriptHarness, token: str) -> None:
    await lab.stock_abort("a")
    assert not await lab.scripts.begin_effect(lab.keys.job_id("a"), token)


async def test_a_daemon_hears_which_of_its_jobs_are_still_its_own(lab: ScriptHarness, token: str) -> None:
    await lab.add("b", "c")
    await lab.claim(2, token)
    await lab.stock_abort("b")
    await lab.redis("HSET", lab.keys.leases, lab.keys.job_id("c"), "you:1")
    held = [(lab.keys.job_id(key), token) for key in ("a", "b", "c", "d")]
    assert await lab.scripts.running(held) == [1, -1, 0, 0]
    assert await lab.scripts.running([]) == []
