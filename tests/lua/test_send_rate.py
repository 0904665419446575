"""The shared rate of sends: literal cases, by a clock that the test sets."""

from __future__ import annotations

import pytest

from crmd.crm.whatsapp.send_rate import AHEAD_MS, LATE_MS, SendRate
from crmd.engine.store.client import Store
from tests.support.storeclock import StoreClock

MOST = 80 * 0.94
"""6 % of the limit stay free."""
BETWEEN = 1 / MOST


@pytest.fixture
async def rate(store: Store, clock: StoreClock) -> SendRate:
    """Of a number with Meta's default limit, which sent a moment ago."""
    made = SendRate(store, "1", 80.0)
    await made.take(1)
    await clock.forward(1_500)
    return made


async def starts(rate: SendRate, clock: StoreClock, seconds: float) -> int:
    """How many sends start in the time to come."""
    count = 0
    for _ in range(round(seconds * 100)):
        count += (await rate.take(100)).count
        await clock.forward(10)
    return count


async def per_second(rate: SendRate) -> float:
    """The rate now."""
    return 1 / (await rate.take(0)).between_seconds


async def test_only_the_starts_of_the_next_moment_are_given_and_evenly(rate: SendRate, clock: StoreClock) -> None:
    first = await rate.take(100)
    assert first.count == 1 + (AHEAD_MS + LATE_MS) // (1000 * BETWEEN), "those of a moment ago are made up for"
    assert first.between_seconds == pytest.approx(BETWEEN, abs=1e-6)
    second = await rate.take(100)
    assert (second.count, second.first_seconds > 0) == (0, True)
    await clock.forward(100)
    assert await starts(rate, clock, 10.0) == pytest.approx(10 * MOST, abs=6)


async def test_two_daemons_share_the_rate(rate: SendRate, store: Store, clock: StoreClock) -> None:
    other, counts = SendRate(store, "1", 80.0), [0, 0]
    for turn in range(1000):
        counts[turn % 2] += (await (rate, other)[turn % 2].take(2)).count
        await clock.forward(10)
    assert sum(counts) == pytest.approx(10 * MOST, abs=6)
    assert min(counts) > 100


async def test_each_number_has_a_rate_of_its_own(rate: SendRate, store: Store, clock: StoreClock) -> None:
    await rate.received(100)
    assert (await rate.take(1)).count == 0
    assert (await SendRate(store, "2", 80.0).take(1)).count == 1


async def test_what_comes_in_is_taken_out_of_what_may_go_out(rate: SendRate, clock: StoreClock) -> None:
    sent = 0
    for _ in range(20):
        await rate.received(20)
        sent += await starts(rate, clock, 1.0)
    assert 0.85 * 80 * 20 <= sent + 20 * 20 <= MOST * 20 + 3


async def test_a_flood_that_comes_in_holds_sends_for_a_second(rate: SendRate, clock: StoreClock) -> None:
    await rate.received(100_000)
    assert await starts(rate, clock, 0.9) == 0
    assert await starts(rate, clock, 1.0) > 0


async def test_a_refusal_halves_the_rate_and_the_same_moment_counts_once(
    rate: SendRate, clock: StoreClock
) -> None:
    assert await rate.refused(0.2) == pytest.approx(MOST / 2, abs=0.01)
    for ago in (0.0, 0.1, 0.2):
        assert await rate.refused(ago) is None
    await clock.forward(300)
    assert await rate.refused(0.2) is None, "it started before the cut"
    assert await rate.refused(0.0) is not None


async def test_the_rate_recovers_within_seconds_to_just_below_what_was_refused(
    rate: SendRate, clock: StoreClock
) -> None:
    await rate.refused(0.0)
    assert await per_second(rate) == pytest.approx(MOST / 2, rel=0.01)
    await clock.forward(500)
    assert MOST / 2 < await per_second(rate) < MOST * 0.9
    await clock.forward(1_500)
    assert await per_second(rate) == pytest.approx(MOST * 0.97, rel=0.01)
    await clock.forward(60_000)
    assert await per_second(rate) == pytest.approx(MOST, rel=0.001)


async def test_it_finds_a_limit_that_is_lower_than_configured_and_stays_below(
    rate: SendRate, clock: StoreClock
) -> None:
    while await per_second(rate) > 20:
        await rate.refused(0.0)
        await clock.forward(260)
    await clock.forward(10_000)
    assert await per_second(rate) < 40
    await clock.forward(600_000)
    assert await per_second(rate) == pytest.approx(MOST, rel=0.001), "it may have passed"


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000, -40_000, 40_000])
async def test_a_step_of_the_stores_clock_holds_nothing_up(
    rate: SendRate, clock: StoreClock, step_ms: int
) -> None:
    await starts(rate, clock, 1.0)
    await rate.refused(0.0)
    await clock.forward(step_ms)
    assert await starts(rate, clock, 3.0) > 1.5 * MOST
    assert await starts(rate, clock, 1.0) <= MOST + 2


async def test_the_first_second_begins_at_half_the_rate(store: Store, clock: StoreClock) -> None:
    rate = SendRate(store, "1", 80.0)
    for _ in range(2):
        assert 1 / (await rate.take(1)).between_seconds == pytest.approx(MOST / 2, rel=0.01)
        assert await starts(rate, clock, 1.0) < 0.9 * MOST
        assert await starts(rate, clock, 1.0) == pytest.approx(MOST, abs=3)
        await clock.forward(5_000)


async def test_the_state_expires_by_itself(rate: SendRate, store: Store) -> None:
    await rate.take(1)
    await rate.refused(0.0)
    assert 0 < await store.command("PTTL", "crmd:whatsapp:1:rate") <= 3_600_000
