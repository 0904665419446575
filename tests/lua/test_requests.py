"""Requests that may be repeated: the script that adds their jobs once, and how long it knows them."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from crmd.engine.admin.requests import RequestKey, made_keys
from crmd.engine.store.replies import AckKind, NewDocument, RequestRecord, RequestReply
from crmd.engine.store.scripts import MIXED_KEYS_LIFE_S, REQUEST_LIFE_S
from crmd.errors import RequestError, StoreFull
from tests.support.script_harness import ScriptHarness
from tests.support.storeclock import StoreClock

DIGEST = RequestKey("token:shop", "order-17").digest
FINGERPRINT = b"8 bytes."
DAY_MS = REQUEST_LIFE_S * 1000


def request(
    harness: ScriptHarness,
    count: int = 1,
    *own: str,
    digest: bytes = DIGEST,
    fingerprint: bytes = FINGERPRINT,
    time_ms: int = 1_800_000_000_000,
    **options: Any,
) -> tuple[list[NewDocument], RequestRecord]:
    """One request for `count` jobs without keys and one for each of `own`."""
    keys = made_keys(time_ms, digest, count) + list(own)
    record = RequestRecord(digest, fingerprint, time_ms, bool(count and own))
    return [harness.new(key, **options) for key in keys], record


async def ask(harness: ScriptHarness, count: int = 1, *own: str, **options: Any) -> RequestReply:
    return await harness.scripts.enqueue_request(*request(harness, count, *own, **options))


async def recall(harness: ScriptHarness, count: int = 1, *own: str, **options: Any) -> RequestReply | None:
    return await harness.scripts.recall_request(*request(harness, count, *own, **options))


async def is_repeat(harness: ScriptHarness, count: int = 1, *own: str, **options: Any) -> bool:
    return (await ask(harness, count, *own, **options)).repeated


async def known(harness: ScriptHarness) -> int:
    count: int = await harness.redis("HLEN", harness.keys.requests)
    return count


async def finish(harness: ScriptHarness, *, number: int = -1) -> None:
    """Runs all that waits to its end and deletes it, unless another TTL is given."""
    token = harness.token()
    claimed = await harness.claim(500, token)
    await harness.scripts.settle(
        [harness.ack(key, token, AckKind.COMPLETE, number=number) for key in harness.keys_of(claimed)]
    )


async def test_a_repeat_adds_nothing_and_gets_the_first_answer(harness: ScriptHarness) -> None:
    first = await ask(harness, 3, time_ms=1_800_000_000_000)
    assert first == RequestReply(False, 1_800_000_000_000, [True] * 3)
    again = await ask(harness, 3, time_ms=1_800_000_009_999)
    assert again == RequestReply(True, 1_800_000_000_000, [True] * 3)
    assert await harness.lane() == made_keys(1_800_000_000_000, DIGEST, 3)


async def test_another_body_is_told_apart_and_another_owner_is_another_request(harness: ScriptHarness) -> None:
    await ask(harness)
    with pytest.raises(RequestError, match="another request"):
        await ask(harness, fingerprint=b"another!")
    assert await is_repeat(harness, digest=RequestKey("user:shop", "order-17").digest) is False
    assert len(await harness.lane()) == 2


async def test_a_repeat_after_the_job_is_gone_adds_nothing(harness: ScriptHarness, clock: StoreClock) -> None:
    await ask(harness)
    await finish(harness)
    await clock.forward(DAY_MS - 1_000)
    assert await is_repeat(harness)
    assert await harness.lane() == []


async def test_a_day_after_the_first_answer_it_is_another_request(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await ask(harness)
    await finish(harness)
    await clock.forward(DAY_MS + 1_000)
    assert await is_repeat(harness, fingerprint=b"another!") is False
    assert len(await harness.lane()) == 1


@pytest.mark.parametrize("state", ["waiting", "delayed", "active"])
async def test_it_is_known_as_long_as_a_job_lives(harness: ScriptHarness, clock: StoreClock, state: str) -> None:
    options: dict[str, Any] = {"delay_ms": 10 * DAY_MS} if state == "delayed" else {}
    await ask(harness, 2, **options)
    if state == "active":
        await harness.claim(2)
    await clock.forward(5 * DAY_MS)
    assert await harness.scripts.tidy_requests("0", 100) == ("0", 0, False)
    assert await is_repeat(harness, 2, **options)
    with pytest.raises(RequestError, match="another request"):
        await ask(harness, 2, fingerprint=b"another!")


@pytest.mark.parametrize("how", ["delay_ms", "due_ms"])
async def test_a_delayed_one_is_known_for_a_day_after_it_was_due(
    harness: ScriptHarness, clock: StoreClock, how: str
) -> None:
    options: dict[str, Any] = {how: 3 * DAY_MS + (clock.ms if how == "due_ms" else 0)}
    await ask(harness, 2, **options)
    await clock.forward(3 * DAY_MS + 1)
    await finish(harness)
    await clock.forward(DAY_MS - 10_000)
    assert await is_repeat(harness, 2)
    await clock.forward(20_000)
    assert await harness.scripts.tidy_requests("0", 100) == ("0", 1, False)


async def test_a_year_far_away_fits(harness: ScriptHarness) -> None:
    await ask(harness, due_ms=253_402_300_799_000)
    assert await is_repeat(harness)


async def test_jobs_with_keys_of_their_own(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.add("b")
    first = await ask(harness, 1, "a", "b", "c")
    again = await ask(harness, 1, "a", "b", "c")
    assert (first.created, again.created, again.repeated) == ([True, True, False, True], first.created, True)
    await clock.forward(2 * DAY_MS)
    assert await is_repeat(harness, 1, "a", "b", "c"), "they still wait"
    await finish(harness)
    assert await harness.scripts.tidy_requests("0", 100) == ("0", 0, False)
    await clock.forward(MIXED_KEYS_LIFE_S * 1000)
    assert await harness.scripts.tidy_requests("0", 100) == ("0", 1, False)


async def test_a_day_is_enough_where_each_job_has_a_key_of_its_own(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await ask(harness, 0, "a", "b")
    await clock.forward(DAY_MS + 1_000)
    assert await is_repeat(harness, 0, "a", "b"), "they still wait"
    assert await harness.scripts.tidy_requests("0", 100) == ("0", 1, False)
    again = await ask(harness, 0, "a", "b")
    assert again.created == [False, False], "their keys are taken"
    await finish(harness)
    await harness.redis("DEL", harness.keys.requests)


TAKEN = {
    "none": (),
    "first": (0,),
    "two": (7, 8),
    "last": (999,),
    "scattered": tuple(range(3, 1000, 20)),
    "every third": tuple(range(0, 1000, 3)),
    "head": tuple(range(510)),
    "tail": tuple(range(256, 1000)),
    "middle": tuple(range(255, 766)),
    "all": tuple(range(1000)),
}


@pytest.mark.parametrize("taken", TAKEN.values(), ids=TAKEN)
async def test_which_of_a_thousand_were_created_is_remembered(
    harness: ScriptHarness, taken: tuple[int, ...]
) -> None:
    own = [f"k{number}" for number in range(1_000)]
    for start in range(0, len(taken), 400):
        await harness.add(*(own[number] for number in taken[start : start + 400]))
    first, again = await ask(harness, 0, *own), await ask(harness, 0, *own)
    assert first.created == [number not in taken for number in range(1_000)]
    assert again.created == first.created
    await harness.redis("DEL", harness.keys.requests)


@pytest.mark.parametrize(
    ("name", "most_bytes"), [("last", 28), ("scattered", 120), ("every third", 145), ("tail", 28), ("all", 28)]
)
async def test_runs_of_taken_keys_cost_little(harness: ScriptHarness, name: str, most_bytes: int) -> None:
    own = [f"k{number}" for number in range(1_000)]
    for start in range(0, len(TAKEN[name]), 400):
        await harness.add(*(own[number] for number in TAKEN[name][start : start + 400]))
    await ask(harness, 0, *own)
    [record] = await harness.redis("HVALS", harness.keys.requests)
    assert len(record) <= most_bytes
    await harness.redis("DEL", harness.keys.requests)


async def test_a_record_that_has_a_bit_for_each_job_is_read(harness: ScriptHarness, clock: StoreClock) -> None:
    """As all were before run lengths."""
    own = [f"k{number}" for number in range(100)]
    taken = sum(1 << number for number in range(50, 100)).to_bytes(13, "little")
    known_until = clock.ms // 1000 + REQUEST_LIFE_S
    record = FINGERPRINT + (7).to_bytes(6, "big") + struct.pack(">HI", 100, known_until) + taken
    await harness.redis("HSET", harness.keys.requests, DIGEST, record)
    assert await ask(harness, 0, *own) == RequestReply(True, 7, [True] * 50 + [False] * 50)
    await harness.redis("DEL", harness.keys.requests)


async def test_many_at_once_are_one(harness: ScriptHarness) -> None:
    replies = await asyncio.gather(*(ask(harness, 2, time_ms=1_800_000_000_000 + n) for n in range(256)))
    assert sum(not reply.repeated for reply in replies) == 1
    assert len({reply.time_ms for reply in replies}) == 1
    assert len(await harness.lane()) == 2


async def test_what_is_over_is_forgotten_in_steps(harness: ScriptHarness, clock: StoreClock) -> None:
    for number in range(1_000):
        await ask(harness, digest=RequestKey("token:shop", str(number)).digest)
        if number % 400 == 399:
            await finish(harness)
    await finish(harness)
    assert await harness.scripts.tidy_requests("0", 100_000) == ("0", 0, False)
    await ask(harness, digest=DIGEST)
    await clock.forward(DAY_MS + 1_000)
    await finish(harness)
    await ask(harness, digest=RequestKey("token:shop", "of today").digest)
    cursor, forgotten, steps = "0", 0, 0
    while steps == 0 or cursor != "0":
        cursor, count, _ = await harness.scripts.tidy_requests(cursor, 100)
        forgotten, steps = forgotten + count, steps + 1
        assert count < 400
    assert (forgotten, await known(harness)) == (1_001, 1)


@pytest.mark.parametrize("age_ms", [0, 5 * DAY_MS])
async def test_a_repeat_is_recalled_by_a_store_that_takes_no_more(
    harness: ScriptHarness, clock: StoreClock, age_ms: int
) -> None:
    await harness.add("b")
    first = await ask(harness, 1, "a", "b")
    await clock.forward(age_ms)
    async with harness.full():
        assert await recall(harness, 1, "a", "b") == RequestReply(True, first.time_ms, first.created)
        assert await recall(harness, 1, "a", "b", digest=RequestKey("token:shop", "order-18").digest) is None
        with pytest.raises(RequestError, match="another request"):
            await recall(harness, 1, "a", "b", fingerprint=b"another!")
        with pytest.raises(StoreFull):
            await ask(harness, 1, "a", "b")
    await finish(harness)
    await clock.forward(DAY_MS + 1_000)
    assert await recall(harness, 1, "a", "b") is None


async def test_a_request_whose_lane_is_of_the_wrong_type_leaves_nothing(
    harness: ScriptHarness, untidy: None
) -> None:
    await harness.redis("SET", harness.keys.queued, "wrong")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await ask(harness)
    assert await known(harness) == 0
    await harness.redis("DEL", harness.keys.queued)
    assert await is_repeat(harness) is False


async def test_a_record_is_short(harness: ScriptHarness) -> None:
    await ask(harness, 1_000)
    [record] = await harness.redis("HVALS", harness.keys.requests)
    assert len(record) == 20
    assert struct.unpack(">H", record[14:16]) == (1_000,)
    await harness.redis("DEL", harness.keys.requests)


async def test_two_thousand_cost_less_than_200_bytes_each(harness: ScriptHarness) -> None:
    for start in range(0, 2_000, 500):
        digests = [RequestKey("token:shop", f"order-{number}").digest for number in range(start, start + 500)]
        await asyncio.gather(*(ask(harness, digest=digest) for digest in digests))
        await finish(harness)
    assert await harness.redis("MEMORY", "USAGE", harness.keys.requests, "SAMPLES", 0) < 200 * 2_000
    await harness.redis("DEL", harness.keys.requests)
