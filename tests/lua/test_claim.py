"""claim: what is leased, in which order, and what becomes of ids that are not what they should be."""

from __future__ import annotations

import pytest

from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL
from tests.support.script_harness import ScriptHarness, may_meet_wrong_type
from tests.support.storeclock import StoreClock


async def test_a_claim_leases_in_the_order_of_arrival(harness: ScriptHarness) -> None:
    await harness.add("a", "b", "c")
    claimed = await harness.claim(2, "d:1")
    assert (harness.keys_of(claimed), claimed.reason) == (["a", "b"], "ok")
    assert await harness.scripts.leases() == {harness.keys.job_id("a"): "d:1", harness.keys.job_id("b"): "d:1"}
    assert await harness.lane() == ["c"]
    assert [await harness.place(key) for key in "abc"] == ["active", "active", "waiting"]


async def test_an_empty_queue_says_so(harness: ScriptHarness) -> None:
    claimed = await harness.claim()
    assert (claimed.reason, claimed.wait_ms, claimed.due_ms, claimed.jobs) == ("empty", -1, -1, [])


async def test_fewer_jobs_than_slots_is_empty_too(harness: ScriptHarness) -> None:
    await harness.add("a")
    claimed = await harness.claim(5)
    assert (harness.keys_of(claimed), claimed.reason) == (["a"], "empty")


async def test_one_claim_takes_no_more_than_a_script_may_hold(harness: ScriptHarness) -> None:
    await harness.add(*(f"k{n}" for n in range(MAX_JOBS_PER_CALL + 100)))
    assert len((await harness.claim(10_000)).jobs) == MAX_JOBS_PER_CALL


async def test_the_json_comes_as_it_is_stored(harness: ScriptHarness) -> None:
    raw = '{"function":"work","kwargs":{"e":[],"o":{},"ü":"\\u0000"},"n":1e400}'.encode()
    await harness.add("a")
    await harness.redis("SET", harness.keys.job_id("a"), raw)
    assert (await harness.claim()).jobs == [(harness.keys.job_id("a"), raw, 0)]


