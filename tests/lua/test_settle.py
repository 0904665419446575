"""settle: every ending, fencing, trimming, and keys that were aborted or enqueued again meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.engine.store.replies import AckKind
from crmd.errors import StoreError
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock

FINAL = {
    AckKind.COMPLETE: ("completed", "complete", "completed"),
    AckKind.FAILED: ("failed", "failed", "failed"),
    AckKind.UNKNOWN: ("unknown", "failed", "failed"),
    AckKind.ABORTED: ("cancelled", "aborted", "cancelled"),
}
"""AckKind -> place, status in the JSON, counter."""


async def running(lab: ScriptHarness, *keys: str, **options: Any) -> str:
    """Adds jobs and claims them; their lease token."""
    token = lab.token()
    await lab.add(*keys, **options)
    assert await lab.claimed(len(keys), token) == list(keys)
    return token


@pytest.mark.parametrize("kind", FINAL)
async def test_a_final_outcome(lab: ScriptHarness, clock: StoreClock, kind: AckKind) -> None:
    place, status, counter = FINAL[kind]
    token = await running(lab, "a", priority=2)
    await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id("a"), 1)
    await lab.scripts.begin_effect(lab.keys.job_id("a"), token)
    assert await lab.end("a", token, kind, entry=b'{"n":1}') == "done"
    found = await lab.inspect("a")
    assert (await lab.place("a"), await lab.status("a"), found.ended_ms, found.log) == (
        place,
        status,
        clock.ms,
        [b'{"n":1}'],
    )
    assert (found.lease, found.due, found.priority, found.crash_count) == (None, None, 0, 0)
    counts = await lab.scripts.counts()
    assert (counts.waiting, counts.active, counts.minutes) == (0, 0, {clock.ms // 60_000: 1})
    assert int(counts.counters[counter]) == 1
    assert await lab.redis("EXISTS", lab.keys.begun, lab.keys.crashes, lab.keys.priorities) == 0


async def test_an_unknown_job_counts_as_failed_too(lab: ScriptHarness) -> None:
    token = await running(lab, "a")
    await lab.settle("a", token, AckKind.UNKNOWN)
    counters = await lab.counters()
    assert (counters["failed"], counters["unknown"]) == (1, 1)


async def test_a_retry_waits_for_its_time(lab: ScriptHarness, clock: StoreClock) -> None:
    token = await running(lab, "a")
    assert await lab.settle("a", token, AckKind.RETRY, number=1_500) == "done"
    assert (await lab.place("a"), (await lab.inspect("a")).due) == ("delayed", clock.ms / 1000 + 1.5)
    assert (await lab.counters())["retried"] == 1
    assert await lab.claimed() == []
    await clock.forward(1_500)
    assert await lab.claimed() == ["a"]


@pytest.mark.parametrize("kind", [AckKind.RETRY, AckKind.SNOOZE])
async def test_without_delay_it_goes_to_the_end_of_its_lane(lab: ScriptHarness, kind: AckKind) -> None:
    token = await running(lab, "a")
    await lab.add("b")
    await lab.settle("a", token, kind)
    assert await lab.lane() == ["b", "a"]
    assert ("retried" in await lab.counters()) == (kind is AckKind.RETRY)


async def test_what_is_given_back_stands_at_the_head_in_its_order(lab: ScriptHarness) -> None:
    token = await running(lab, "a", "b", "c")
    await lab.add("d")
    await lab.scripts.settle([lab.ack(key, token, AckKind.RETURN, document=b"") for key in "abc"])
    assert await lab.lane() == ["a", "b", "c", "d"]
    assert await lab.redis("GET", lab.keys.job_id("a")) == document("q", "a")


async def test_what_is_given_back_stands_at_the_head_of_its_rank(lab: ScriptHarness) -> None:
    token = await running(lab, "z", "y", "x", priority=5)
    await lab.add("a", priority=5)
    await lab.add("first", priority=4)
    await lab.scripts.settle([lab.ack(key, token, AckKind.RETURN) for key in "zyx"])
    assert await lab.claimed() == ["first", "z", "y", "x", "a"]


async def test_a_retry_keeps_its_rank(lab: ScriptHarness, clock: StoreClock) -> None:
    token = await running(lab, "a", priority=1)
    await lab.add("b")
    await lab.settle("a", token, AckKind.RETRY, number=10)
    await clock.forward(10)
    assert await lab.claimed() == ["a", "b"]


@pytest.mark.parametrize("kind", list(AckKind))
@pytest.mark.parametrize("held", ["another's", "gone"])
async def test_a_stale_token_changes_nothing(lab: ScriptHarness, kind: AckKind, held: str) -> None:
    await running(lab, "a")
    if held == "gone":
        await lab.redis("HDEL", lab.keys.leases, lab.keys.job_id("a"))
        await lab.redis("RPUSH", lab.keys.queued, lab.keys.job_id("a"))
    before = await snapshot(lab)
    ack = lab.ack("a", "daemon-1:999", kind, entry=b"{}", number=5, marked=True)
    assert await lab.scripts.settle([ack]) == ([lab.keys.job_id("a")], [])
    assert await snapshot(lab) == before


async def snapshot(lab: ScriptHarness) -> dict[bytes, bytes]:
    """Every key with its contents."""
    names = sorted([name async for name in lab.store.redis.scan_iter()])
    return {name: await lab.redis("DUMP", name) for name in names}


async def test_an_outcome_that_comes_twice_counts_once(lab: ScriptHarness) -> None:
    token = await running(lab, "a")
    assert await lab.settle("a", token, AckKind.COMPLETE) == "done"
    assert await lab.settle("a", token, AckKind.COMPLETE) == "stale"
    assert (await lab.counters())["completed"] == 1


async def test_one_call_carries_many_kinds(lab: ScriptHarness) -> None:
    token = await running(lab, "a", "b", "c", "d", "e")
    kinds = zip("abcd", [AckKind.COMPLETE, AckKind.FAILED, AckKind.RETRY, AckKind.RETURN], strict=True)
    acks = [lab.ack(key, token, kind) for key, kind in kinds]
    acks.append(lab.ack("e", "other:1", AckKind.COMPLETE))
    assert await lab.scripts.settle(acks) == ([lab.keys.job_id("e")], [])
    assert [await lab.place(key) for key in "abcde"] == ["completed", "failed", "waiting", "waiting", "active"]
    assert await lab.lane() == ["d", "c"]


async def test_a_full_call(lab: ScriptHarness) -> None:
    keys = [f"k{n}" for n in range(500)]
    token = await running(lab, *keys)
    stale, taken = await lab.scripts.settle([lab.ack(key, token, AckKind.COMPLETE) for key in keys])
    assert (stale, taken) == ([], [])
    assert (await lab.scripts.counts()).completed == 100


@pytest.mark.parametrize(("ttl", "left"), [(0, -1), (60, 60), (-1, -2)])
async def test_a_finished_job_has_the_ttl_that_it_asked_for(lab: ScriptHarness, ttl: int, left: int) -> None:
    token = await running(lab, "a")
    await lab.settle("a", token, AckKind.COMPLETE, number=ttl, entry=b"{}")
    assert await lab.redis("TTL", lab.keys.job_id("a")) == left
    assert await lab.place("a") == ("gone" if ttl < 0 else "completed")
    assert (await lab.counters())["completed"] == 1
    if ttl > 0:
        await lab.add("a")  # alive again, it must not expire
        assert await lab.redis("TTL", lab.keys.job_id("a")) == -1


async def test_a_mark_is_taken_out_and_only_then(lab: ScriptHarness) -> None:
    token = await running(lab, "a", "b")
    ids = [lab.keys.job_id(key) for key in "ab"]
    await lab.scripts.mark([(job_id, token, b"{}", True) for job_id in ids])
    await lab.settle("a", token, AckKind.COMPLETE, marked=True)
    assert await lab.redis("LRANGE", lab.keys.active, 0, -1) == [ids[1].encode()]
    await lab.settle("b", token, AckKind.RETURN, marked=True)
    assert await lab.redis("EXISTS", lab.keys.active) == 0


@pytest.mark.parametrize("kind", [AckKind.RETRY, AckKind.SNOOZE, AckKind.RETURN])
async def test_what_an_abort_took_is_not_put_back(lab: ScriptHarness, kind: AckKind) -> None:
    token = await running(lab, "a")
    await lab.stock_abort("a")
    assert await lab.settle("a", token, kind) == "taken"
    assert await lab.place("a") == "active, aborted"
    assert await lab.settle("a", token, AckKind.ABORTED) == "done"
    assert (await lab.place("a"), await lab.status("a"), await lab.lane()) == ("cancelled", "aborted", [])


async def test_a_job_that_ended_despite_its_abort_says_how(lab: ScriptHarness) -> None:
    token = await running(lab, "a")
    await lab.stock_abort("a")
    assert await lab.settle("a", token, AckKind.COMPLETE) == "done"
    assert (await lab.place("a"), await lab.status("a")) == ("completed", "complete")


@pytest.mark.parametrize("due_s", [0, 4_000_000_000])
@pytest.mark.parametrize("met", [False, True])
async def test_a_key_enqueued_again_while_its_aborted_run_holds_the_lease_is_not_lost(
    lab: ScriptHarness, due_s: int, met: bool
) -> None:
    token = await running(lab, "a")
    await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id("a"), 2)
    await lab.stock_abort("a")
    await lab.redis("DEL", "saq:abort:a")
    assert await lab.stock_enqueue("a", due_s)
    if met:
        assert await lab.claimed() == []  # the mention in the lane is dropped: the id is leased
    assert await lab.settle("a", token, AckKind.ABORTED) == "done"
    assert await lab.redis("GET", lab.keys.job_id("a")) == document("q", "a")
    assert "cancelled" not in await lab.counters()
    assert await lab.place("a") == ("delayed" if due_s else "waiting")
    if not due_s:
        claimed = await lab.claim()
        assert [(lab.keys.key_of(job_id), deaths) for job_id, _, deaths in claimed.jobs] == [("a", 0)]


async def test_a_timeline_keeps_its_last_fifty(lab: ScriptHarness) -> None:
    for n in range(60):
        token = lab.token()
        await lab.add("a")
        await lab.claim(1, token)
        await lab.settle("a", token, AckKind.RETRY, entry=b"%d" % n)
    assert await lab.log("a") == [b"%d" % n for n in range(10, 60)]


async def test_minutes_are_forgotten(lab: ScriptHarness, clock: StoreClock) -> None:
    for n in range(25):
        token = await running(lab, f"k{n}")
        await lab.settle(f"k{n}", token, AckKind.COMPLETE)
        await clock.forward(60_000)
    minutes = (await lab.scripts.counts()).minutes
    assert sorted(minutes) == [clock.ms // 60_000 - n for n in range(20, 0, -1)]


WRITTEN = (
    "queued",
    "priority",
    "priorities",
    "completed",
    "failed",
    "cancelled",
    "unknown",
    "active",
    "crashes",
    "begun",
)


@pytest.mark.parametrize("wrong", [*WRITTEN, "incomplete", "leases", "counters", "minutes"])
async def test_a_structure_of_the_wrong_type_loses_no_job(lab: ScriptHarness, wrong: str, untidy: None) -> None:
    """What the first try could not write the second one writes; what it wrote stays written."""
    kinds = dict(
        zip(
            "abcde",
            [AckKind.COMPLETE, AckKind.UNKNOWN, AckKind.ABORTED, AckKind.RETRY, AckKind.RETURN],
            strict=True,
        )
    )
    token = await running(lab, *kinds)
    await lab.redis("ZREM", lab.keys.incomplete, lab.keys.job_id("c"))
    name = getattr(lab.keys, wrong)
    held = await lab.redis("DUMP", name)
    await lab.redis("DEL", name)
    await lab.redis("SET", name, "wrong")
    acks = [lab.ack(key, token, kind, marked=True) for key, kind in kinds.items()]
    try:
        await lab.scripts.settle(acks)
    except StoreError as error:
        assert "WRONGTYPE" in str(error)  # noqa: PT017 - some structures are not touched
    await lab.redis("DEL", name)
    if held:
        await lab.redis("RESTORE", name, 0, held)
    await lab.scripts.settle(acks)
    assert [await lab.place(key) for key in kinds] == ["completed", "unknown", "cancelled", "waiting", "waiting"]
    assert sorted(await lab.claimed()) == ["d", "e"]
