"""recover: whose jobs come back, where they go, and which of them must not run again."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest

from crmd.engine.store import keys
from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import renew, tick
from tests.support.script_harness import ScriptHarness, document, may_meet_wrong_type
from tests.support.storeclock import StoreClock

ME, OLD, OTHER = "me-2", "me-1", "you-1"
LEASE_MS = 30_000

Outcomes = list[tuple[str, str]]


async def recover(
    harness: ScriptHarness, token: str = f"{ME}:9", *, dead: Mapping[str, str] | None = None, batch: int = 200
) -> tuple[int, Outcomes]:
    """All steps of a recovery: how many came back, and key and outcome of the others."""
    cursor, returned, outcomes = "0", 0, Outcomes()
    while True:
        step = await harness.scripts.recover(ME, "me-", token, dead=dead or {}, cursor=cursor, batch=batch)
        cursor, returned = step.cursor, returned + step.returned
        outcomes += [(harness.keys.key_of(job_id), outcome) for job_id, _, outcome in step.ended]
        if cursor == "0":
            return returned, outcomes


async def listed(harness: ScriptHarness) -> dict[str, str]:
    """The daemons of the list, with their entries."""
    return (await tick(harness.store, [])).daemons


async def test_our_predecessors_jobs_come_back_to_the_head_in_their_order(harness: ScriptHarness) -> None:
    await harness.lease("a", "b", "c", epoch=OLD)
    await harness.add("d")
    assert await recover(harness) == (3, [])
    assert await harness.lane() == ["a", "b", "c", "d"]
    claimed = await harness.claim()
    assert [(harness.keys.key_of(job_id), deaths) for job_id, _, deaths in claimed.jobs] == [
        ("a", 1),
        ("b", 1),
        ("c", 1),
        ("d", 0),
    ]
    assert (await harness.counters())["lost"] == 3


async def test_a_lost_job_says_so_and_is_no_longer_shown_as_active(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    token = await harness.lease("a", epoch=OLD)
    await harness.scripts.mark([(harness.keys.job_id("a"), token, document("q", "a", status="active"), True)])
    await recover(harness)
    [entry] = map(orjson.loads, await harness.log("a"))
    assert (entry["event"], entry["delivery"], entry["at"]) == ("lost", 1, clock.ms / 1000)
    assert await harness.redis("EXISTS", harness.keys.active) == 0


async def test_what_we_and_others_hold_is_left_alone(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.lease("mine", epoch=ME)
    await harness.lease("theirs", epoch=OTHER)
    await renew(harness.store, OTHER, LEASE_MS)
    await clock.forward(10 * LEASE_MS)
    assert await recover(harness) == (0, [])
    assert [await harness.place(key) for key in ("mine", "theirs")] == ["active", "active"]


async def test_the_dead_are_taken_from_whatever_the_clock_says(harness: ScriptHarness, clock: StoreClock) -> None:
    await renew(harness.store, OTHER, LEASE_MS)
    await harness.lease("a", epoch=OTHER)
    dead = await listed(harness)
    await clock.step(-100 * LEASE_MS)
    assert await recover(harness, dead=dead) == (1, [])


async def test_a_renewal_in_the_last_moment_wins(harness: ScriptHarness, clock: StoreClock) -> None:
    await renew(harness.store, OTHER, LEASE_MS)
    await harness.lease("a", epoch=OTHER)
    dead = await listed(harness)
    await renew(harness.store, OTHER, LEASE_MS)
    assert await recover(harness, dead=dead) == (0, [])


async def test_a_daemon_that_is_not_listed_is_told_of_and_taken_from_when_it_is_dead(
    harness: ScriptHarness,
) -> None:
    await harness.lease("a", epoch=OTHER)
    step = await harness.scripts.recover(ME, "me-", f"{ME}:9")
    assert (step.returned, step.unlisted) == (0, [OTHER])
    await renew(harness.store, OTHER, LEASE_MS)
    assert await recover(harness, dead={OTHER: ""}) == (0, [])
    await harness.redis("DEL", keys.DAEMONS)
    assert await recover(harness, dead={OTHER: ""}) == (1, [])


async def test_a_token_without_a_number_has_an_owner_too(harness: ScriptHarness) -> None:
    await harness.add("a")
    await harness.claim(1, "me-0")
    assert await recover(harness) == (1, [])


async def test_the_fence_holds_against_the_daemon_that_was_thought_dead(harness: ScriptHarness) -> None:
    token = await harness.lease("a", epoch=OTHER)
    await recover(harness, dead={OTHER: ""})
    fresh = harness.token(ME)
    assert await harness.claimed(1, fresh) == ["a"]
    assert await harness.settle("a", token, AckKind.COMPLETE) == "stale"
    assert await harness.scripts.running([(harness.keys.job_id("a"), token)]) == [0]
    assert await harness.settle("a", fresh, AckKind.COMPLETE) == "done"


async def test_the_third_delivery_is_alone_and_the_third_death_is_poison(harness: ScriptHarness) -> None:
    await harness.lease("a", priority=1, epoch=OLD)
    assert await recover(harness) == (1, [])
    assert await harness.claimed(5, harness.token(OLD)) == ["a"]
    assert await recover(harness) == (1, [])
    assert (await harness.claimed(), (await harness.claim()).crash_looping, await harness.place("a")) == (
        [],
        1,
        "waiting",
    )
    assert await harness.claimed(5, harness.token(OLD), isolated=True) == ["a"]
    assert await recover(harness) == (0, [("a", "poison")])
    assert await harness.settle("a", f"{ME}:9", AckKind.FAILED) == "done"
    assert (await harness.place("a"), (await harness.counters())["lost"]) == ("failed", 3)


async def test_a_job_whose_effect_had_begun_is_unknown(harness: ScriptHarness) -> None:
    token = await harness.lease("a", epoch=OLD)
    await harness.scripts.begin_effect(harness.keys.job_id("a"), token)
    assert await recover(harness) == (0, [("a", "unknown")])
    assert await harness.settle("a", f"{ME}:9", AckKind.UNKNOWN) == "done"
    assert await harness.place("a") == "unknown"


async def test_it_stays_unknown_when_its_finder_dies_too(harness: ScriptHarness) -> None:
    token = await harness.lease("a", epoch=OLD)
    await harness.scripts.begin_effect(harness.keys.job_id("a"), token)
    for _ in range(3):
        assert await recover(harness, harness.token(OLD)) == (0, [("a", "unknown")])


async def test_an_effect_of_an_earlier_delivery_does_not_count(harness: ScriptHarness) -> None:
    token = await harness.lease("a", epoch=OLD)
    await harness.scripts.begin_effect(harness.keys.job_id("a"), token)
    await harness.settle("a", token, AckKind.RETRY)
    await harness.claim(1, harness.token(OLD))
    assert await recover(harness) == (1, [])


async def test_a_job_that_was_aborted_while_it_ran_ends_as_cancelled(harness: ScriptHarness) -> None:
    await harness.lease("a", epoch=OLD)
    await harness.stock_abort("a")
    assert await recover(harness) == (0, [("a", "aborted")])
    assert await harness.settle("a", f"{ME}:9", AckKind.ABORTED) == "done"
    assert (await harness.place("a"), (await harness.counters()).get("lost")) == ("cancelled", None)


async def test_a_lease_without_json_has_an_outcome_too(harness: ScriptHarness) -> None:
    await harness.lease("a", epoch=OLD)
    await harness.redis("ZREM", harness.keys.incomplete, harness.keys.job_id("a"))
    await harness.redis("DEL", harness.keys.job_id("a"))
    assert (await harness.scripts.recover(ME, "me-", f"{ME}:9")).ended == [
        (harness.keys.job_id("a"), b"", "aborted")
    ]
    await harness.settle("a", f"{ME}:9", AckKind.ABORTED, number=-1)
    assert await harness.place("a") == "gone"


async def test_many_come_back_in_steps(harness: ScriptHarness) -> None:
    names = [f"k{n}" for n in range(450)]
    await harness.lease(*names, epoch=OLD)
    assert await recover(harness, batch=50) == (450, [])
    assert sorted(await harness.lane()) == sorted(names)
    assert await harness.redis("EXISTS", harness.keys.leases) == 0


async def test_a_rank_comes_back_to_the_head_of_its_rank(harness: ScriptHarness) -> None:
    await harness.lease("b", "a", priority=2, epoch=OLD)
    await harness.add("c", priority=2)
    await recover(harness)
    assert await harness.claimed() == ["b", "a", "c"]


@pytest.mark.parametrize("wrong", ["queued", "priority", "priorities", "crashes", "begun", "suspects", "active"])
async def test_a_structure_of_the_wrong_type_loses_no_job(
    harness: ScriptHarness, wrong: str, untidy: None
) -> None:
    await harness.lease("a", "b", epoch=OLD)
    async with harness.broken(wrong):
        with may_meet_wrong_type():
            await recover(harness)
    await recover(harness)
    assert sorted(await harness.claimed()) == ["a", "b"]


async def test_leases_are_renewed_in_the_stores_time(harness: ScriptHarness, clock: StoreClock) -> None:
    assert await renew(harness.store, "me-1", 5_000) == clock.ms
    assert float(await harness.redis("ZSCORE", keys.DAEMONS, "me-1")) == clock.ms + 5_000


@pytest.mark.parametrize("step_ms", [0, 1, -1, 3_600_000, -3_600_000])
async def test_each_renewal_changes_the_entry(harness: ScriptHarness, clock: StoreClock, step_ms: int) -> None:
    entries = set[str]()
    for _ in range(3):
        await renew(harness.store, "me-1", 5_000)
        entries.add((await listed(harness))["me-1"])
        await clock.step(step_ms)
    assert len(entries) == 3
