"""Keyed limits: literal cases of the pair rule, parking, order, slowing down."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings
from crmd.engine.store.client import Store
from crmd.engine.store.limits import limit_keys
from crmd.engine.store.replies import AckKind
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock

PAIR = QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 6), 45),))
ONE_A_SECOND = QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 1), 1),), keep_min_seconds=0)
MARGIN = 1.01
"""Limits are a hundredth longer than they are written."""


@pytest.fixture
def pair(store: Store, clock: StoreClock) -> ScriptHarness:
    """A queue with Meta's rule for one recipient: one in six seconds, up to 45 at once, to be rested for."""
    return ScriptHarness(store, PAIR)


@pytest.fixture
def one(store: Store, clock: StoreClock) -> ScriptHarness:
    """A queue with one start a second for each recipient."""
    return ScriptHarness(store, ONE_A_SECOND)


SLACK_MS = 65 * 60_000
"""So much longer than it counts the state of a key stays, for clocks that are set forward."""


async def add_to(harness: ScriptHarness, to: Any, *keys: str, **options: Any) -> None:
    """Adds jobs for one recipient."""
    await harness.add(*keys, payload={"to": to}, **options)


@pytest.mark.parametrize(
    ("count", "after_ms"),
    [
        pytest.param(21, 5_000, id="as many periods as started at once"),  # the burst's window is over by then
        pytest.param(20, 60_000, id="twenty for two minutes and not for one"),
        pytest.param(6, 4_801, id="more than a tenth of the burst once it is over"),
    ],
)
async def test_what_started_at_once_is_to_be_rested_for(
    pair: ScriptHarness, clock: StoreClock, count: int, after_ms: int
) -> None:
    await add_to(pair, "ann", *(f"k{n}" for n in range(count)))
    assert len(await pair.claimed(100)) == count
    await clock.forward(after_ms)
    await add_to(pair, "ann", "next")
    assert await pair.claimed(100) == []
    await clock.forward(round(count * 6_000 * MARGIN) - after_ms - 1)
    assert await pair.claimed(100) == []
    await clock.forward(1)
    assert await pair.claimed(100) == ["next"]


@pytest.mark.parametrize("gaps_ms", [[0, 0, 7_000, 0], [2_300, 2_300, 2_400, 3_000, 4_000], [4_000] * 20])
async def test_quick_replies_are_not_delayed(pair: ScriptHarness, clock: StoreClock, gaps_ms: list[int]) -> None:
    for n, gap_ms in enumerate([0, *gaps_ms]):
        await clock.forward(gap_ms)
        await add_to(pair, "ann", f"k{n}")
        assert await pair.claimed(10) == [f"k{n}"]


async def test_a_conversation_ends_with_the_burst(pair: ScriptHarness, clock: StoreClock) -> None:
    for n in range(45):
        await add_to(pair, "ann", f"k{n}")
        assert await pair.claimed(10) == [f"k{n}"]
        await clock.forward(1_000)
    await add_to(pair, "ann", "next")
    assert await pair.claimed(10) == []
    await clock.forward(round(45 * 6_000 * MARGIN) - 45_000)
    assert await pair.claimed(10) == ["next"]


async def test_no_more_than_the_burst_starts_at_once(pair: ScriptHarness, clock: StoreClock) -> None:
    await add_to(pair, "ann", *(f"k{n}" for n in range(50)))
    claimed = await pair.claim(100)
    assert (len(claimed.jobs), claimed.reason, claimed.wait_ms) == (45, "empty", 45 * 6_000 * MARGIN)
    await clock.forward(claimed.wait_ms - 1)
    assert await pair.claimed(100) == []
    await clock.forward(1)
    assert len(await pair.claimed(100)) == 5


async def test_a_steady_pace_within_the_rate_never_waits(pair: ScriptHarness, clock: StoreClock) -> None:
    for n in range(30):
        await add_to(pair, "ann", f"k{n}")
        assert await pair.claimed(10) == [f"k{n}"]
        await clock.forward(round(6_000 * MARGIN))


async def test_jobs_for_others_and_for_nobody_pass(one: ScriptHarness) -> None:
    await add_to(one, "ann", "a1", "a2", "a3")
    await add_to(one, "bob", "b1")
    await one.add("free")
    assert await one.claimed(10) == ["a1", "b1", "free"]
    assert [await one.place(key) for key in ("a2", "a3")] == ["waiting", "waiting"]


