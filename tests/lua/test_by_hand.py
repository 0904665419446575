"""cancel, requeue, promote, delete: what operators do to one job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crmd.engine.store import keys
from crmd.engine.store.replies import AckKind
from tests.support.script_harness import ScriptHarness, document, may_meet_wrong_type
from tests.support.storeclock import StoreClock
from tests.support.wait import HANG_S

ENTRY = b'{"at":1,"event":"by hand"}'
FINISHED = {
    "completed": AckKind.COMPLETE,
    "failed": AckKind.FAILED,
    "unknown": AckKind.UNKNOWN,
    "cancelled": AckKind.ABORTED,
}
STATES = ["waiting", "ranked", "delayed", "crash-looping", "active", "active, aborted", *FINISHED, "limbo", "gone"]


async def put(harness: ScriptHarness, state: str, key: str = "a") -> None:
    """Brings a job into a state."""
    if state == "gone":
        return
    await harness.add(key, delay_ms=60_000 if state == "delayed" else -1, priority=3 if state == "ranked" else 0)
    if state == "crash-looping":
        await harness.make_crash_looping(key)
    token = harness.token()
    if state.startswith("active") or state in FINISHED:
        await harness.claim(1, token)
    if state in FINISHED:
        await harness.end(key, token, FINISHED[state])
    if state in ("active, aborted", "limbo"):
        await harness.stock_abort(key)
    live = {"ranked": "waiting", "crash-looping": "waiting"}
    assert await harness.place(key) == live.get(state, state)


async def cancel(harness: ScriptHarness, key: str = "a") -> str:
    """Cancels as `Control` does."""
    waiting, running = (document("q", key, status=status) for status in ("aborted", "aborting"))
    return await harness.scripts.cancel(harness.keys.job_id(key), waiting, running, ENTRY)


async def requeue(harness: ScriptHarness, key: str = "a", **options: Any) -> int:
    """Queues again as `Control` does."""
    return await harness.scripts.requeue(
        harness.keys.job_id(key), document("q", key, {"again": 1}), ENTRY, **options
    )


@pytest.mark.parametrize("state", STATES)
async def test_cancel(harness: ScriptHarness, state: str) -> None:
    await put(harness, state)
    before = await harness.place("a")
    answer = await cancel(harness)
    if state in ("waiting", "ranked", "delayed", "crash-looping"):
        assert (answer, await harness.place("a"), await harness.status("a")) == ("waiting", "cancelled", "aborted")
        assert ((await harness.counters())["cancelled"], await harness.log("a")) == (1, [ENTRY])
        assert (
            await harness.redis(
                "EXISTS", *(getattr(harness.keys, name) for name in ("queued", "priority", "suspects"))
            )
            == 0
        )
    elif state.startswith("active"):
        assert (answer, await harness.place("a"), await harness.status("a")) == (
            "active",
            "active, aborted",
            "aborting",
        )
    else:
        assert (answer, await harness.place("a")) == ("gone", before)
    if state == "limbo":
        await harness.scripts.delete(harness.keys.job_id("a"))


async def test_a_cancel_tells_the_daemon_and_the_clients(harness: ScriptHarness) -> None:
    await put(harness, "active")
    async with harness.store.redis.pubsub() as listener:
        await listener.subscribe(keys.WAKE_CHANNEL, harness.keys.job_id("a"))
        await cancel(harness)
        heard = [await _next(listener) for _ in range(2)]
    job_id = harness.keys.job_id("a")
    assert sorted(heard) == [(b"crmd:wake", f"cancel {job_id}".encode()), (job_id.encode(), b"aborting")]


async def _next(listener: object) -> tuple[bytes, bytes]:
    async with asyncio.timeout(HANG_S):
        while True:
            message = await listener.get_message(timeout=0.5)  # type: ignore[attr-defined]
            if message and message["type"] == "message":
                return message["channel"], message["data"]


@pytest.mark.parametrize("before", ["completed", "failed", "unknown"])
async def test_a_cancelled_job_under_the_key_of_a_finished_one_is_cancelled_alone(
    harness: ScriptHarness, before: str
) -> None:
    await put(harness, before)
    assert await harness.stock_enqueue("a", 0)  # a plain client, which leaves the indexes as they are
    await harness.scripts.cancel(harness.keys.job_id("a"), document("q", "a", status="aborted"), b"", ENTRY)
    assert await harness.place("a") == "cancelled"
    for index in (harness.keys.completed, harness.keys.failed):
        assert await harness.redis("ZCARD", index) == 0
    assert await harness.redis("SCARD", harness.keys.unknown) == 0


async def test_a_cancelled_id_in_a_lane_too_long_to_search_is_dropped_by_a_claim(harness: ScriptHarness) -> None:
    await put(harness, "waiting")
    await harness.redis("RPUSH", harness.keys.queued, *(b"x" for _ in range(10_000)))
    assert await cancel(harness) == "waiting"
    assert await harness.redis("LINDEX", harness.keys.queued, 0) == harness.keys.job_id("a").encode()
    assert (await harness.claim(1)).aborted_ids[0] == harness.keys.job_id("a")
    await harness.redis("DEL", harness.keys.queued)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("completed", [0, 1])
async def test_requeue(harness: ScriptHarness, state: str, completed: int) -> None:
    await put(harness, state)
    before = await harness.place("a")
    answer = await requeue(harness, completed=completed)
    if state in ("failed", "unknown", "cancelled", "limbo") or (state == "completed" and completed):
        assert (answer, await harness.place("a"), await harness.lane()) == (1, "waiting", ["a"])
        assert await harness.redis("GET", harness.keys.job_id("a")) == document("q", "a", {"again": 1})
        assert (await harness.log("a"))[-1] == ENTRY
        assert await harness.redis("SCARD", harness.keys.unknown) == 0
    else:
        assert (answer, await harness.place("a")) == ({"completed": -1, "gone": -2}.get(state, 0), before)


async def test_a_job_that_is_queued_again_no_longer_expires_and_may_have_a_rank(harness: ScriptHarness) -> None:
    await put(harness, "failed")
    await harness.redis("EXPIRE", harness.keys.job_id("a"), 60)
    assert await requeue(harness, priority=2) == 1
    assert await harness.redis("TTL", harness.keys.job_id("a")) == -1
    assert ((await harness.inspect("a")).priority, await harness.lane()) == (2, [])
    assert await harness.claimed() == ["a"]


@pytest.mark.parametrize("state", STATES)
async def test_promote(harness: ScriptHarness, state: str) -> None:
    await put(harness, state)
    before = await harness.place("a")
    promoted = await harness.scripts.promote(harness.keys.job_id("a"))
    assert promoted == (state == "delayed")
    assert await harness.place("a") == ("waiting" if promoted else before)
    if promoted:
        assert await harness.claimed() == ["a"]
    if state == "limbo":
        await harness.scripts.delete(harness.keys.job_id("a"))


async def test_a_key_that_an_aborted_run_still_holds_is_not_promoted(harness: ScriptHarness) -> None:
    await put(harness, "active, aborted")
    await harness.redis("DEL", "saq:abort:a")
    await harness.stock_enqueue("a", due_s=4_000_000_000)
    assert not await harness.scripts.promote(harness.keys.job_id("a"))
    assert await harness.lane() == []


async def test_a_promoted_job_keeps_its_rank_and_starts_once(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("a", delay_ms=1_000, priority=1)
    await harness.add("b")
    assert await harness.scripts.promote(harness.keys.job_id("a"))
    token = harness.token()
    assert await harness.claimed(5, token) == ["a", "b"]
    await harness.settle("a", token, AckKind.COMPLETE)
    await clock.forward(1_000)
    assert await harness.claimed() == []


@pytest.mark.parametrize("state", STATES)
async def test_delete(harness: ScriptHarness, state: str) -> None:
    await put(harness, state)
    await harness.redis("SET", harness.keys.unique_prefix + "a", "1", "EX", 60)
    before = await harness.place("a")
    if state != "gone":
        await harness.redis("RPUSH", harness.keys.log("a"), ENTRY)
    answer = await harness.scripts.delete(harness.keys.job_id("a"))
    if state.startswith("active"):
        assert (answer, await harness.place("a")) == (0, before)
    else:
        assert (answer, await harness.place("a")) == (-1 if state == "gone" else 1, "gone")
    if answer == 1:
        kept = {harness.keys.counters.encode(), harness.keys.minutes.encode()}
        if before in ("completed", "unknown"):  # what was done, or may have been, is not to be done again
            kept.add(f"{harness.keys.unique_prefix}a".encode())
        assert {name async for name in harness.store.redis.scan_iter()} <= kept | {b"saq:abort:a"}


@pytest.mark.parametrize("wrong", ["queued", "priority", "priorities", "counters"])
async def test_a_structure_of_the_wrong_type_loses_no_job(
    harness: ScriptHarness, wrong: str, untidy: None
) -> None:
    for state, key in (("failed", "a"), ("delayed", "b")):
        await put(harness, state, key)
    async with harness.broken(wrong):
        with may_meet_wrong_type():
            await requeue(harness, "a", priority=1)
        with may_meet_wrong_type():
            await harness.scripts.promote(harness.keys.job_id("b"))
    await requeue(harness, "a", priority=1)
    await harness.scripts.promote(harness.keys.job_id("b"))
    assert sorted(await harness.claimed()) == ["a", "b"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("completed", [True, False])
async def test_settle_unknown(harness: ScriptHarness, state: str, completed: bool) -> None:
    await put(harness, state)
    before, counters = await harness.place("a"), await harness.counters()
    read = (await harness.inspect("a")).document or b""
    settled = document("q", "a", status="complete" if completed else "failed")
    job_id = harness.keys.job_id("a")
    answer = await harness.scripts.settle_unknown(job_id, read, settled, ENTRY, completed=completed)
    assert answer == (state == "unknown")
    if answer:
        assert await harness.place("a") == ("completed" if completed else "failed")
        assert ((await harness.inspect("a")).document, (await harness.log("a"))[-1]) == (settled, ENTRY)
    else:
        assert await harness.place("a") == before
    assert await harness.counters() == counters, "how a job ended first is counted, once"
    if state == "limbo":
        await harness.scripts.delete(job_id)


async def test_an_unknown_job_that_changed_is_not_settled(harness: ScriptHarness) -> None:
    await put(harness, "unknown")
    assert not await harness.scripts.settle_unknown(harness.keys.job_id("a"), b"{}", b"{}", ENTRY, completed=True)
    assert await harness.place("a") == "unknown"
