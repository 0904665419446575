"""enqueue: taken keys, lanes, times, wake-ups, and what an old run of the key leaves."""

from __future__ import annotations

import pytest

from crmd.engine.store import keys
from crmd.engine.store.replies import AckKind
from crmd.errors import StoreError
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock
from tests.support.wait import wait_until


async def test_jobs_wait_in_the_order_they_were_given(lab: ScriptHarness) -> None:
    assert await lab.add("a", "b", "c") == [True, True, True]
    assert await lab.lane() == ["a", "b", "c"]
    assert await lab.redis("GET", lab.keys.job_id("a")) == document("q", "a")
    counts = await lab.scripts.counts()
    assert (counts.waiting, counts.delayed, counts.active) == (3, 0, 0)


async def test_more_jobs_than_one_call_takes(lab: ScriptHarness) -> None:
    assert await lab.add(*(f"k{n}" for n in range(1_234))) == [True] * 1_234
    assert await lab.lane() == [f"k{n}" for n in range(1_234)]


async def test_a_key_twice_in_one_call_counts_once(lab: ScriptHarness) -> None:
    assert await lab.scripts.enqueue([lab.new("a", {"n": 1}), lab.new("a", {"n": 2})]) == [True, False]
    assert await lab.redis("GET", lab.keys.job_id("a")) == document("q", "a", {"n": 1})
    assert await lab.lane() == ["a"]


@pytest.mark.parametrize("state", ["waiting", "delayed", "active", "active, aborted"])
async def test_a_live_key_is_taken_and_its_job_stands(lab: ScriptHarness, state: str) -> None:
    await lab.add("a", payload={"n": 1}, **({"delay_ms": 60_000} if state == "delayed" else {}))
    if state.startswith("active"):
        await lab.claim()
    if state == "active, aborted":
        await lab.redis("ZREM", lab.keys.incomplete, lab.keys.job_id("a"))
    assert await lab.place("a") == state
    assert await lab.add("a", payload={"n": 2}, priority=1) == [False]
    assert await lab.redis("GET", lab.keys.job_id("a")) == document("q", "a", {"n": 1})
    assert await lab.place("a") == state
    assert await lab.redis("EXISTS", lab.keys.priorities) == 0


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.FAILED, AckKind.UNKNOWN, AckKind.ABORTED])
async def test_a_finished_key_is_free_and_begins_anew(lab: ScriptHarness, kind: AckKind) -> None:
    token = lab.token()
    await lab.add("a", priority=2)
    await lab.claim(1, token)
    await lab.end("a", token, kind, entry=b'{"at":1,"event":"x"}')
    assert await lab.add("a") == [True]
    found = await lab.inspect("a")
    assert (await lab.place("a"), found.priority, found.log) == ("waiting", 0, [])
    assert await lab.redis("SCARD", lab.keys.unknown) == 0
    assert await lab.lane() == ["a"]


async def test_what_an_aborted_life_left_does_not_haunt_the_next(lab: ScriptHarness) -> None:
    """A plain client aborts a job of rank that had died once; the key is used again before anybody ends it."""
    await lab.add("a", priority=2)
    await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id("a"), 2)
    await lab.redis("RPUSH", lab.keys.log("a"), '{"at":1,"event":"lost"}')
    await lab.stock_abort("a")
    assert await lab.add("a") == [True]
    found = await lab.inspect("a")
    assert (found.priority, found.crash_count, found.log) == (0, 0, [])


async def test_a_delay_counts_from_now_and_a_time_is_a_time(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("later", delay_ms=1_500)
    await lab.add("at", due_ms=clock.ms + 2_500)
    await lab.add("past", due_ms=clock.ms - 1)
    await lab.add("present", due_ms=clock.ms)
    await lab.add("at once", delay_ms=0)
    assert await lab.lane() == ["past", "present", "at once"]
    due = [(await lab.inspect(key)).due for key in ("later", "at")]
    assert due == [clock.ms / 1000 + 1.5, clock.ms / 1000 + 2.5]


async def test_a_rank_goes_to_the_priority_lane(lab: ScriptHarness) -> None:
    await lab.add("low", priority=10)
    await lab.add("high", priority=1)
    await lab.add("plain")
    lane = await lab.redis("ZRANGE", lab.keys.priority, 0, -1)
    assert [lab.keys.key_of(raw.decode()) for raw in lane] == ["high", "low"]
    assert ((await lab.inspect("low")).priority, await lab.lane()) == (10, ["plain"])


async def test_workers_are_woken_for_rank_and_for_the_earliest_time_only(
    lab: ScriptHarness, clock: StoreClock
) -> None:
    heard: list[bytes] = []
    async with lab.store.redis.pubsub() as listener:
        await listener.subscribe(keys.WAKE_CHANNEL)
        await listener.get_message(timeout=1)

        async def news() -> int:
            while message := await listener.get_message(ignore_subscribe_messages=True, timeout=0.02):
                heard.append(message["data"])
            return len(heard)

        await lab.add("plain")
        assert await news() == 0
        await lab.add("rank", priority=3)
        await wait_until(lambda: news(), 1)
        await lab.add("soon", delay_ms=1_000)
        await lab.add("later", delay_ms=2_000)
        await lab.add("sooner", delay_ms=500)
        await lab.add("rank, later", priority=1, delay_ms=3_000)
        await wait_until(lambda: len(heard) >= 3 or news(), 1)
        assert (await news(), set(heard)) == (3, {b"q"})


@pytest.mark.parametrize("wrong", ["queued", "incomplete", "leases", "priority", "priorities"])
async def test_a_structure_of_the_wrong_type_stores_no_job_that_nobody_would_find(
    lab: ScriptHarness, wrong: str, untidy: None
) -> None:
    await lab.redis("SET", getattr(lab.keys, wrong), "wrong")
    new = [lab.new("plain"), lab.new("ranked", priority=1)]
    with pytest.raises(StoreError, match="WRONGTYPE"):
        await lab.scripts.enqueue(new)
    await lab.redis("DEL", getattr(lab.keys, wrong))
    assert await lab.redis("ZCARD", lab.keys.incomplete) == 0
    assert await lab.scripts.enqueue(new) == [True, True]
    assert sorted(await lab.claimed()) == ["plain", "ranked"]