@pytest.mark.queues(QueueSettings("q", limits=ONE_A_SECOND.limits, rate_limit=Rate(2, 60)))
async def test_a_parked_job_counts_as_waiting_and_spends_nothing(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await add_to(harness, "ann", "a1", "a2", "a3")
    await add_to(harness, "bob", "b1")
    assert await harness.claimed(10) == ["a1", "b1"]
    counts = await harness.scripts.counts()
    assert (counts.waiting, counts.active, counts.rate_left) == (2, 2, 0)


async def test_a_freed_key_starts_its_jobs_one_by_one_in_their_order(
    one: ScriptHarness, clock: StoreClock
) -> None:
    await add_to(one, "ann", *(f"a{n}" for n in range(5)))
    order = []
    for _ in range(5):
        claimed = await one.claim(10)
        order += one.keys_of(claimed)
        assert len(claimed.jobs) == 1
        await clock.forward(max(0, claimed.wait_ms))
    assert order == [f"a{n}" for n in range(5)]
    assert await one.redis("EXISTS", one.keys.parked) == 0


async def test_a_newcomer_goes_behind_what_is_parked_though_the_key_is_free(
    one: ScriptHarness, clock: StoreClock
) -> None:
    await add_to(one, "ann", "a1", "a2", "a3")
    await one.claimed(10)
    await clock.forward(1_010)
    await add_to(one, "ann", "new")
    assert await one.claimed(10) == ["a2"]
    await clock.forward(1_010)
    assert await one.claimed(10) == ["a3"]
    await clock.forward(1_010)
    assert await one.claimed(10) == ["new"]


@pytest.mark.parametrize("kind", [AckKind.RETRY, AckKind.RETURN])
async def test_what_is_tried_again_parks_behind(one: ScriptHarness, clock: StoreClock, kind: AckKind) -> None:
    await add_to(one, "ann", "a1", "a2")
    token = one.token()
    assert await one.claimed(10, token) == ["a1"]
    await one.settle("a1", token, kind, document=document("q", "a1", {"to": "ann"}))
    assert await one.claimed(10) == []
    await clock.forward(1_010)
    assert await one.claimed(10) == ["a2"]
    await clock.forward(1_010)
    assert await one.claimed(10) == ["a1"]


async def test_a_parked_job_that_was_cancelled_or_aborted_does_not_hold_its_key(
    one: ScriptHarness, clock: StoreClock
) -> None:
    await add_to(one, "ann", "a1", "a2", "a3", "a4")
    await one.claimed(10)
    assert await one.scripts.cancel(one.keys.job_id("a2"), b"{}", b"{}", b"{}") == "waiting"
    await one.redis("ZREM", one.keys.incomplete, one.keys.job_id("a3"))
    await clock.forward(1_010)
    claimed = await one.claim(10)
    assert one.keys_of(claimed) == ["a4"]
    assert claimed.aborted_ids == [one.keys.job_id("a2"), one.keys.job_id("a3")]
    assert await one.redis("EXISTS", one.keys.parked) == 0
    await one.redis("DEL", one.keys.job_id("a3"))


async def test_a_limit_that_was_configured_away_frees_what_it_parked(
    one: ScriptHarness, clock: StoreClock
) -> None:
    await add_to(one, "ann", "a1", "a2", "a3")
    await one.claimed(10)
    await clock.forward(2_000)
    free = ScriptHarness(one.store, QueueSettings("q"))
    assert await free.claimed(10) == ["a2", "a3"]


async def test_the_state_of_a_key_expires_by_itself(one: ScriptHarness) -> None:
    await add_to(one, "ann", "a1")
    await one.claimed(10)
    [name] = [name async for name in one.store.redis.scan_iter(one.keys.limit_prefix + "*")]
    assert name.decode() == one.keys.limit_prefix + "to@1/s=ann"
    assert SLACK_MS < await one.redis("PTTL", name) <= SLACK_MS + 1_010


async def test_several_limits_all_have_to_be_free(store: Store, clock: StoreClock) -> None:
    limits = (KeyedLimit("to", Rate(1, 1), 1), KeyedLimit("campaign", Rate(1, 3), 2))
    harness = ScriptHarness(store, QueueSettings("q", limits=limits))
    for n, (to, campaign) in enumerate([("ann", "x"), ("ann", "y"), ("bob", "x"), ("cid", "x"), ("dan", "z")]):
        await harness.add(f"k{n}", payload={"to": to, "campaign": campaign})
    assert await harness.claimed(10) == ["k0", "k2", "k4"]
    await clock.forward(1_010)
    assert await harness.claimed(10) == ["k1"]
    await clock.forward(6_060 - 1_010)
    assert await harness.claimed(10) == ["k3"]


@pytest.mark.parametrize(
    "value",
    [
        "ann",
        "",
        "ü☎",
        'a"b\\c',
        "x" * 128,
        "x" * 129,
        "ü" * 65,
        0,
        7,
        -3,
        491234567890,
        2**53 - 1,
        1.5,
        1e100,
        0.1,
    ],
)
async def test_python_names_keys_as_the_script_does(one: ScriptHarness, value: Any) -> None:
    await add_to(one, value, "a1", "a2")
    assert await one.claimed(10) == ["a1"]
    names = await one.redis("ZRANGE", one.keys.parked, 0, -1)
    assert [name.decode() for name in names] == limit_keys(ONE_A_SECOND, {"to": value})


@pytest.mark.parametrize("value", [None, True, False, [], {}, ["ann"]])
async def test_what_is_neither_text_nor_number_is_not_limited(one: ScriptHarness, value: Any) -> None:
    await add_to(one, value, "a1", "a2")
    assert await one.claimed(10) == ["a1", "a2"]
    assert limit_keys(ONE_A_SECOND, {"to": value}) == []


async def test_neighbouring_long_numbers_are_different_keys(one: ScriptHarness) -> None:
    await add_to(one, 491234567890123, "a1")
    await add_to(one, 491234567890124, "a2")
    assert await one.claimed(10) == ["a1", "a2"]


@pytest.mark.parametrize(
    "raw",
    [b"{", b"[]", b'"x"', b"null", b"7", b'{"kwargs":[]}', b'{"kwargs":"to"}', b'{"kwargs":null}', b"{}", b"\xff"],
)
async def test_json_without_the_field_is_not_limited(one: ScriptHarness, raw: bytes) -> None:
    await one.add("a", "b")
    for key in ("a", "b"):
        await one.redis("SET", one.keys.job_id(key), raw)
    assert await one.claimed(10) == ["a", "b"]


async def test_json_nested_too_deeply_for_the_script_is_still_leased(one: ScriptHarness) -> None:
    await one.add("a")
    await one.redis("SET", one.keys.job_id("a"), b'{"kwargs":{"to":"ann","x":' + b"[" * 2000 + b"]" * 2000 + b"}}")
    assert await one.claimed(10) == ["a"]


async def test_slowing_a_key_down_holds_that_key_only(one: ScriptHarness, clock: StoreClock) -> None:
    held = limit_keys(ONE_A_SECOND, {"to": "ann"})
    await one.scripts.slow_down(16, held)
    await add_to(one, "ann", "a1")
    await add_to(one, "bob", "b1")
    claimed = await one.claim(10)
    assert (one.keys_of(claimed), claimed.wait_ms) == (["b1"], 16_000)
    await clock.forward(15_999)
    assert await one.claimed(10) == []
    await clock.forward(1)
    assert await one.claimed(10) == ["a1"]


async def test_the_longest_hold_of_a_key_stands(one: ScriptHarness, clock: StoreClock) -> None:
    held = limit_keys(ONE_A_SECOND, {"to": "ann"})
    await one.scripts.slow_down(60, held)
    await one.scripts.slow_down(1, held)
    await add_to(one, "ann", "a1")
    assert (await one.claim(10)).wait_ms == 60_000
    await one.scripts.slow_down(1, held)
    assert (await one.claim(10)).wait_ms == 60_000
    await clock.forward(30_000)
    assert await one.claimed(10) == []
    await one.scripts.slow_down(60, held)
    assert (await one.claim(10)).wait_ms == 60_000


async def test_slowing_the_queue_down_holds_all_of_it_the_longest_time(one: ScriptHarness) -> None:
    await one.add("a")
    await one.scripts.slow_down(30)
    await one.scripts.slow_down(1)
    claimed = await one.claim(10)
    assert (claimed.reason, claimed.jobs) == ("blocked", [])
    assert 29_000 < claimed.wait_ms <= 30_000
    assert (await one.scripts.counts()).blocked_until_ms > 0
    await one.redis("DEL", one.keys.blocked)
    assert await one.claimed(10) == ["a"]
