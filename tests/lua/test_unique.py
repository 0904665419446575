"""unique_for: what a key is after its job is over, whoever ended it and whatever became of what is kept."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.engine.settings import QueueSettings
from crmd.engine.store.client import Store
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


async def word(lab: ScriptHarness, key: str = "a") -> bytes | None:
    """What holds a key."""
    found: bytes | None = await lab.redis("GET", lab.keys.unique_prefix + key)
    return found


async def run(lab: ScriptHarness, kind: AckKind, key: str = "a", **fields: Any) -> None:
    """One job from its start to its end."""
    token = lab.token()
    assert await lab.claimed(1, token) == [key]
    assert await lab.end(key, token, kind, **fields) == "done"


async def is_free(lab: ScriptHarness, key: str = "a") -> bool:
    [created] = await lab.add(key, unique_ms=DAY)
    return created


@pytest.mark.parametrize("kind", ENDS)
async def test_a_key_is_held_from_the_end_on_by_what_was_done_or_may_have_been(
    lab: ScriptHarness, kind: AckKind
) -> None:
    assert await is_free(lab)
    assert await word(lab) is None
    await run(lab, kind)
    assert await word(lab) == ENDS[kind]
    assert await is_free(lab) is (ENDS[kind] is None)


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.UNKNOWN])
@pytest.mark.parametrize("quick", [True, False])
async def test_the_time_counts_from_the_end(lab: ScriptHarness, kind: AckKind, quick: bool) -> None:
    await lab.add("a", unique_ms=50_000)
    fields: dict[str, Any] = {} if quick else {"entry": ENTRY, "marked": True}
    await run(lab, kind, **fields)
    left = await lab.redis("PTTL", lab.keys.unique_prefix + "a")
    assert 40_000 < left <= 50_000
    await lab.redis("PEXPIRE", lab.keys.unique_prefix + "a", 1)


async def test_a_key_without_unique_for_is_free_at_the_end(lab: ScriptHarness) -> None:
    await lab.add("a")
    await run(lab, AckKind.COMPLETE)
    assert await lab.redis("EXISTS", lab.keys.unique_for) == 0
    assert await lab.add("a") == [True]


async def test_a_key_stays_held_once_its_job_is_trimmed(store: Store) -> None:
    lab = ScriptHarness(store, QueueSettings("q", keep_completed=1, keep_min_seconds=0))
    for key in ("a", "b", "c", "d"):
        await lab.add(key, unique_ms=DAY)
        await run(lab, AckKind.COMPLETE, key)
    while await lab.scripts.trim():
        pass
    gone = [key for key in ("a", "b", "c", "d") if await lab.place(key) == "gone"]
    assert gone
    assert await lab.redis("HLEN", lab.keys.unique_for) == 4 - len(gone)
    assert await lab.add(*gone, unique_ms=DAY) == [False] * len(gone)


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.FAILED])
async def test_a_job_that_is_deleted_at_its_end_leaves_nothing_but_the_held_key(
    lab: ScriptHarness, kind: AckKind
) -> None:
    await lab.add("a", unique_ms=DAY)
    await run(lab, kind, number=-1)
    assert (await lab.place("a"), await word(lab)) == ("gone", ENDS[kind])
    assert await lab.redis("EXISTS", lab.keys.unique_for) == 0


@pytest.mark.parametrize("kind", [AckKind.COMPLETE, AckKind.UNKNOWN])
async def test_deleting_what_was_done_does_not_open_the_door_for_a_repeat(
    lab: ScriptHarness, kind: AckKind
) -> None:
    await lab.add("a", unique_ms=DAY)
    await run(lab, kind)
    assert await lab.scripts.delete(lab.keys.job_id("a")) == 1
    assert (await word(lab), await is_free(lab)) == (ENDS[kind], False)


async def test_deleting_what_was_not_done_frees_the_key(lab: ScriptHarness) -> None:
    for kind in (None, AckKind.FAILED, AckKind.ABORTED):
        assert await is_free(lab)
        if kind:
            await run(lab, kind)
        assert await lab.scripts.delete(lab.keys.job_id("a")) == 1
        assert await lab.redis("EXISTS", lab.keys.unique_for) == 0


@pytest.mark.parametrize("first", [AckKind.FAILED, AckKind.ABORTED, AckKind.UNKNOWN])
@pytest.mark.parametrize("then", ENDS)
async def test_a_job_queued_again_by_hand_holds_its_key_by_its_new_end(
    lab: ScriptHarness, first: AckKind, then: AckKind
) -> None:
    await is_free(lab)
    await run(lab, first)
    assert await lab.scripts.requeue(lab.keys.job_id("a"), document("q", "a"), ENTRY) == 1
    assert await is_free(lab) is False
    assert await word(lab) is None
    await run(lab, then)
    assert (await word(lab), await is_free(lab)) == (ENDS[then], ENDS[then] is None)


@pytest.mark.parametrize("completed", [True, False])
async def test_an_unknown_job_that_is_settled(lab: ScriptHarness, completed: bool) -> None:
    await is_free(lab)
    await run(lab, AckKind.UNKNOWN)
    read = (await lab.inspect("a")).document or b""
    done = await lab.scripts.settle_unknown(lab.keys.job_id("a"), read, b"{}", ENTRY, completed=completed)
    assert done
    assert await word(lab) == (b"completed" if completed else None)
    assert await is_free(lab) is not completed


async def test_attempts_and_givings_back_change_nothing(lab: ScriptHarness) -> None:
    await is_free(lab)
    for kind in (AckKind.RETRY, AckKind.SNOOZE, AckKind.RETURN):
        await run(lab, kind)
        assert (await is_free(lab), await word(lab)) == (False, None)
    await run(lab, AckKind.COMPLETE)
    assert await is_free(lab) is False


async def test_an_abort_that_ends_after_the_key_was_used_again_leaves_the_new_job_alone(
    lab: ScriptHarness,
) -> None:
    token = lab.token()
    await is_free(lab)
    await lab.claim(1, token)
    await lab.redis("ZREM", lab.keys.incomplete, lab.keys.job_id("a"))
    await lab.redis("ZADD", lab.keys.incomplete, 0, lab.keys.job_id("a"))
    await lab.settle("a", token, AckKind.ABORTED)
    await run(lab, AckKind.COMPLETE)
    assert await is_free(lab) is False


async def test_again_takes_a_key_that_only_an_ended_job_holds(lab: ScriptHarness) -> None:
    await is_free(lab)
    assert await lab.add("a", again=True) == [False]
    await run(lab, AckKind.COMPLETE)
    assert await lab.add("a", again=True) == [True]
    assert (await word(lab), await lab.redis("EXISTS", lab.keys.unique_for)) == (None, 0)


async def test_what_a_daemon_of_0_1_0_completed_is_held_too(lab: ScriptHarness, clock: StoreClock) -> None:
    """It writes JSON and index, and knows nothing of the rest."""
    await lab.add("a", "b", "c", unique_ms=DAY)
    ids = {key: lab.keys.job_id(key) for key in "abc"}
    await lab.redis("DEL", lab.keys.queued)
    await lab.redis("ZREM", lab.keys.incomplete, *ids.values())
    await lab.redis("ZADD", lab.keys.completed, clock.ms, ids["a"])
    await lab.redis("ZADD", lab.keys.failed, clock.ms, ids["b"], clock.ms, ids["c"])
    await lab.redis("SADD", lab.keys.unknown, ids["b"])
    await clock.forward(DAY - 1_000)
    assert await lab.add("a", "b") == [False, False]
    assert await lab.scripts.tidy_unique("0", 100) == ("0", 0, False)
    assert [await word(lab, key) for key in "abc"] == [b"completed", b"unknown", None]
    assert 0 < await lab.redis("PTTL", lab.keys.unique_prefix + "a") <= 1_000
    assert await lab.add("c") == [True]
    await lab.redis("UNLINK", *(lab.keys.unique_prefix + key for key in "ab"))
    await clock.forward(2_000)
    assert await lab.add("a", "b") == [True, True]
    assert await lab.redis("EXISTS", lab.keys.unique_for) == 0


async def test_what_is_said_of_jobs_that_are_gone_is_forgotten(lab: ScriptHarness) -> None:
    await lab.add("live", "kept", "gone", unique_ms=DAY)
    await lab.redis("LREM", lab.keys.queued, 1, lab.keys.job_id("live"))
    token = lab.token()
    await lab.claim(2, token)
    await lab.scripts.settle([lab.ack(key, token, AckKind.FAILED) for key in ("kept", "gone")])
    await lab.redis("UNLINK", lab.keys.job_id("gone"))
    await lab.redis("ZREM", lab.keys.failed, lab.keys.job_id("gone"))
    assert await lab.scripts.tidy_unique("0", 100) == ("0", 1, False)
    left = {raw.decode() for raw in await lab.redis("HKEYS", lab.keys.unique_for)}
    assert left == {lab.keys.job_id("live"), lab.keys.job_id("kept")}
    await lab.redis("RPUSH", lab.keys.queued, lab.keys.job_id("live"))


async def test_many_ends_in_one_trip(lab: ScriptHarness) -> None:
    keys = [f"k{n}" for n in range(200)]
    await lab.add(*keys, unique_ms=DAY)
    token = lab.token()
    await lab.claim(200, token)
    kinds = [AckKind.COMPLETE, AckKind.UNKNOWN, AckKind.FAILED, AckKind.RETRY]
    acks: list[Ack] = [lab.ack(key, token, kinds[n % 4]) for n, key in enumerate(keys)]
    await lab.scripts.settle(acks)
    created = await lab.add(*keys, unique_ms=DAY)
    assert created == [n % 4 == 2 for n in range(200)]
