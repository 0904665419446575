"""unique_for: what a key is after its job is over, whoever ended it and whatever became of what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.engine.settings import QueueSettings
from crmd.engine.store.replies import Ack, AckKind
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock

ENTRY = b'{"at":1,"event":"x"}'
DAY = 86_400_000
ENDS = {
    AckKind.COMPLETE: b"completed",
    AckKind.UNKNOWN: b"unknown",
    AckKind.FAILED: None,
    AckKind.ABORTED: None,
}


async def word(harness: ScriptHarness, key: str = "a") -> bytes | None:
    """What holds a key."""
    found: bytes | None = await harness.redis("GET", harness.keys.unique_prefix + key)
    return found


async def run(harness: ScriptHarness, kind: AckKind, key: str = "a", **fields: Any) -> None:
    """One job from its start to its end."""
    token = harness.token()
    assert await harness.claimed(1, token) == [key]
    assert await harness.end(key, token, kind, **fields) == "done"


async def is_free(harness: ScriptHarness, key: str = "a") -> bool:
    [created] = await harness.add(key, unique_ms=DAY)
    return created


@pytest.mark.parametrize("kind", ENDS)
async def test_a_key_is_held_from_the_end_on_by_what_was_done_or_may_have_been(
    harness: ScriptHarness, kind: AckKind
) -> None:
    assert await is_free(harness)
    assert await word(harness) is None
    await run(harness, kind)
    assert await word(harness) == ENDS[kind]
    assert await is_free(harness) is (ENDS[kind] is None)


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.UNKNOWN])
@pytest.mark.parametrize("quick", [True, False])
async def test_the_time_counts_from_the_end(harness: ScriptHarness, kind: AckKind, quick: bool) -> None:
    await harness.add("a", unique_ms=50_000)
    fields: dict[str, Any] = {} if quick else {"entry": ENTRY, "marked": True}
    await run(harness, kind, **fields)
    left = await harness.redis("PTTL", harness.keys.unique_prefix + "a")
    assert 40_000 < left <= 50_000
    await harness.redis("PEXPIRE", harness.keys.unique_prefix + "a", 1)


async def test_a_key_without_unique_for_is_free_at_the_end(harness: ScriptHarness) -> None:
    await harness.add("a")
    await run(harness, AckKind.COMPLETE)
    assert await harness.redis("EXISTS", harness.keys.unique_for) == 0
    assert await harness.add("a") == [True]


@pytest.mark.queues(QueueSettings("q", keep_completed=1, keep_min_seconds=0))
async def test_a_key_stays_held_once_its_job_is_trimmed(harness: ScriptHarness) -> None:
    for key in ("a", "b", "c", "d"):
        await harness.add(key, unique_ms=DAY)
        await run(harness, AckKind.COMPLETE, key)
    while await harness.scripts.trim():
        pass
    gone = [key for key in ("a", "b", "c", "d") if await harness.place(key) == "gone"]
    assert gone
    assert await harness.redis("HLEN", harness.keys.unique_for) == 4 - len(gone)
    assert await harness.add(*gone, unique_ms=DAY) == [False] * len(gone)


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.FAILED])
async def test_a_job_that_is_deleted_at_its_end_leaves_nothing_but_the_held_key(
    harness: ScriptHarness, kind: AckKind
) -> None:
    await harness.add("a", unique_ms=DAY)
    await run(harness, kind, number=-1)
    assert (await harness.place("a"), await word(harness)) == ("gone", ENDS[kind])
    assert await harness.redis("EXISTS", harness.keys.unique_for) == 0


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.UNKNOWN])
async def test_deleting_what_was_done_does_not_open_the_door_for_a_repeat(
    harness: ScriptHarness, kind: AckKind
) -> None:
    await harness.add("a", unique_ms=DAY)
    await run(harness, kind)
    assert await harness.scripts.delete(harness.keys.job_id("a")) == 1
    assert (await word(harness), await is_free(harness)) == (ENDS[kind], False)


async def test_deleting_what_was_not_done_frees_the_key(harness: ScriptHarness) -> None:
    for kind in (None, AckKind.FAILED, AckKind.ABORTED):
        assert await is_free(harness)
        if kind:
            await run(harness, kind)
        assert await harness.scripts.delete(harness.keys.job_id("a")) == 1
        assert await harness.redis("EXISTS", harness.keys.unique_for) == 0


@pytest.mark.parametrize("first", [AckKind.FAILED, AckKind.ABORTED, AckKind.UNKNOWN])
@pytest.mark.parametrize("then", ENDS)
async def test_a_job_queued_again_by_hand_holds_its_key_by_its_new_end(
    harness: ScriptHarness, first: AckKind, then: AckKind
) -> None:
    await is_free(harness)
    await run(harness, first)
    assert await harness.scripts.requeue(harness.keys.job_id("a"), document("q", "a"), ENTRY) == 1
    assert await is_free(harness) is False
    assert await word(harness) is None
    await run(harness, then)
    assert (await word(harness), await is_free(harness)) == (ENDS[then], ENDS[then] is None)


@pytest.mark.parametrize("completed", [True, False])
async def test_an_unknown_job_that_is_settled(harness: ScriptHarness, completed: bool) -> None:
    await is_free(harness)
    await run(harness, AckKind.UNKNOWN)
    read = (await harness.inspect("a")).document or b""
    done = await harness.scripts.settle_unknown(harness.keys.job_id("a"), read, b"{}", ENTRY, completed=completed)
    assert done
    assert await word(harness) == (b"completed" if completed else None)
    assert await is_free(harness) is not completed


async def test_attempts_and_givings_back_change_nothing(harness: ScriptHarness) -> None:
    await is_free(harness)
    for kind in (AckKind.RETRY, AckKind.SNOOZE, AckKind.RETURN):
        await run(harness, kind)
        assert (await is_free(harness), await word(harness)) == (False, None)
    await run(harness, AckKind.COMPLETE)
    assert await is_free(harness) is False


async def test_an_abort_that_ends_after_the_key_was_used_again_leaves_the_new_job_alone(
    harness: ScriptHarness,
) -> None:
    token = harness.token()
    await is_free(harness)
    await harness.claim(1, token)
    await harness.redis("ZREM", harness.keys.incomplete, harness.keys.job_id("a"))
    await harness.redis("ZADD", harness.keys.incomplete, 0, harness.keys.job_id("a"))
    await harness.settle("a", token, AckKind.ABORTED)
    await run(harness, AckKind.COMPLETE)
    assert await is_free(harness) is False


async def test_again_takes_a_key_that_only_an_ended_job_holds(harness: ScriptHarness) -> None:
    await is_free(harness)
    assert await harness.add("a", again=True) == [False]
    await run(harness, AckKind.COMPLETE)
    assert await harness.add("a", again=True) == [True]
    assert (await word(harness), await harness.redis("EXISTS", harness.keys.unique_for)) == (None, 0)


async def test_what_a_daemon_of_0_1_0_completed_is_held_too(harness: ScriptHarness, clock: StoreClock) -> None:
    """It writes JSON and index, and knows nothing of the rest."""
    await harness.add("a", "b", "c", unique_ms=DAY)
    ids = {key: harness.keys.job_id(key) for key in "abc"}
    await harness.redis("DEL", harness.keys.queued)
    await harness.redis("ZREM", harness.keys.incomplete, *ids.values())
    await harness.redis("ZADD", harness.keys.completed, clock.ms, ids["a"])
    await harness.redis("ZADD", harness.keys.failed, clock.ms, ids["b"], clock.ms, ids["c"])
    await harness.redis("SADD", harness.keys.unknown, ids["b"])
    await clock.forward(DAY - 1_000)
    assert await harness.add("a", "b") == [False, False]
    assert await harness.scripts.tidy_unique("0", 100) == ("0", 0, False)
    assert [await word(harness, key) for key in "abc"] == [b"completed", b"unknown", None]
    assert 0 < await harness.redis("PTTL", harness.keys.unique_prefix + "a") <= 1_000
    assert await harness.add("c") == [True]
    await harness.redis("UNLINK", *(harness.keys.unique_prefix + key for key in "ab"))
    await clock.forward(2_000)
    assert await harness.add("a", "b") == [True, True]
    assert await harness.redis("EXISTS", harness.keys.unique_for) == 0


async def test_what_is_said_of_jobs_that_are_gone_is_forgotten(harness: ScriptHarness) -> None:
    await harness.add("live", "kept", "gone", unique_ms=DAY)
    await harness.redis("LREM", harness.keys.queued, 1, harness.keys.job_id("live"))
    token = harness.token()
    await harness.claim(2, token)
    await harness.scripts.settle([harness.ack(key, token, AckKind.FAILED) for key in ("kept", "gone")])
    await harness.redis("UNLINK", harness.keys.job_id("gone"))
    await harness.redis("ZREM", harness.keys.failed, harness.keys.job_id("gone"))
    assert await harness.scripts.tidy_unique("0", 100) == ("0", 1, False)
    left = {raw.decode() for raw in await harness.redis("HKEYS", harness.keys.unique_for)}
    assert left == {harness.keys.job_id("live"), harness.keys.job_id("kept")}
    await harness.redis("RPUSH", harness.keys.queued, harness.keys.job_id("live"))


async def test_many_ends_in_one_trip(harness: ScriptHarness) -> None:
    keys = [f"k{n}" for n in range(200)]
    await harness.add(*keys, unique_ms=DAY)
    token = harness.token()
    await harness.claim(200, token)
    kinds = [AckKind.COMPLETE, AckKind.UNKNOWN, AckKind.FAILED, AckKind.RETRY]
    acks: list[Ack] = [harness.ack(key, token, kinds[n % 4]) for n, key in enumerate(keys)]
    await harness.scripts.settle(acks)
    created = await harness.add(*keys, unique_ms=DAY)
    assert created == [n % 4 == 2 for n in range(200)]
