"""claim, on rarer occasions: jobs that run alone, and jobs whose lane was lost."""

from __future__ import annotations

from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings
from crmd.engine.store.client import Store
from tests.support.script_harness import ScriptHarness
from tests.support.storeclock import StoreClock


async def make_suspect(lab: ScriptHarness, key: str, payload: dict[str, str] | None = None) -> None:
    """A waiting job whose daemon died twice with it."""
    await lab.add(key, payload=payload)
    await lab.redis("LREM", lab.keys.queued, 0, lab.keys.job_id(key))
    await lab.redis("RPUSH", lab.keys.suspects, lab.keys.job_id(key))
    await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id(key), 2)


async def test_isolation_are_told_of_only_while_one_could_start(lab: ScriptHarness) -> None:
    await make_suspect(lab, "s")
    await lab.redis("HSET", lab.keys.paused, "at", 1)
    assert (await lab.claim()).crash_looping == 0
    await lab.redis("DEL", lab.keys.paused)
    await lab.scripts.slow_down(60)
    assert (await lab.claim()).crash_looping == 0
    await lab.redis("DEL", lab.keys.blocked)
    assert (await lab.claim()).crash_looping == 1


async def test_of_a_limit_one_start_is_left_for_a_suspect(store: Store, clock: StoreClock) -> None:
    lab = ScriptHarness(store, QueueSettings("q", rate_limit=Rate(3, 10)))
    await make_suspect(lab, "s")
    await lab.add(*(f"k{n}" for n in range(10)))
    claimed = await lab.claim()
    assert (lab.keys_of(claimed), claimed.reason, claimed.wait_ms) == (["k0", "k1"], "limited", 10_101)
    again = await lab.claim()
    assert (again.jobs, again.reason, again.wait_ms, again.crash_looping) == ([], "limited", 10_101, 1)
    assert await lab.claimed(1, isolated=True) == ["s"]
    spent = await lab.claim()
    assert (spent.jobs, spent.crash_looping) == ([], 0)
    await clock.forward(10_101)
    assert await lab.claimed() == ["k2", "k3", "k4"]


async def test_a_suspect_that_waited_for_its_key_runs_alone_afterwards(store: Store, clock: StoreClock) -> None:
    lab = ScriptHarness(store, QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 1), 1),)))
    await lab.add("a", payload={"to": "ann"})
    assert await lab.claimed() == ["a"]
    await make_suspect(lab, "s", {"to": "ann"})
    await lab.add("b", payload={"to": "ann"})
    assert await lab.claimed(isolated=True) == []
    assert await lab.claimed() == []
    assert [await lab.place(key) for key in "sb"] == ["waiting", "waiting"]
    await clock.forward(1_010)
    claimed = await lab.claim()
    assert (lab.keys_of(claimed), claimed.crash_looping) == (["b"], 1)
    await clock.forward(1_010)
    assert await lab.claimed(isolated=True) == ["s"]


async def test_jobs_whose_lane_was_deleted_are_found_when_nothing_else_waits(lab: ScriptHarness) -> None:
    await lab.add("running")
    await lab.claimed()
    await lab.add("a", "b")
    await lab.add("ranked", priority=1)
    await lab.add("delayed", delay_ms=60_000)
    await lab.redis("DEL", lab.keys.queued, lab.keys.priority)
    claimed = await lab.claim()
    assert (claimed.jobs, claimed.reason, claimed.wait_ms) == ([], "ok", 0)
    assert await lab.claimed() == ["ranked", "a", "b"]
    assert (await lab.claim()).reason == "empty"


async def test_what_is_parked_suspect_or_a_saq_workers_is_no_stray(store: Store, clock: StoreClock) -> None:
    lab = ScriptHarness(store, QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 1), 1),)))
    await lab.add("a", "parked", payload={"to": "ann"})
    assert await lab.claimed() == ["a"]
    assert (await lab.claim()).reason == "empty"
    await clock.forward(1_010)
    assert await lab.claimed() == ["parked"]
    await make_suspect(lab, "s")
    assert (await lab.claim()).reason == "empty"
    assert await lab.claimed(isolated=True) == ["s"]
    await lab.add("theirs")
    await lab.redis("LMOVE", lab.keys.queued, lab.keys.active, "LEFT", "RIGHT")
    assert (await lab.claim()).reason == "empty"
    await lab.redis("LMOVE", lab.keys.active, lab.keys.queued, "LEFT", "RIGHT")
    assert await lab.claimed() == ["theirs"]


async def test_many_strays_come_back_in_steps(lab: ScriptHarness) -> None:
    await lab.add(*(f"k{n}" for n in range(1_000)))
    await lab.redis("DEL", lab.keys.queued)
    started = 0
    for _ in range(20):
        started += len(await lab.claimed(500))
    assert started == 1_000


async def test_isolation_are_told_of_and_taken_only_alone_one_at_a_time(lab: ScriptHarness) -> None:
    await lab.add("a", "b", "c")
    for key in ("a", "b"):
        await lab.redis("LREM", lab.keys.queued, 0, lab.keys.job_id(key))
        await lab.redis("RPUSH", lab.keys.suspects, lab.keys.job_id(key))
        await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id(key), 2)
    claimed = await lab.claim()
    assert (lab.keys_of(claimed), claimed.crash_looping) == (["c"], 2)
    claimed = await lab.claim(5, isolated=True)
    assert [(lab.keys.key_of(job_id), deaths) for job_id, _, deaths in claimed.jobs] == [("a", 2)]
    assert await lab.claimed(5, isolated=True) == ["b"]
    assert await lab.claimed(5, isolated=True) == []


async def test_what_an_abort_left_among_the_suspects_is_skipped(lab: ScriptHarness) -> None:
    await lab.add("a", "b")
    for key in ("a", "b"):
        await lab.redis("LREM", lab.keys.queued, 0, lab.keys.job_id(key))
        await lab.redis("RPUSH", lab.keys.suspects, lab.keys.job_id(key))
    await lab.stock_abort("a")
    claimed = await lab.claim(1, isolated=True)
    assert (lab.keys_of(claimed), claimed.aborted_ids) == (["b"], [lab.keys.job_id("a")])
    await lab.scripts.delete(lab.keys.job_id("a"))
