"""recover: whose jobs come back, where they go, and which of them must not run again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from crmd.engine.store import keys
from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import renew, tick
from crmd.errors import StoreError
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock

ME, OLD, OTHER = "me-2", "me-1", "you-1"
LEASE_MS = 30_000

Fates = list[tuple[str, str]]


async def recover(
    lab: ScriptHarness, token: str = f"{ME}:9", *, dead: Mapping[str, str] | None = None, batch: int = 200
) -> tuple[int, Fates]:
    """All steps of a recovery: how many came back, and key and fate of the others."""
    cursor, returned, fates = "0", 0, Fates()
    while True:
        step = await lab.scripts.recover(ME, "me-", token, dead=dead or {}, cursor=cursor, batch=batch)
        cursor, returned = step.cursor, returned + step.returned
        fates += [(lab.keys.key_of(job_id), fate) for job_id, _, fate in step.ended]
        if cursor == "0":
            return returned, fates


async def listed(lab: ScriptHarness) -> dict[str, str]:
    """The daemons of the list, with their entries."""
    return (await tick(lab.store, [])).daemons


async def leased(lab: ScriptHarness, epoch: str, *names: str, **options: Any) -> str:
    """Jobs that a daemon took; their token."""
    token = lab.token(epoch)
    await lab.add(*names, **options)
    assert await lab.claimed(len(names), token) == list(names)
    return token


async def test_our_predecessors_jobs_come_back_to_the_head_in_their_order(lab: ScriptHarness) -> None:
    await leased(lab, OLD, "a", "b", "c")
    await lab.add("d")
    assert await recover(lab) == (3, [])
    assert await lab.lane() == ["a", "b", "c", "d"]
    claimed = await lab.claim()
    assert [(lab.keys.key_of(job_id), deaths) for job_id, _, deaths in claimed.jobs] == [
        ("a", 1),
        ("b", 1),
        ("c", 1),
        ("d", 0),
    ]
    assert (await lab.counters())["lost"] == 3


async def test_a_lost_job_says_so_and_is_no_longer_shown_as_active(lab: ScriptHarness, clock: StoreClock) -> None:
    token = await leased(lab, OLD, "a")
    await lab.scripts.mark([(lab.keys.job_id("a"), token, document("q", "a", status="active"), True)])
    await recover(lab)
    [entry] = map(orjson.loads, await lab.log("a"))
    assert (entry["event"], entry["delivery"], entry["at"]) == ("lost", 1, clock.ms / 1000)
    assert await lab.redis("EXISTS", lab.keys.active) == 0


async def test_what_we_and_others_hold_is_left_alone(lab: ScriptHarness, clock: StoreClock) -> None:
    await leased(lab, ME, "mine")
    await leased(lab, OTHER, "theirs")
    await renew(lab.store, OTHER, LEASE_MS)
    await clock.forward(10 * LEASE_MS)
    assert await recover(lab) == (0, [])
    assert [await lab.place(key) for key in ("mine", "theirs")] == ["active", "active"]


async def test_the_dead_are_taken_from_whatever_the_clock_says(lab: ScriptHarness, clock: StoreClock) -> None:
    await renew(lab.store, OTHER, LEASE_MS)
    await leased(lab, OTHER, "a")
    dead = await listed(lab)
    await clock.step(-100 * LEASE_MS)
    assert await recover(lab, dead=dead) == (1, [])


async def test_a_renewal_in_the_last_moment_wins(lab: ScriptHarness, clock: StoreClock) -> None:
    await renew(lab.store, OTHER, LEASE_MS)
    await leased(lab, OTHER, "a")
    dead = await listed(lab)
    await renew(lab.store, OTHER, LEASE_MS)
    assert await recover(lab, dead=dead) == (0, [])


async def test_a_daemon_that_is_not_listed_is_told_of_and_taken_from_when_it_is_dead(lab: ScriptHarness) -> None:
    await leased(lab, OTHER, "a")
    step = await lab.scripts.recover(ME, "me-", f"{ME}:9")
    assert (step.returned, step.unlisted) == (0, [OTHER])
    await renew(lab.store, OTHER, LEASE_MS)
    assert await recover(lab, dead={OTHER: ""}) == (0, [])
    await lab.redis("DEL", keys.DAEMONS)
    assert await recover(lab, dead={OTHER: ""}) == (1, [])


async def test_a_token_without_a_number_has_an_owner_too(lab: ScriptHarness) -> None:
    await lab.add("a")
    await lab.claim(1, "me-0")
    assert await recover(lab) == (1, [])


async def test_the_fence_holds_against_the_daemon_that_was_thought_dead(lab: ScriptHarness) -> None:
    token = await leased(lab, OTHER, "a")
    await recover(lab, dead={OTHER: ""})
    fresh = lab.token(ME)
    assert await lab.claimed(1, fresh) == ["a"]
    assert await lab.settle("a", token, AckKind.COMPLETE) == "stale"
    assert await lab.scripts.running([(lab.keys.job_id("a"), token)]) == [0]
    assert await lab.settle("a", fresh, AckKind.COMPLETE) == "done"


async def test_the_third_delivery_is_alone_and_the_third_death_is_poison(lab: ScriptHarness) -> None:
    await leased(lab, OLD, "a", priority=1)
    assert await recover(lab) == (1, [])
    assert await lab.claimed(5, lab.token(OLD)) == ["a"]
    assert await recover(lab) == (1, [])
    assert (await lab.claimed(), (await lab.claim()).crash_looping, await lab.place("a")) == ([], 1, "waiting")
    assert await lab.claimed(5, lab.token(OLD), isolated=True) == ["a"]
    assert await recover(lab) == (0, [("a", "poison")])
    assert await lab.settle("a", f"{ME}:9", AckKind.FAILED) == "done"
    assert (await lab.place("a"), (await lab.counters())["lost"]) == ("failed", 3)


async def test_a_job_whose_effect_had_begun_is_unknown(lab: ScriptHarness) -> None:
    token = await leased(lab, OLD, "a")
    await lab.scripts.begin_effect(lab.keys.job_id("a"), token)
    assert await recover(lab) == (0, [("a", "unknown")])
    assert await lab.settle("a", f"{ME}:9", AckKind.UNKNOWN) == "done"
    assert await lab.place("a") == "unknown"


async def test_it_stays_unknown_when_its_finder_dies_too(lab: ScriptHarness) -> None:
    token = await leased(lab, OLD, "a")
    await lab.scripts.begin_effect(lab.keys.job_id("a"), token)
    for _ in range(3):
        assert await recover(lab, lab.token(OLD)) == (0, [("a", "unknown")])


async def test_an_effect_of_an_earlier_delivery_does_not_count(lab: ScriptHarness) -> None:
    token = await leased(lab, OLD, "a")
    await lab.scripts.begin_effect(lab.keys.job_id("a"), token)
    await lab.settle("a", token, AckKind.RETRY)
    await lab.claim(1, lab.token(OLD))
    assert await recover(lab) == (1, [])


async def test_a_job_that_was_aborted_while_it_ran_ends_as_cancelled(lab: ScriptHarness) -> None:
    await leased(lab, OLD, "a")
    await lab.stock_abort("a")
    assert await recover(lab) == (0, [("a", "aborted")])
    assert await lab.settle("a", f"{ME}:9", AckKind.ABORTED) == "done"
    assert (await lab.place("a"), (await lab.counters()).get("lost")) == ("cancelled", None)


async def test_a_lease_without_json_has_a_fate_too(lab: ScriptHarness) -> None:
    await leased(lab, OLD, "a")
    await lab.redis("ZREM", lab.keys.incomplete, lab.keys.job_id("a"))
    await lab.redis("DEL", lab.keys.job_id("a"))
    assert (await lab.scripts.recover(ME, "me-", f"{ME}:9")).ended == [(lab.keys.job_id("a"), b"", "aborted")]
    await lab.settle("a", f"{ME}:9", AckKind.ABORTED, number=-1)
    assert await lab.place("a") == "gone"


async def test_many_come_back_in_steps(lab: ScriptHarness) -> None:
    names = [f"k{n}" for n in range(450)]
    await leased(lab, OLD, *names)
    assert await recover(lab, batch=50) == (450, [])
    assert sorted(await lab.lane()) == sorted(names)
    assert await lab.redis("EXISTS", lab.keys.leases) == 0


async def test_a_rank_comes_back_to_the_head_of_its_rank(lab: ScriptHarness) -> None:
    await leased(lab, OLD, "b", "a", priority=2)
    await lab.add("c", priority=2)
    await recover(lab)
    assert await lab.claimed() == ["b", "a", "c"]


@pytest.mark.parametrize("wrong", ["queued", "priority", "priorities", "crashes", "begun", "suspects", "active"])
async def test_a_structure_of_the_wrong_type_loses_no_job(lab: ScriptHarness, wrong: str, untidy: None) -> None:
    await leased(lab, OLD, "a", "b")
    await lab.redis("SET", getattr(lab.keys, wrong), "wrong")
    try:
        await recover(lab)
    except StoreError as error:
        assert "WRONGTYPE" in str(error)  # noqa: PT017 - some structures are not touched
    await lab.redis("DEL", getattr(lab.keys, wrong))
    await recover(lab)
    assert sorted(await lab.claimed()) == ["a", "b"]


async def test_leases_are_renewed_in_the_stores_time(lab: ScriptHarness, clock: StoreClock) -> None:
    assert await renew(lab.store, "me-1", 5_000) == clock.ms
    assert float(await lab.redis("ZSCORE", keys.DAEMONS, "me-1")) == clock.ms + 5_000


@pytest.mark.parametrize("step_ms", [0, 1, -1, 3_600_000, -3_600_000])
async def test_each_renewal_changes_the_entry(lab: ScriptHarness, clock: StoreClock, step_ms: int) -> None:
    entries = set[str]()
    for _ in range(3):
        await renew(lab.store, "me-1", 5_000)
        entries.add((await listed(lab))["me-1"])
        await clock.step(step_ms)
    assert len(entries) == 3
