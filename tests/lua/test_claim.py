"""claim: what is leased, in which order, and what becomes of ids that are not what they should be."""

from __future__ import annotations

import pytest

from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL
from tests.support.script_harness import ScriptHarness
from tests.support.storeclock import StoreClock


async def test_a_claim_leases_in_the_order_of_arrival(lab: ScriptHarness) -> None:
    await lab.add("a", "b", "c")
    claimed = await lab.claim(2, "d:1")
    assert (lab.keys_of(claimed), claimed.reason) == (["a", "b"], "ok")
    assert await lab.scripts.leases() == {lab.keys.job_id("a"): "d:1", lab.keys.job_id("b"): "d:1"}
    assert await lab.lane() == ["c"]
    assert [await lab.place(key) for key in "abc"] == ["active", "active", "waiting"]


async def test_an_empty_queue_says_so(lab: ScriptHarness) -> None:
    claimed = await lab.claim()
    assert (claimed.reason, claimed.wait_ms, claimed.due_ms, claimed.jobs) == ("empty", -1, -1, [])


async def test_fewer_jobs_than_slots_is_empty_too(lab: ScriptHarness) -> None:
    await lab.add("a")
    claimed = await lab.claim(5)
    assert (lab.keys_of(claimed), claimed.reason) == (["a"], "empty")


async def test_one_claim_takes_no_more_than_a_script_may_hold(lab: ScriptHarness) -> None:
    await lab.add(*(f"k{n}" for n in range(MAX_JOBS_PER_CALL + 100)))
    assert len((await lab.claim(10_000)).jobs) == MAX_JOBS_PER_CALL


async def test_the_json_comes_as_it_is_stored(lab: ScriptHarness) -> None:
    raw = '{"function":"work","kwargs":{"e":[],"o":{},"ü":"\\u0000"},"n":1e400}'.encode()
    await lab.add("a")
    await lab.redis("SET", lab.keys.job_id("a"), raw)
    assert (await lab.claim()).jobs == [(lab.keys.job_id("a"), raw, 0)]