async def test_what_is_due_is_promoted_in_the_order_of_its_time(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("late", delay_ms=300)
    await harness.add("soon", delay_ms=100)
    claimed = await harness.claim()
    assert (claimed.reason, claimed.due_ms, claimed.jobs) == ("empty", 100, [])
    await clock.forward(99)
    assert await harness.claimed() == []
    await clock.forward(1)
    claimed = await harness.claim()
    assert (harness.keys_of(claimed), claimed.due_ms) == (["soon"], 200)
    await clock.forward(1000)
    assert await harness.claimed() == ["late"]


async def test_promoting_what_is_due_claims_nothing(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("a", delay_ms=10)
    await clock.forward(10)
    assert await harness.scripts.promote_due() == -1
    assert (await harness.place("a"), await harness.lane()) == ("waiting", ["a"])


async def test_promotion_is_bounded_and_says_that_more_is_due(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add(*(f"k{n}" for n in range(500)), delay_ms=10)
    await clock.forward(10)
    due_ms = await harness.scripts.promote_due()
    counts = await harness.scripts.counts()
    assert (counts.waiting, counts.delayed, due_ms) == (200, 300, 0)


async def test_a_delayed_job_of_rank_goes_to_the_priority_lane(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("plain", delay_ms=10)
    await harness.add("other", delay_ms=11)
    await harness.add("urgent", delay_ms=20, priority=1)
    await clock.forward(20)
    assert await harness.claimed() == ["urgent", "plain", "other"]


async def test_a_pause_stops_starts_and_not_promotion(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("a")
    await harness.add("b", delay_ms=10)
    await clock.forward(10)
    await harness.redis("HSET", harness.keys.paused, "at", 1)
    claimed = await harness.claim()
    assert (claimed.reason, claimed.wait_ms, claimed.jobs) == ("paused", -1, [])
    assert (await harness.scripts.counts()).waiting == 2
    await harness.redis("PEXPIRE", harness.keys.paused, 60_000)
    assert 59_000 < (await harness.claim()).wait_ms <= 60_000
    await harness.redis("DEL", harness.keys.paused)
    assert await harness.claimed() == ["a", "b"]


async def test_a_second_mention_starts_nothing(harness: ScriptHarness) -> None:
    await harness.add("a", "b")
    await harness.redis("RPUSH", harness.keys.queued, harness.keys.job_id("a"), harness.keys.job_id("a"))
    assert await harness.claimed() == ["a", "b"]
    await harness.redis("RPUSH", harness.keys.queued, harness.keys.job_id("a"))
    assert (await harness.claimed(), await harness.lane()) == ([], [])


async def test_an_id_in_both_lanes_starts_once(harness: ScriptHarness) -> None:
    await harness.add("a", priority=3)
    await harness.redis("LPUSH", harness.keys.queued, harness.keys.job_id("a"))
    token = harness.token()
    assert await harness.claimed(5, token) == ["a"]
    assert await harness.settle("a", token, AckKind.COMPLETE) == "done"
    assert await harness.claimed() == []
    assert (await harness.place("a"), (await harness.counters())["started"]) == ("completed", 1)


async def test_what_a_plain_client_adds_under_the_key_of_a_finished_job_is_active_alone(
    harness: ScriptHarness,
) -> None:
    await harness.finish("a")
    assert await harness.stock_enqueue("a")  # which leaves the indexes as they are
    assert await harness.claimed() == ["a"]
    assert (await harness.place("a"), (await harness.scripts.counts()).completed) == ("active", 0)


async def test_a_mention_of_a_delayed_job_does_not_start_it_early(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await harness.add("a", delay_ms=100)
    await harness.redis("RPUSH", harness.keys.queued, harness.keys.job_id("a"))
    assert (await harness.claimed(), await harness.lane()) == ([], [])
    await clock.forward(100)
    assert await harness.claimed() == ["a"]


async def test_an_id_that_an_abort_took_is_reported_and_dropped(harness: ScriptHarness) -> None:
    await harness.add("a", "b")
    await harness.redis("ZREM", harness.keys.incomplete, harness.keys.job_id("a"))
    claimed = await harness.claim()
    assert (harness.keys_of(claimed), claimed.aborted_ids) == (["b"], [harness.keys.job_id("a")])
    assert await harness.lane() == []
    await harness.redis("DEL", harness.keys.job_id("a"))


async def test_an_id_without_json_leaves_the_books_with_all_that_was_its_own(harness: ScriptHarness) -> None:
    await harness.add("a", priority=2)
    await harness.redis("HSET", harness.keys.crashes, harness.keys.job_id("a"), 1)
    await harness.redis("RPUSH", harness.keys.log("a"), '{"at":1,"event":"retried"}')
    await harness.redis("DEL", harness.keys.job_id("a"))
    assert await harness.claimed() == []
    assert (await harness.place("a"), (await harness.counters())["missing"]) == ("gone", 1)
    # no_leaks looks for the rest


async def test_a_job_of_the_wrong_type_is_as_one_without_json(harness: ScriptHarness, untidy: None) -> None:
    await harness.add("a", "b")
    await harness.redis("DEL", harness.keys.job_id("a"))
    await harness.redis("RPUSH", harness.keys.job_id("a"), "not a string")
    assert await harness.claimed() == ["b"]
    assert await harness.redis("ZCARD", harness.keys.incomplete) == 1


async def test_json_that_is_none_is_leased_for_the_worker_to_quarantine(harness: ScriptHarness) -> None:
    await harness.add("a")
    await harness.redis("SET", harness.keys.job_id("a"), b"\xff{not json")
    assert (await harness.claim()).jobs == [(harness.keys.job_id("a"), b"\xff{not json", 0)]


@pytest.mark.parametrize("foreign", ["saq:job:other:k", "nonsense", "", "saq:job:q", "crmd:q:q:counters"])
async def test_an_id_of_another_queue_is_dropped_and_its_key_left_alone(
    harness: ScriptHarness, foreign: str, untidy: None
) -> None:
    await harness.add("a")
    await harness.redis("LPUSH", harness.keys.queued, foreign)
    await harness.redis("ZADD", harness.keys.incomplete, 0, foreign)
    if foreign != harness.keys.counters:
        await harness.redis("SET", foreign, b"{}")
    assert await harness.claimed() == ["a"]
    assert await harness.redis("EXISTS", foreign) == 1
    assert await harness.redis("ZRANGE", harness.keys.incomplete, 0, -1) == [harness.keys.job_id("a").encode()]


async def test_an_id_that_is_no_text_is_reported_as_it_is(harness: ScriptHarness, untidy: None) -> None:
    raw = harness.keys.job_id("k").encode() + b"\xff\xfe"
    await harness.add("a")
    await harness.redis("LPUSH", harness.keys.queued, raw, b"\xc3\x28")
    await harness.redis("ZADD", harness.keys.incomplete, 0, raw)
    await harness.redis("SET", raw, b"{}")
    claimed = await harness.claim()
    assert (harness.keys_of(claimed), claimed.invalid_ids) == (["a"], [(raw, b"{}")])


async def test_priority_goes_first_and_a_tenth_to_the_normal_lane(harness: ScriptHarness) -> None:
    await harness.add(*(f"n{n}" for n in range(20)))
    await harness.add(*(f"p5-{n}" for n in range(30)), priority=5)
    await harness.add("p1", priority=1)
    order = await harness.claimed(25) + await harness.claimed(25)
    assert order[0] == "p1"
    assert [key for key in order if key[0] == "p"] == ["p1", *(f"p5-{n}" for n in range(30))]
    ranked = order[: order.index("p5-29")]
    assert [position for position, key in enumerate(ranked) if key[0] == "n"] == [9, 19, 29]
    assert [key for key in order if key[0] == "n"] == [f"n{n}" for n in range(19)]


async def test_the_normal_lane_gets_its_tenth_one_slot_at_a_time_too(harness: ScriptHarness) -> None:
    await harness.add(*(f"p{n}" for n in range(40)), priority=5)
    await harness.add(*(f"n{n}" for n in range(10)))
    order = [key for _ in range(40) for key in await harness.claimed(1)]
    assert sum(key[0] == "n" for key in order) == 4


async def test_a_claim_takes_a_kept_job_out_of_the_index(harness: ScriptHarness) -> None:
    await harness.finish("a", AckKind.UNKNOWN)
    await harness.redis("ZADD", harness.keys.incomplete, 0, harness.keys.job_id("a"))
    await harness.redis("RPUSH", harness.keys.queued, harness.keys.job_id("a"))
    assert await harness.claimed() == ["a"]
    found = await harness.inspect("a")
    assert (found.place, await harness.redis("SCARD", harness.keys.unknown)) == (None, 0)


async def test_a_lane_of_ghosts_does_not_hide_the_jobs_behind_it(harness: ScriptHarness) -> None:
    await harness.add(*(f"g{n}" for n in range(50)), "a")
    await harness.redis("ZREM", harness.keys.incomplete, *(harness.keys.job_id(f"g{n}") for n in range(50)))
    await harness.redis("DEL", *(harness.keys.job_id(f"g{n}") for n in range(50)))
    assert await harness.claimed(1) == ["a"]


async def test_more_ghosts_than_one_claim_looks_at_are_not_taken_for_an_empty_queue(
    harness: ScriptHarness,
) -> None:
    await harness.redis("RPUSH", harness.keys.queued, *(harness.keys.job_id(f"g{n}") for n in range(200)))
    await harness.add("a")
    claimed = await harness.claim(1)
    assert (claimed.reason, claimed.wait_ms, len(claimed.aborted_ids)) == ("ok", 0, 64)
    for _ in range(2):
        claimed = await harness.claim(1)
    assert await harness.claimed(1) == ["a"]


async def test_starts_are_counted(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("a", "b")
    await harness.claim()
    counters = await harness.counters()
    assert (counters["started"], counters["last_start"]) == (2, clock.ms)


@pytest.mark.parametrize(
    "wrong", ["queued", "incomplete", "leases", "priority", "priorities", "parked", "suspects"]
)
async def test_a_structure_of_the_wrong_type_loses_nothing(
    harness: ScriptHarness, clock: StoreClock, wrong: str, untidy: None
) -> None:
    """A claim fails as a whole and is repeated: what was due or waits then is found by the next one."""
    await harness.add("delayed", delay_ms=10)
    await harness.add("ranked", priority=1, delay_ms=10)
    await clock.forward(10)
    async with harness.broken(wrong):
        for _ in range(2):
            with may_meet_wrong_type():
                await harness.claim()
    strays = [
        harness.ack(harness.keys.key_of(i), t, AckKind.RETURN) for i, t in (await harness.scripts.leases()).items()
    ]
    if strays:
        await harness.scripts.settle(strays)
    assert sorted(await harness.claimed()) == ["delayed", "ranked"]
