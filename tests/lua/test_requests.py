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
    lab: ScriptHarness,
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
    return [lab.new(key, **options) for key in keys], record


async def ask(lab: ScriptHarness, count: int = 1, *own: str, **options: Any) -> RequestReply:
    return await lab.scripts.enqueue_request(*request(lab, count, *own, **options))


async def recall(lab: ScriptHarness, count: int = 1, *own: str, **options: Any) -> RequestReply | None:
    return await lab.scripts.recall_request(*request(lab, count, *own, **options))


async def is_repeat(lab: ScriptHarness, count: int = 1, *own: str, **options: Any) -> bool:
    return (await ask(lab, count, *own, **options)).repeated


async def known(lab: ScriptHarness) -> int:
    count: int = await lab.redis("HLEN", lab.keys.requests)
    return count


async def finish(lab: ScriptHarness, *, number: int = -1) -> None:
    """Runs all that waits to its end and deletes it, unless another TTL is given."""
    token = lab.token()
    claimed = await lab.claim(500, token)
    await lab.scripts.settle(
        [lab.ack(key, token, AckKind.COMPLETE, number=number) for key in lab.keys_of(claimed)]
    )


async def test_a_repeat_adds_nothing_and_gets_the_first_answer(lab: ScriptHarness) -> None:
    first = await ask(lab, 3, time_ms=1_800_000_000_000)
    assert first == RequestReply(False, 1_800_000_000_000, [True] * 3)
    again = await ask(lab, 3, time_ms=1_800_000_009_999)
    assert again == RequestReply(True, 1_800_000_000_000, [True] * 3)
    assert await lab.lane() == made_keys(1_800_000_000_000, DIGEST, 3)


async def test_another_body_is_told_apart_and_another_owner_is_another_request(lab: ScriptHarness) -> None:
    await ask(lab)
    with pytest.raises(RequestError, match="another request"):
        await ask(lab, fingerprint=b"another!")
    assert await is_repeat(lab, digest=RequestKey("user:shop", "order-17").digest) is False
    assert len(await lab.lane()) == 2


async def test_a_repeat_after_the_job_is_gone_adds_nothing(lab: ScriptHarness, clock: StoreClock) -> None:
    await ask(lab)
    await finish(lab)
    await clock.forward(DAY_MS - 1_000)
    assert await is_repeat(lab)
    assert await lab.lane() == []


async def test_a_day_after_the_first_answer_it_is_another_request(lab: ScriptHarness, clock: StoreClock) -> None:
    await ask(lab)
    await finish(lab)
    await clock.forward(DAY_MS + 1_000)
    assert await is_repeat(lab, fingerprint=b"another!") is False
    assert len(await lab.lane()) == 1


@pytest.mark.parametrize("state", ["waiting", "delayed", "active"])
async def test_it_is_known_as_long_as_a_job_lives(lab: ScriptHarness, clock: StoreClock, state: str) -> None:
    options: dict[str, Any] = {"delay_ms": 10 * DAY_MS} if state == "delayed" else {}
    await ask(lab, 2, **options)
    if state == "active":
        await lab.claim(2)
    await clock.forward(5 * DAY_MS)
    assert await lab.scripts.tidy_requests("0", 100) == ("0", 0, False)
    assert await is_repeat(lab, 2, **options)
    with pytest.raises(RequestError, match="another request"):
        await ask(lab, 2, fingerprint=b"another!")


@pytest.mark.parametrize("how", ["delay_ms", "due_ms"])
async def test_a_delayed_one_is_known_for_a_day_after_it_was_due(
    lab: ScriptHarness, clock: StoreClock, how: str
) -> None:
    options: dict[str, Any] = {how: 3 * DAY_MS + (clock.ms if how == "due_ms" else 0)}
    await ask(lab, 2, **options)
    await clock.forward(3 * DAY_MS + 1)
    await finish(lab)
    await clock.forward(DAY_MS - 10_000)
    assert await is_repeat(lab, 2)
    await clock.forward(20_000)
    assert await lab.scripts.tidy_requests("0", 100) == ("0", 1, False)


async def test_a_year_far_away_fits(lab: ScriptHarness) -> None:
    await ask(lab, due_ms=253_402_300_799_000)
    assert await is_repeat(lab)


async def test_jobs_with_keys_of_their_own(lab: ScriptHarness, clock: StoreClock) -> None:
    await lab.add("b")
    first = await ask(lab, 1, "a", "b", "c")
    again = await ask(lab, 1, "a", "b", "c")
    assert (first.created, again.created, again.repeated) == ([True, True, False, True], first.created, True)
    await clock.forward(2 * DAY_MS)
    assert await is_repeat(lab, 1, "a", "b", "c"), "they still wait"
    await finish(lab)
    assert await lab.scripts.tidy_requests("0", 100) == ("0", 0, False)
    await clock.forward(MIXED_KEYS_LIFE_S * 1000)
    assert await lab.scripts.tidy_requests("0", 100) == ("0", 1, False)


async def test_a_day_is_enough_where_each_job_has_a_key_of_its_own(lab: ScriptHarness, clock: StoreClock) -> None:
    await ask(lab, 0, "a", "b")
    await clock.forward(DAY_MS + 1_000)
    assert await is_repeat(lab, 0, "a", "b"), "they still wait"
    assert await lab.scripts.tidy_requests("0", 100) == ("0", 1, False)
    again = await ask(lab, 0, "a", "b")
    assert again.created == [False, False], "their keys are taken"
    await finish(lab)
    await lab.redis("DEL", lab.keys.requests)


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
async def test_which_of_a_thousand_were_created_is_remembered(lab: ScriptHarness, taken: tuple[int, ...]) -> None:
    own = [f"k{number}" for number in range(1_000)]
    for start in range(0, len(taken), 400):
        await lab.add(*(own[number] for number in taken[start : start + 400]))
    first, again = await ask(lab, 0, *own), await ask(lab, 0, *own)
    assert first.created == [number not in taken for number in range(1_000)]
    assert again.created == first.created
    await lab.redis("DEL", lab.keys.requests)


