"""cancel, requeue, promote, delete: what operators do to one job."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crmd.engine.store import keys
from crmd.engine.store.replies import AckKind
from crmd.errors import StoreError
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock
from tests.support.wait import HANG_S

ENTRY = b'{"at":1,"event":"by hand"}'
FINISHED = {
    "completed": AckKind.COMPLETE,
    "failed": AckKind.FAILED,
    "unknown": AckKind.UNKNOWN,
    "cancelled": AckKind.ABORTED,
}
STATES = ["waiting", "ranked", "delayed", "suspect", "active", "active, aborted", *FINISHED, "limbo", "gone"]


async def put(lab: ScriptHarness, state: str, key: str = "a") -> None:
    """Brings a job into a state."""
    if state == "gone":
        return
    await lab.add(key, delay_ms=60_000 if state == "delayed" else -1, priority=3 if state == "ranked" else 0)
    if state == "suspect":
        await lab.redis("LREM", lab.keys.queued, 0, lab.keys.job_id(key))
        await lab.redis("RPUSH", lab.keys.suspects, lab.keys.job_id(key))
        await lab.redis("HSET", lab.keys.crashes, lab.keys.job_id(key), 2)
    token = lab.token()
    if state.startswith("active") or state in FINISHED:
        await lab.claim(1, token)
    if state in FINISHED:
        await lab.end(key, token, FINISHED[state])
    if state in ("active, aborted", "limbo"):
        await lab.stock_abort(key)
    live = {"ranked": "waiting", "suspect": "waiting"}
    assert await lab.place(key) == live.get(state, state)


async def cancel(lab: ScriptHarness, key: str = "a") -> str:
    """Cancels as `Control` does."""
    waiting, running = (document("q", key, status=status) for status in ("aborted", "aborting"))
    return await lab.scripts.cancel(lab.keys.job_id(key), waiting, running, ENTRY)


async def requeue(lab: ScriptHarness, key: str = "a", **options: Any) -> int:
    """Queues again as `Control` does."""
    return await lab.scripts.requeue(lab.keys.job_id(key), document("q", key, {"again": 1}), ENTRY, **options)


@pytest.mark.parametrize("state", STATES)
async def test_cancel(lab: ScriptHarness, state: str) -> None:
    await put(lab, state)
    before = await lab.place("a")
    answer = await cancel(lab)
    if state in ("waiting", "ranked", "delayed", "suspect"):
        assert (answer, await lab.place("a"), await lab.status("a")) == ("waiting", "cancelled", "aborted")
        assert ((await lab.counters())["cancelled"], await lab.log("a")) == (1, [ENTRY])
        assert (
            await lab.redis("EXISTS", *(getattr(lab.keys, name) for name in ("queued", "priority", "suspects")))
            == 0
        )
    elif state.startswith("active"):
        assert (answer, await lab.place("a"), await lab.status("a")) == ("active", "active, aborted", "aborting")
    else:
        assert (answer, await lab.place("a")) == ("gone", before)
    if state == "limbo":
        await lab.scripts.delete(lab.keys.job_id("a"))


async def test_a_cancel_tells_the_daemon_and_the_clients(lab: ScriptHarness) -> None:
    await put(lab, "active")
    async with lab.store.redis.pubsub() as listener:
        await listener.subscribe(keys.WAKE_CHANNEL, lab.keys.job_id("a"))
        await cancel(lab)
        heard = [await _next(listener) for _ in range(2)]
    job_id = lab.keys.job_id("a")
    assert sorted(heard) == [(b"crmd:wake", f"cancel {job_id}".encode()), (job_id.encode(), b"aborting")]


async def _next(listener: object) -> tuple[bytes, bytes]:
    async with asyncio.timeout(HANG_S):
        while True:
            message = await listener.get_message(timeout=0.5)  # type: ignore[attr-defined]
            if message and message["type"] == "message":
                return message["channel"], message["data"]


@pytest.mark.parametrize("before", ["completed", "failed", "unknown"])
async def test_a_cancelled_job_under_the_key_of_a_finished_one_is_cancelled_alone(
    lab: ScriptHarness, before: str
) -> None:
    await put(lab, before)
    assert await lab.stock_enqueue("a", 0)  # a plain client, which leaves the indexes as they are
    await lab.scripts.cancel(lab.keys.job_id("a"), document("q", "a", status="aborted"), b"", ENTRY)
    assert await lab.place("a") == "cancelled"
    for index in (lab.keys.completed, lab.keys.failed):
        assert await lab.redis("ZCARD", index) == 0
    assert await lab.redis("SCARD", lab.keys.unknown) == 0


async def test_a_cancelled_id_in_a_lane_too_long_to_search_is_dropped_by_a_claim(lab: ScriptHarness) -> None:
    await put(lab, "waiting")
    await lab.redis("RPUSH", lab.keys.queued, *(b"x" for _ in range(10_000)))
    assert await cancel(lab) == "waiting"
    assert await lab.redis("LINDEX", lab.keys.queued, 0) == lab.keys.job_id("a").encode()
    assert (await lab.claim(1)).aborted_ids[0] == lab.keys.job_id("a")
    await lab.redis("DEL", lab.keys.queued)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("completed", [0, 1])
async def test_requeue(lab: ScriptHarness, state: str, completed: int) -> None:
    await put(lab, state)
    before = await lab.place("a")
    answer = await requeue(lab, completed=completed)
    if state in ("failed", "unknown", "cancelled", "limbo") or (state == "completed" and completed):
        assert (answer, await lab.place("a"), await lab.lane()) == (1, "waiting", ["a"])
        assert await lab.redis("GET", lab.keys.job_id("a")) == document("q", "a", {"again": 1})
        assert (await lab.log("a"))[-1] == ENTRY
        assert await lab.redis("SCARD", lab.keys.unknown) == 0
    else:
        assert (answer, await lab.place("a")) == ({"completed": -1, "gone": -2}.get(state, 0), before)


async def test_a_job_that_is_queued_again_no_longer_expires_and_may_have_a_rank(lab: ScriptHarness) -> None:
    await put(lab, "failed")
    await lab.redis("EXPIRE", lab.keys.job_id("a"), 60)
    assert await requeue(lab, priority=2) == 1
    assert await lab.redis("TTL", lab.keys.job_id("a")) == -1
    assert ((await lab.inspect("a")).priority, await lab.lane()) == (2, [])
    assert await lab.claimed() == ["a"]


@pytest.mark.parametrize("state", STATES)
async def test_promote(lab: ScriptHarness, state: str) -> None:
    await put(lab, state)
    before = await lab.place("a")
    promoted = await lab.scripts.promote(lab.keys.job_id("a"))
    assert promoted == (state == "delayed")
    assert await lab.place("a") == ("waiting" if promoted else before)
    if promoted:
        assert await lab.claimed() == ["a"]
    if state == "limbo":
        await lab.scripts.delete(lab.keys.job_id("a"))


async def test_a_key_that_an_aborted_run_still_holds_is_not_promoted(lab: ScriptHarness) -> None:
    await put(lab, "active, aborted")
    await lab.redis("DEL", "saq:abort:a")
    await lab.stock_enqueue("a", due_s=4_000_000_000)
    assert not await lab.scripts.promote(lab.keys.job_id("a"))
    assert await lab.lane() == []


async def test_a_promoted_job_keeps_its_rank_and_starts_once(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("a", delay_ms=1_000, priority=1)
    await lab.add("b")
    assert await lab.scripts.promote(lab.keys.job_id("a"))
    token = lab.token()
    assert await lab.claimed(5, token) == ["a", "b"]
    await lab.settle("a", token, AckKind.COMPLETE)
    await clock.forward(1_000)
    assert await lab.claimed() == []


@pytest.mark.parametrize("state", STATES)
async def test_delete(lab: ScriptHarness, state: str) -> None:
    await put(lab, state)
    await lab.redis("SET", lab.keys.unique_prefix + "a", "1", "EX", 60)
    before = await lab.place("a")
    if state != "gone":
        await lab.redis("RPUSH", lab.keys.log("a"), ENTRY)
    answer = await lab.scripts.delete(lab.keys.job_id("a"))
    if state.startswith("active"):
        assert (answer, await lab.place("a")) == (0, before)
    else:
        assert (answer, await lab.place("a")) == (-1 if state == "gone" else 1, "gone")
    if answer == 1:
        kept = {lab.keys.counters.encode(), lab.keys.minutes.encode()}
        if before in ("completed", "unknown"):  # what was done, or may have been, is not to be done again
            kept.add(f"{lab.keys.unique_prefix}a".encode())
        assert {name async for name in lab.store.redis.scan_iter()} <= kept | {b"saq:abort:a"}


@pytest.mark.parametrize("wrong", ["queued", "priority", "priorities", "counters"])
async def test_a_structure_of_the_wrong_type_loses_no_job(lab: ScriptHarness, wrong: str, untidy: None) -> None:
    for state, key in (("failed", "a"), ("delayed", "b")):
        await put(lab, state, key)
    name = getattr(lab.keys, wrong)
    await lab.redis("DEL", name)
    await lab.redis("SET", name, "wrong")
    for broken in (True, False):
        for call in (requeue(lab, "a", priority=1), lab.scripts.promote(lab.keys.job_id("b"))):
            try:
                await call
            except StoreError as error:
                assert "WRONGTYPE" in str(error)  # noqa: PT017 - some structures are not touched
        if broken:
            await lab.redis("DEL", name)
    assert sorted(await lab.claimed()) == ["a", "b"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("completed", [True, False])
async def test_settle_unknown(lab: ScriptHarness, state: str, completed: bool) -> None:
    await put(lab, state)
    before, counters = await lab.place("a"), await lab.counters()
    read = (await lab.inspect("a")).document or b""
    settled = document("q", "a", status="complete" if completed else "failed")
    job_id = lab.keys.job_id("a")
    answer = await lab.scripts.settle_unknown(job_id, read, settled, ENTRY, completed=completed)
    assert answer == (state == "unknown")
    if answer:
        assert await lab.place("a") == ("completed" if completed else "failed")
        assert ((await lab.inspect("a")).document, (await lab.log("a"))[-1]) == (settled, ENTRY)
    else:
        assert await lab.place("a") == before
    assert await lab.counters() == counters, "how a job ended first is counted, once"
    if state == "limbo":
        await lab.scripts.delete(job_id)


async def test_an_unknown_job_that_changed_is_not_settled(lab: ScriptHarness) -> None:
    await put(lab, "unknown")
    assert not await lab.scripts.settle_unknown(lab.keys.job_id("a"), b"{}", b"{}", ENTRY, completed=True)
    assert await lab.place("a") == "unknown"
