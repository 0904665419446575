"""enqueue: taken keys, lanes, times, wake-ups, and what an old run of the key leaves."""

from __future__ import annotations

import pytest

from crmd.engine.store import keys
from crmd.engine.store.replies import AckKind
from crmd.errors import StoreError
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock
from tests.support.wait import wait_until


async def test_jobs_wait_in_the_order_they_were_given(harness: ScriptHarness) -> None:
    assert await harness.add("a", "b", "c") == [True, True, True]
    assert await harness.lane() == ["a", "b", "c"]
    assert await harness.redis("GET", harness.keys.job_id("a")) == document("q", "a")
    counts = await harness.scripts.counts()
    assert (counts.waiting, counts.delayed, counts.active) == (3, 0, 0)


async def test_more_jobs_than_one_call_takes(harness: ScriptHarness) -> None:
    assert await harness.add(*(f"k{n}" for n in range(1_234))) == [True] * 1_234
    assert await harness.lane() == [f"k{n}" for n in range(1_234)]


async def test_a_key_twice_in_one_call_counts_once(harness: ScriptHarness) -> None:
    assert await harness.scripts.enqueue([harness.new("a", {"n": 1}), harness.new("a", {"n": 2})]) == [True, False]
    assert await harness.redis("GET", harness.keys.job_id("a")) == document("q", "a", {"n": 1})
    assert await harness.lane() == ["a"]


@pytest.mark.parametrize("state", ["waiting", "delayed", "active", "active, aborted"])
async def test_a_live_key_is_taken_and_its_job_stands(harness: ScriptHarness, state: str) -> None:
    await harness.add("a", payload={"n": 1}, **({"delay_ms": 60_000} if state == "delayed" else {}))
    if state.startswith("active"):
        await harness.claim()
    if state == "active, aborted":
        await harness.redis("ZREM", harness.keys.incomplete, harness.keys.job_id("a"))
    assert await harness.place("a") == state
    assert await harness.add("a", payload={"n": 2}, priority=1) == [False]
    assert await harness.redis("GET", harness.keys.job_id("a")) == document("q", "a", {"n": 1})
    assert await harness.place("a") == state
    assert await harness.redis("EXISTS", harness.keys.priorities) == 0


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.FAILED, AckKind.UNKNOWN, AckKind.ABORTED])
async def test_a_finished_key_is_free_and_begins_anew(harness: ScriptHarness, kind: AckKind) -> None:
    token = await harness.lease("a", priority=2)
    await harness.end("a", token, kind, entry=b'{"at":1,"event":"x"}')
    assert await harness.add("a") == [True]
    found = await harness.inspect("a")
    assert (await harness.place("a"), found.priority, found.log) == ("waiting", 0, [])
    assert await harness.redis("SCARD", harness.keys.unknown) == 0
    assert await harness.lane() == ["a"]


async def test_what_an_aborted_life_left_does_not_haunt_the_next(harness: ScriptHarness) -> None:
    """A plain client aborts a job of rank that had died once; the key is used again before anybody ends it."""
    await harness.add("a", priority=2)
    await harness.redis("HSET", harness.keys.crashes, harness.keys.job_id("a"), 2)
    await harness.redis("RPUSH", harness.keys.log("a"), '{"at":1,"event":"lost"}')
    await harness.stock_abort("a")
    assert await harness.add("a") == [True]
    found = await harness.inspect("a")
    assert (found.priority, found.crash_count, found.log) == (0, 0, [])


async def test_a_delay_counts_from_now_and_a_time_is_a_time(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("later", delay_ms=1_500)
    await harness.add("at", due_ms=clock.ms + 2_500)
    await harness.add("past", due_ms=clock.ms - 1)
    await harness.add("present", due_ms=clock.ms)
    await harness.add("at once", delay_ms=0)
    assert await harness.lane() == ["past", "present", "at once"]
    due = [(await harness.inspect(key)).due for key in ("later", "at")]
    assert due == [clock.ms / 1000 + 1.5, clock.ms / 1000 + 2.5]


async def test_a_rank_goes_to_the_priority_lane(harness: ScriptHarness) -> None:
    await harness.add("low", priority=10)
    await harness.add("high", priority=1)
    await harness.add("plain")
    lane = await harness.redis("ZRANGE", harness.keys.priority, 0, -1)
    assert [harness.keys.key_of(raw.decode()) for raw in lane] == ["high", "low"]
    assert ((await harness.inspect("low")).priority, await harness.lane()) == (10, ["plain"])


async def test_workers_are_woken_for_rank_and_for_the_earliest_time_only(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    heard: list[bytes] = []
    async with harness.store.redis.pubsub() as listener:
        await listener.subscribe(keys.WAKE_CHANNEL)
        await listener.get_message(timeout=1)

        async def news() -> int:
            while message := await listener.get_message(ignore_subscribe_messages=True, timeout=0.02):
                heard.append(message["data"])
            return len(heard)

        await harness.add("plain")
        assert await news() == 0
        await harness.add("rank", priority=3)
        await wait_until(lambda: news(), 1)
        await harness.add("soon", delay_ms=1_000)
        await harness.add("later", delay_ms=2_000)
        await harness.add("sooner", delay_ms=500)
        await harness.add("rank, later", priority=1, delay_ms=3_000)
        await wait_until(lambda: len(heard) >= 3 or news(), 1)
        assert (await news(), set(heard)) == (3, {b"q"})


@pytest.mark.parametrize("wrong", ["queued", "incomplete", "leases", "priority", "priorities"])
async def test_a_structure_of_the_wrong_type_stores_no_job_that_nobody_would_find(
    harness: ScriptHarness, wrong: str, untidy: None
) -> None:
    await harness.redis("SET", getattr(harness.keys, wrong), "wrong")
    new = [harness.new("plain"), harness.new("ranked", priority=1)]
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await harness.scripts.enqueue(new)
    await harness.redis("DEL", getattr(harness.keys, wrong))
    assert await harness.redis("ZCARD", harness.keys.incomplete) == 0
    assert await harness.scripts.enqueue(new) == [True, True]
    assert sorted(await harness.claimed()) == ["plain", "ranked"]