async def test_what_is_due_is_promoted_in_the_order_of_its_time(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("late", delay_ms=300)
    await lab.add("soon", delay_ms=100)
    claimed = await lab.claim()
    assert (claimed.reason, claimed.due_ms, claimed.jobs) == ("empty", 100, [])
    await clock.forward(99)
    assert await lab.claimed() == []
    await clock.forward(1)
    claimed = await lab.claim()
    assert (lab.keys_of(claimed), claimed.due_ms) == (["soon"], 200)
    await clock.forward(1000)
    assert await lab.claimed() == ["late"]


async def test_promoting_what_is_due_claims_nothing(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("a", delay_ms=10)
    await clock.forward(10)
    assert await lab.scripts.promote_due() == -1
    assert (await lab.place("a"), await lab.lane()) == ("waiting", ["a"])


async def test_promotion_is_bounded_and_says_that_more_is_due(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add(*(f"k{n}" for n in range(500)), delay_ms=10)
    await clock.forward(10)
    due_ms = await lab.scripts.promote_due()
    counts = await lab.scripts.counts()
    assert (counts.waiting, counts.delayed, due_ms) == (200, 300, 0)


async def test_a_delayed_job_of_rank_goes_to_the_priority_lane(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("plain", delay_ms=10)
    await lab.add("other", delay_ms=11)
    await lab.add("urgent", delay_ms=20, priority=1)
    await clock.forward(20)
    assert await lab.claimed() == ["urgent", "plain", "other"]


async def test_a_pause_stops_starts_and_not_promotion(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("a")
    await lab.add("b", delay_ms=10)
    await clock.forward(10)
    await lab.redis("HSET", lab.keys.paused, "at", 1)
    claimed = await lab.claim()
    assert (claimed.reason, claimed.wait_ms, claimed.jobs) == ("paused", -1, [])
    assert (await lab.scripts.counts()).waiting == 2
    await lab.redis("PEXPIRE", lab.keys.paused, 60_000)
    assert 59_000 < (await lab.claim()).wait_ms <= 60_000
    await lab.redis("DEL", lab.keys.paused)
    assert await lab.claimed() == ["a", "b"]


async def test_a_second_mention_starts_nothing(lab: ScriptHarness) -> None:
    await lab.add("a", "b")
    await lab.redis("RPUSH", lab.keys.queued, lab.keys.job_id("a"), lab.keys.job_id("a"))
    assert await lab.claimed() == ["a", "b"]
    await lab.redis("RPUSH", lab.keys.queued, lab.keys.job_id("a"))
    assert (await lab.claimed(), await lab.lane()) == ([], [])


async def test_an_id_in_both_lanes_starts_once(lab: ScriptHarness) -> None:
    await lab.add("a", priority=3)
    await lab.redis("LPUSH", lab.keys.queued, lab.keys.job_id("a"))
    token = lab.token()
    assert await lab.claimed(5, token) == ["a"]
    assert await lab.settle("a", token, AckKind.COMPLETE) == "done"
    assert await lab.claimed() == []
    assert (await lab.place("a"), (await lab.counters())["started"]) == ("completed", 1)


async def test_what_a_plain_client_adds_under_the_key_of_a_finished_job_is_active_alone(
    lab: ScriptHarness,
) -> None:
    token = lab.token()
    await lab.add("a")
    await lab.claim(1, token)
    await lab.settle("a", token, AckKind.COMPLETE)
    assert await lab.stock_enqueue("a")  # which leaves the indexes as they are
    assert await lab.claimed() == ["a"]
    assert (await lab.place("a"), (await lab.scripts.counts()).completed) == ("active", 0)


async def test_a_mention_of_a_delayed_job_does_not_start_it_early(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("a", delay_ms=100)
    await lab.redis("RPUSH", lab.keys.queued, lab.keys.job_id("a"))
    assert (await lab.claimed(), await lab.lane()) == ([], [])
    await clock.forward(100)
    assert await lab.claimed() == ["a"]


async def test_an_id_that_an_abort_took_is_reported_and_dropped(lab: ScriptHarness) -> None:
    await lab.add("a", "b")
    await lab.redis("ZREM", lab.keys.incomplete, lab.keys.job_id("a"))
    claimed = await lab.claim()
    assert (lab.keys_of(claimed), claimed.aborted_ids) == (["b"], [lab.keys.job_id("a")])
    assert await lab.lane() == []
    await lab.redis("DEL", lab.keys.job_id("a"))


async def test_an_id_without_json_leaves_the_books_with_all_that_was_its_own(lab: ScriptHarness) -> None:
    await lab.add("a", priority=2)
    await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id("a"), 1)
    await lab.redis("RPUSH", lab.keys.log("a"), '{"at":1,"event":"retried"}')
    await lab.redis("DEL", lab.keys.job_id("a"))
    assert await lab.claimed() == []
    assert (await lab.place("a"), (await lab.counters())["missing"]) == ("gone", 1)
    # no_leaks looks for the rest


async def test_a_job_of_the_wrong_type_is_as_one_without_json(lab: ScriptHarness, untidy: None) -> None:
    await lab.add("a", "b")
    await lab.redis("DEL", lab.keys.job_id("a"))
    await lab.redis("RPUSH", lab.keys.job_id("a"), "not a string")
    assert await lab.claimed() == ["b"]
    assert await lab.redis("ZCARD", lab.keys.incomplete) == 1


async def test_json_that_is_none_is_leased_for_the_worker_to_quarantine(lab: ScriptHarness) -> None:
    await lab.add("a")
    await lab.redis("SET", lab.keys.job_id("a"), b"\xff{not json")
    assert (await lab.claim()).jobs == [(lab.keys.job_id("a"), b"\xff{not json", 0)]


@pytest.mark.parametrize("foreign", ["saq:job:other:k", "nonsense", "", "saq:job:q", "crmd:q:q:counters"])
async def test_an_id_of_another_queue_is_dropped_and_its_key_left_alone(
    lab: ScriptHarness, foreign: str, untidy: None
) -> None:
    await lab.add("a")
    await lab.redis("LPUSH", lab.keys.queued, foreign)
    await lab.redis("ZADD", lab.keys.incomplete, 0, foreign)
    if foreign != lab.keys.counters:
        await lab.redis("SET", foreign, b"{}")
    assert await lab.claimed() == ["a"]
    assert await lab.redis("EXISTS", foreign) == 1
    assert await lab.redis("ZRANGE", lab.keys.incomplete, 0, -1) == [lab.keys.job_id("a").encode()]


async def test_an_id_that_is_no_text_is_reported_as_it_is(lab: ScriptHarness, untidy: None) -> None:
    raw = lab.keys.job_id("k").encode() + b"\xff\xfe"
    await lab.add("a")
    await lab.redis("LPUSH", lab.keys.queued, raw, b"\xc3\x28")
    await lab.redis("ZADD", lab.keys.incomplete, 0, raw)
    await lab.redis("SET", raw, b"{}")
    claimed = await lab.claim()
    assert (lab.keys_of(claimed), claimed.invalid_ids) == (["a"], [(raw, b"{}")])


async def test_priority_goes_first_and_a_tenth_to_the_normal_lane(lab: ScriptHarness) -> None:
    await lab.add(*(f"n{n}" for n in range(20)))
    await lab.add(*(f"p5-{n}" for n in range(30)), priority=5)
    await lab.add("p1", priority=1)
    order = await lab.claimed(25) + await lab.claimed(25)
    assert order[0] == "p1"
    assert [key for key in order if key[0] == "p"] == ["p1", *(f"p5-{n}" for n in range(30))]
    ranked = order[: order.index("p5-29")]
    assert [position for position, key in enumerate(ranked) if key[0] == "n"] == [9, 19, 29]
    assert [key for key in order if key[0] == "n"] == [f"n{n}" for n in range(19)]


async def test_the_normal_lane_gets_its_tenth_one_slot_at_a_time_too(lab: ScriptHarness) -> None:
    await lab.add(*(f"p{n}" for n in range(40)), priority=5)
    await lab.add(*(f"n{n}" for n in range(10)))
    order = [key for _ in range(40) for key in await lab.claimed(1)]
    assert sum(key[0] == "n" for key in order) == 4


async def test_a_claim_takes_a_kept_job_out_of_the_index(lab: ScriptHarness) -> None:
    await lab.add("a")
    token = lab.token()
    await lab.claim(1, token)
    await lab.settle("a", token, AckKind.UNKNOWN)
    await lab.redis("ZADD", lab.keys.incomplete, 0, lab.keys.job_id("a"))
    await lab.redis("RPUSH", lab.keys.queued, lab.keys.job_id("a"))
    assert await lab.claimed() == ["a"]
    found = await lab.inspect("a")
    assert (found.place, await lab.redis("SCARD", lab.keys.unknown)) == (None, 0)


async def test_a_lane_of_ghosts_does_not_hide_the_jobs_behind_it(lab: ScriptHarness) -> None:
    await lab.add(*(f"g{n}" for n in range(50)), "a")
    await lab.redis("ZREM", lab.keys.incomplete, *(lab.keys.job_id(f"g{n}") for n in range(50)))
    await lab.redis("DEL", *(lab.keys.job_id(f"g{n}") for n in range(50)))
    assert await lab.claimed(1) == ["a"]


async def test_more_ghosts_than_one_claim_looks_at_are_not_taken_for_an_empty_queue(lab: ScriptHarness) -> None:
    await lab.redis("RPUSH", lab.keys.queued, *(lab.keys.job_id(f"g{n}") for n in range(200)))
    await lab.add("a")
    claimed = await lab.claim(1)
    assert (claimed.reason, claimed.wait_ms, len(claimed.aborted_ids)) == ("ok", 0, 64)
    for _ in range(2):
        claimed = await lab.claim(1)
    assert await lab.claimed(1) == ["a"]


async def test_starts_are_counted(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("a", "b")
    await lab.claim()
    counters = await lab.counters()
    assert (counters["started"], counters["last_start"]) == (2, clock.ms)


@pytest.mark.parametrize(
    "wrong", ["queued", "incomplete", "leases", "priority", "priorities", "parked", "suspects"]
)
async def test_a_structure_of_the_wrong_type_loses_nothing(
    lab: ScriptHarness, clock: StoreClock, wrong: str, untidy: None
) -> None:
    """A claim fails as a whole and is repeated: what was due or waits then is found by the next one."""
    await lab.add("delayed", delay_ms=10)
    await lab.add("ranked", priority=1, delay_ms=10)
    await clock.forward(10)
    name = getattr(lab.keys, wrong)
    held = await lab.redis("DUMP", name)
    await lab.redis("DEL", name)
    await lab.redis("SET", name, "wrong")
    for _ in range(2):
        try:
            await lab.claim()
        except Exception as error:
            assert "WRONGTYPE" in str(error)  # noqa: PT017 - some structures matter to this claim, some do not
    await lab.redis("DEL", name)
    if held:
        await lab.redis("RESTORE", name, 0, held)
    strays = [lab.ack(lab.keys.key_of(i), t, AckKind.RETURN) for i, t in (await lab.scripts.leases()).items()]
    if strays:
        await lab.scripts.settle(strays)
    assert sorted(await lab.claimed()) == ["delayed", "ranked"]
