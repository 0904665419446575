"""settle: every ending, fencing, trimming, and keys that were aborted or enqueued again meanwhile."""

from __future__ import annotations

import pytest

from crmd.engine.store.replies import AckKind
from tests.support.script_harness import ScriptHarness, document, may_meet_wrong_type
from tests.support.storeclock import StoreClock

FINAL = {
    AckKind.COMPLETE: ("completed", "complete", "completed"),
    AckKind.FAILED: ("failed", "failed", "failed"),
    AckKind.UNKNOWN: ("unknown", "failed", "failed"),
    AckKind.ABORTED: ("cancelled", "aborted", "cancelled"),
}
"""AckKind -> place, status in the JSON, counter."""


@pytest.mark.parametrize("kind", FINAL)
async def test_a_final_outcome(harness: ScriptHarness, clock: StoreClock, kind: AckKind) -> None:
    place, status, counter = FINAL[kind]
    token = await harness.lease("a", priority=2)
    await harness.redis("HSET", harness.keys.crashes, harness.keys.job_id("a"), 1)
    await harness.scripts.begin_effect(harness.keys.job_id("a"), token)
    assert await harness.end("a", token, kind, entry=b'{"n":1}') == "done"
    found = await harness.inspect("a")
    assert (await harness.place("a"), await harness.status("a"), found.ended_ms, found.log) == (
        place,
        status,
        clock.ms,
        [b'{"n":1}'],
    )
    assert (found.lease, found.due, found.priority, found.crash_count) == (None, None, 0, 0)
    counts = await harness.scripts.counts()
    assert (counts.waiting, counts.active, counts.minutes) == (0, 0, {clock.ms // 60_000: 1})
    assert int(counts.counters[counter]) == 1
    assert await harness.redis("EXISTS", harness.keys.begun, harness.keys.crashes, harness.keys.priorities) == 0


async def test_an_unknown_job_counts_as_failed_too(harness: ScriptHarness) -> None:
    token = await harness.lease("a")
    await harness.settle("a", token, AckKind.UNKNOWN)
    counters = await harness.counters()
    assert (counters["failed"], counters["unknown"]) == (1, 1)


async def test_a_retry_waits_for_its_time(harness: ScriptHarness, clock: StoreClock) -> None:
    token = await harness.lease("a")
    assert await harness.settle("a", token, AckKind.RETRY, number=1_500) == "done"
    assert (await harness.place("a"), (await harness.inspect("a")).due) == ("delayed", clock.ms / 1000 + 1.5)
    assert (await harness.counters())["retried"] == 1
    assert await harness.claimed() == []
    await clock.forward(1_500)
    assert await harness.claimed() == ["a"]


@pytest.mark.parametrize("kind", [AckKind.RETRY, AckKind.SNOOZE])
async def test_without_delay_it_goes_to_the_end_of_its_lane(harness: ScriptHarness, kind: AckKind) -> None:
    token = await harness.lease("a")
    await harness.add("b")
    await harness.settle("a", token, kind)
    assert await harness.lane() == ["b", "a"]
    assert ("retried" in await harness.counters()) == (kind is AckKind.RETRY)


async def test_what_is_given_back_stands_at_the_head_in_its_order(harness: ScriptHarness) -> None:
    token = await harness.lease("a", "b", "c")
    await harness.add("d")
    await harness.scripts.settle([harness.ack(key, token, AckKind.RETURN, document=b"") for key in "abc"])
    assert await harness.lane() == ["a", "b", "c", "d"]
    assert await harness.redis("GET", harness.keys.job_id("a")) == document("q", "a")


async def test_what_is_given_back_stands_at_the_head_of_its_rank(harness: ScriptHarness) -> None:
    token = await harness.lease("z", "y", "x", priority=5)
    await harness.add("a", priority=5)
    await harness.add("first", priority=4)
    await harness.scripts.settle([harness.ack(key, token, AckKind.RETURN) for key in "zyx"])
    assert await harness.claimed() == ["first", "z", "y", "x", "a"]


async def test_a_retry_keeps_its_rank(harness: ScriptHarness, clock: StoreClock) -> None:
    token = await harness.lease("a", priority=1)
    await harness.add("b")
    await harness.settle("a", token, AckKind.RETRY, number=10)
    await clock.forward(10)
    assert await harness.claimed() == ["a", "b"]


@pytest.mark.parametrize("kind", list(AckKind))
@pytest.mark.parametrize("held", ["another's", "gone"])
async def test_a_stale_token_changes_nothing(harness: ScriptHarness, kind: AckKind, held: str) -> None:
    await harness.lease("a")
    if held == "gone":
        await harness.redis("HDEL", harness.keys.leases, harness.keys.job_id("a"))
        await harness.redis("RPUSH", harness.keys.queued, harness.keys.job_id("a"))
    before = await snapshot(harness)
    ack = harness.ack("a", "daemon-1:999", kind, entry=b"{}", number=5, marked=True)
    assert await harness.scripts.settle([ack]) == ([harness.keys.job_id("a")], [])
    assert await snapshot(harness) == before


async def snapshot(harness: ScriptHarness) -> dict[bytes, bytes]:
    """Every key with its contents."""
    names = sorted([name async for name in harness.store.redis.scan_iter()])
    return {name: await harness.redis("DUMP", name) for name in names}


async def test_an_outcome_that_comes_twice_counts_once(harness: ScriptHarness) -> None:
    token = await harness.lease("a")
    assert await harness.settle("a", token, AckKind.COMPLETE) == "done"
    assert await harness.settle("a", token, AckKind.COMPLETE) == "stale"
    assert (await harness.counters())["completed"] == 1


async def test_one_call_carries_many_kinds(harness: ScriptHarness) -> None:
    token = await harness.lease("a", "b", "c", "d", "e")
    kinds = zip("abcd", [AckKind.COMPLETE, AckKind.FAILED, AckKind.RETRY, AckKind.RETURN], strict=True)
    acks = [harness.ack(key, token, kind) for key, kind in kinds]
    acks.append(harness.ack("e", "other:1", AckKind.COMPLETE))
    assert await harness.scripts.settle(acks) == ([harness.keys.job_id("e")], [])
    assert [await harness.place(key) for key in "abcde"] == ["completed", "failed", "waiting", "waiting", "active"]
    assert await harness.lane() == ["d", "c"]


async def test_a_full_call(harness: ScriptHarness) -> None:
    keys = [f"k{n}" for n in range(500)]
    token = await harness.lease(*keys)
    stale, taken = await harness.scripts.settle([harness.ack(key, token, AckKind.COMPLETE) for key in keys])
    assert (stale, taken) == ([], [])
    assert (await harness.scripts.counts()).completed == 100


@pytest.mark.parametrize(("ttl", "left"), [(0, -1), (60, 60), (-1, -2)])
async def test_a_finished_job_has_the_ttl_that_it_asked_for(harness: ScriptHarness, ttl: int, left: int) -> None:
    token = await harness.lease("a")
    await harness.settle("a", token, AckKind.COMPLETE, number=ttl, entry=b"{}")
    assert await harness.redis("TTL", harness.keys.job_id("a")) == left
    assert await harness.place("a") == ("gone" if ttl < 0 else "completed")
    assert (await harness.counters())["completed"] == 1
    if ttl > 0:
        await harness.add("a")  # alive again, it must not expire
        assert await harness.redis("TTL", harness.keys.job_id("a")) == -1


async def test_a_mark_is_taken_out_and_only_then(harness: ScriptHarness) -> None:
    token = await harness.lease("a", "b")
    ids = [harness.keys.job_id(key) for key in "ab"]
    await harness.scripts.mark([(job_id, token, b"{}", True) for job_id in ids])
    await harness.settle("a", token, AckKind.COMPLETE, marked=True)
    assert await harness.redis("LRANGE", harness.keys.active, 0, -1) == [ids[1].encode()]
    await harness.settle("b", token, AckKind.RETURN, marked=True)
    assert await harness.redis("EXISTS", harness.keys.active) == 0


@pytest.mark.parametrize("kind", [AckKind.RETRY, AckKind.SNOOZE, AckKind.RETURN])
async def test_what_an_abort_took_is_not_put_back(harness: ScriptHarness, kind: AckKind) -> None:
    token = await harness.lease("a")
    await harness.stock_abort("a")
    assert await harness.settle("a", token, kind) == "taken"
    assert await harness.place("a") == "active, aborted"
    assert await harness.settle("a", token, AckKind.ABORTED) == "done"
    assert (await harness.place("a"), await harness.status("a"), await harness.lane()) == (
        "cancelled",
        "aborted",
        [],
    )


async def test_a_job_that_ended_despite_its_abort_says_how(harness: ScriptHarness) -> None:
    token = await harness.lease("a")
    await harness.stock_abort("a")
    assert await harness.settle("a", token, AckKind.COMPLETE) == "done"
    assert (await harness.place("a"), await harness.status("a")) == ("completed", "complete")


@pytest.mark.parametrize("due_s", [0, 4_000_000_000])
@pytest.mark.parametrize("met", [False, True])
async def test_a_key_enqueued_again_while_its_aborted_run_holds_the_lease_is_not_lost(
    harness: ScriptHarness, due_s: int, met: bool
) -> None:
    token = await harness.lease("a")
    await harness.redis("HSET", harness.keys.crashes, harness.keys.job_id("a"), 2)
    await harness.stock_abort("a")
    await harness.redis("DEL", "saq:abort:a")
    assert await harness.stock_enqueue("a", due_s)
    if met:
        assert await harness.claimed() == []  # the mention in the lane is dropped: the id is leased
    assert await harness.settle("a", token, AckKind.ABORTED) == "done"
    assert await harness.redis("GET", harness.keys.job_id("a")) == document("q", "a")
    assert "cancelled" not in await harness.counters()
    assert await harness.place("a") == ("delayed" if due_s else "waiting")
    if not due_s:
        claimed = await harness.claim()
        assert [(harness.keys.key_of(job_id), deaths) for job_id, _, deaths in claimed.jobs] == [("a", 0)]


async def test_a_timeline_keeps_its_last_fifty(harness: ScriptHarness) -> None:
    for n in range(60):
        token = await harness.lease("a")
        await harness.settle("a", token, AckKind.RETRY, entry=b"%d" % n)
    assert await harness.log("a") == [b"%d" % n for n in range(10, 60)]


async def test_minutes_are_forgotten(harness: ScriptHarness, clock: StoreClock) -> None:
    for n in range(25):
        token = await harness.lease(f"k{n}")
        await harness.settle(f"k{n}", token, AckKind.COMPLETE)
        await clock.forward(60_000)
    minutes = (await harness.scripts.counts()).minutes
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
async def test_a_structure_of_the_wrong_type_loses_no_job(
    harness: ScriptHarness, wrong: str, untidy: None
) -> None:
    """What the first try could not write the second one writes; what it wrote stays written."""
    kinds = dict(
        zip(
            "abcde",
            [AckKind.COMPLETE, AckKind.UNKNOWN, AckKind.ABORTED, AckKind.RETRY, AckKind.RETURN],
            strict=True,
        )
    )
    token = await harness.lease(*kinds)
    await harness.redis("ZREM", harness.keys.incomplete, harness.keys.job_id("c"))
    acks = [harness.ack(key, token, kind, marked=True) for key, kind in kinds.items()]
    async with harness.broken(wrong):
        with may_meet_wrong_type():
            await harness.scripts.settle(acks)
    await harness.scripts.settle(acks)
    assert [await harness.place(key) for key in kinds] == [
        "completed",
        "unknown",
        "cancelled",
        "waiting",
        "waiting",
    ]
    assert sorted(await harness.claimed()) == ["d", "e"]
