"""claim, on rarer occasions: jobs that run in isolation, and jobs whose lane was lost."""

from __future__ import annotations

import pytest

from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings
from tests.support.script_harness import ScriptHarness
from tests.support.storeclock import StoreClock


async def test_isolation_are_told_of_only_while_one_could_start(harness: ScriptHarness) -> None:
    await harness.add_crash_looping("s")
    await harness.redis("HSET", harness.keys.paused, "at", 1)
    assert (await harness.claim()).crash_looping == 0
    await harness.redis("DEL", harness.keys.paused)
    await harness.scripts.slow_down(60)
    assert (await harness.claim()).crash_looping == 0
    await harness.redis("DEL", harness.keys.blocked)
    assert (await harness.claim()).crash_looping == 1


@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(3, 10)))
async def test_of_a_limit_one_start_is_left_for_a_crash_looping_job(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await harness.add_crash_looping("s")
    await harness.add(*(f"k{n}" for n in range(10)))
    claimed = await harness.claim()
    assert (harness.keys_of(claimed), claimed.reason, claimed.wait_ms) == (["k0", "k1"], "limited", 10_101)
    again = await harness.claim()
    assert (again.jobs, again.reason, again.wait_ms, again.crash_looping) == ([], "limited", 10_101, 1)
    assert await harness.claimed(1, isolated=True) == ["s"]
    spent = await harness.claim()
    assert (spent.jobs, spent.crash_looping) == ([], 0)
    await clock.forward(10_101)
    assert await harness.claimed() == ["k2", "k3", "k4"]


@pytest.mark.queues(QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 1), 1),)))
async def test_a_crash_looping_job_that_waited_for_its_key_runs_in_isolation_afterwards(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await harness.add("a", payload={"to": "ann"})
    assert await harness.claimed() == ["a"]
    await harness.add_crash_looping("s", payload={"to": "ann"})
    await harness.add("b", payload={"to": "ann"})
    assert await harness.claimed(isolated=True) == []
    assert await harness.claimed() == []
    assert [await harness.place(key) for key in "sb"] == ["waiting", "waiting"]
    await clock.forward(1_010)
    claimed = await harness.claim()
    assert (harness.keys_of(claimed), claimed.crash_looping) == (["b"], 1)
    await clock.forward(1_010)
    assert await harness.claimed(isolated=True) == ["s"]


async def test_jobs_whose_lane_was_deleted_are_found_when_nothing_else_waits(harness: ScriptHarness) -> None:
    await harness.add("running")
    await harness.claimed()
    await harness.add("a", "b")
    await harness.add("ranked", priority=1)
    await harness.add("delayed", delay_ms=60_000)
    await harness.redis("DEL", harness.keys.queued, harness.keys.priority)
    claimed = await harness.claim()
    assert (claimed.jobs, claimed.reason, claimed.wait_ms) == ([], "ok", 0)
    assert await harness.claimed() == ["ranked", "a", "b"]
    assert (await harness.claim()).reason == "empty"


@pytest.mark.queues(QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 1), 1),)))
async def test_what_is_parked_crash_looping_or_a_saq_workers_is_not_lost(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await harness.add("a", "parked", payload={"to": "ann"})
    assert await harness.claimed() == ["a"]
    assert (await harness.claim()).reason == "empty"
    await clock.forward(1_010)
    assert await harness.claimed() == ["parked"]
    await harness.add_crash_looping("s")
    assert (await harness.claim()).reason == "empty"
    assert await harness.claimed(isolated=True) == ["s"]
    await harness.add("theirs")
    await harness.redis("LMOVE", harness.keys.queued, harness.keys.active, "LEFT", "RIGHT")
    assert (await harness.claim()).reason == "empty"
    await harness.redis("LMOVE", harness.keys.active, harness.keys.queued, "LEFT", "RIGHT")
    assert await harness.claimed() == ["theirs"]


async def test_many_lost_jobs_come_back_in_steps(harness: ScriptHarness) -> None:
    await harness.add(*(f"k{n}" for n in range(1_000)))
    await harness.redis("DEL", harness.keys.queued)
    started = 0
    for _ in range(20):
        started += len(await harness.claimed(500))
    assert started == 1_000


async def test_isolation_are_told_of_and_taken_only_alone_one_at_a_time(harness: ScriptHarness) -> None:
    await harness.add("a", "b", "c")
    for key in ("a", "b"):
        await harness.make_crash_looping(key)
    claimed = await harness.claim()
    assert (harness.keys_of(claimed), claimed.crash_looping) == (["c"], 2)
    claimed = await harness.claim(5, isolated=True)
    assert [(harness.keys.key_of(job_id), deaths) for job_id, _, deaths in claimed.jobs] == [("a", 2)]
    assert await harness.claimed(5, isolated=True) == ["b"]
    assert await harness.claimed(5, isolated=True) == []


async def test_what_an_abort_left_among_the_suspects_is_skipped(harness: ScriptHarness) -> None:
    await harness.add("a", "b")
    for key in ("a", "b"):
        await harness.make_crash_looping(key)
    await harness.stock_abort("a")
    claimed = await harness.claim(1, isolated=True)
    assert (harness.keys_of(claimed), claimed.aborted_ids) == (["b"], [harness.keys.job_id("a")])
    await harness.scripts.delete(harness.keys.job_id("a"))