@pytest.mark.parametrize(
    ("name", "most_bytes"), [("last", 28), ("scattered", 120), ("every third", 145), ("tail", 28), ("all", 28)]
)
async def test_runs_of_taken_keys_cost_little(lab: ScriptHarness, name: str, most_bytes: int) -> None:
    own = [f"k{number}" for number in range(1_000)]
    for start in range(0, len(TAKEN[name]), 400):
        await lab.add(*(own[number] for number in TAKEN[name][start : start + 400]))
    await ask(lab, 0, *own)
    [record] = await lab.redis("HVALS", lab.keys.requests)
    assert len(record) <= most_bytes
    await lab.redis("DEL", lab.keys.requests)


async def test_a_record_that_has_a_bit_for_each_job_is_read(lab: ScriptHarness, clock: StoreClock) -> None:
    """As all were before run lengths."""
    own = [f"k{number}" for number in range(100)]
    taken = sum(1 << number for number in range(50, 100)).to_bytes(13, "little")
    known_until = clock.ms // 1000 + REQUEST_LIFE_S
    record = FINGERPRINT + (7).to_bytes(6, "big") + struct.pack(">HI", 100, known_until) + taken
    await lab.redis("HSET", lab.keys.requests, DIGEST, record)
    assert await ask(lab, 0, *own) == RequestReply(True, 7, [True] * 50 + [False] * 50)
    await lab.redis("DEL", lab.keys.requests)


async def test_many_at_once_are_one(lab: ScriptHarness) -> None:
    replies = await asyncio.gather(*(ask(lab, 2, time_ms=1_800_000_000_000 + n) for n in range(256)))
    assert sum(not reply.repeated for reply in replies) == 1
    assert len({reply.time_ms for reply in replies}) == 1
    assert len(await lab.lane()) == 2


async def test_what_is_over_is_forgotten_in_steps(lab: ScriptHarness, clock: StoreClock) -> None:
    for number in range(1_000):
        await ask(lab, digest=RequestKey("token:shop", str(number)).digest)
        if number % 400 == 399:
            await finish(lab)
    await finish(lab)
    assert await lab.scripts.tidy_requests("0", 100_000) == ("0", 0, False)
    await ask(lab, digest=DIGEST)
    await clock.forward(DAY_MS + 1_000)
    await finish(lab)
    await ask(lab, digest=RequestKey("token:shop", "of today").digest)
    cursor, forgotten, steps = "0", 0, 0
    while steps == 0 or cursor != "0":
        cursor, count, _ = await lab.scripts.tidy_requests(cursor, 100)
        forgotten, steps = forgotten + count, steps + 1
        assert count < 400
    assert (forgotten, await known(lab)) == (1_001, 1)


@pytest.mark.parametrize("age_ms", [0, 5 * DAY_MS])
async def test_a_repeat_is_recalled_by_a_store_that_takes_no_more(
    lab: ScriptHarness, clock: StoreClock, age_ms: int
) -> None:
    await lab.add("b")
    first = await ask(lab, 1, "a", "b")
    await clock.forward(age_ms)
    await lab.redis("CONFIG", "SET", "maxmemory", 1)
    try:
        assert await recall(lab, 1, "a", "b") == RequestReply(True, first.time_ms, first.created)
        assert await recall(lab, 1, "a", "b", digest=RequestKey("token:shop", "order-18").digest) is None
        with pytest.raises(RequestError, match="another request"):
            await recall(lab, 1, "a", "b", fingerprint=b"another!")
        with pytest.raises(StoreFull):
            await ask(lab, 1, "a", "b")
    finally:
        await lab.redis("CONFIG", "SET", "maxmemory", 0)
    await finish(lab)
    await clock.forward(DAY_MS + 1_000)
    assert await recall(lab, 1, "a", "b") is None


async def test_a_request_whose_lane_is_of_the_wrong_type_leaves_nothing(lab: ScriptHarness, untidy: None) -> None:
    await lab.redis("SET", lab.keys.queued, "wrong")
    with pytest.raises(Exception, match="WRONGTYPE"):
        await ask(lab)
    assert await known(lab) == 0
    await lab.redis("DEL", lab.keys.queued)
    assert await is_repeat(lab) is False


async def test_a_record_is_short(lab: ScriptHarness) -> None:
    await ask(lab, 1_000)
    [record] = await lab.redis("HVALS", lab.keys.requests)
    assert len(record) == 20
    assert struct.unpack(">H", record[14:16]) == (1_000,)
    await lab.redis("DEL", lab.keys.requests)


async def test_two_thousand_cost_less_than_200_bytes_each(lab: ScriptHarness) -> None:
    for start in range(0, 2_000, 500):
        digests = [RequestKey("token:shop", f"order-{number}").digest for number in range(start, start + 500)]
        await asyncio.gather(*(ask(lab, digest=digest) for digest in digests))
        await finish(lab)
    assert await lab.redis("MEMORY", "USAGE", lab.keys.requests, "SAMPLES", 0) < 200 * 2_000
    await lab.redis("DEL", lab.keys.requests)
