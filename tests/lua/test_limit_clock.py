"""Limits while the store's clock is set: none is exceeded in real time, and none holds longer than it should."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings
from crmd.engine.store.client import Store
from crmd.engine.store.limit_clock import CORRECTED, UNSURE
from crmd.engine.store.limits import rate_window
from crmd.engine.store.replies import Claimed
from tests.lua.test_rate_model import Starts
from tests.support.script_harness import Bench, ScriptHarness
from tests.support.storeclock import StoreClock

MODEL = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(MODEL, max_examples=1_000)
STEPS_MS = (40_000, 3_600_000, -3_600_000)
TRIES = 4
"""Claims until the clock is corrected and one of them counts."""


async def claim(harness: ScriptHarness, slots: int = 10) -> Claimed:
    """Claims as a worker does: at once again where the clock was in doubt."""
    for _ in range(TRIES):
        claimed = await harness.claim(slots)
        if claimed.reason not in (UNSURE, CORRECTED):
            return claimed
        assert claimed.jobs == []
    raise AssertionError("the clock stays in doubt")


@dataclass(frozen=True)
class Move:
    """The clock is set, some time passes, one of the daemons claims."""

    step_ms: int
    forward_ms: int
    want: int
    daemon: int


@dataclass(frozen=True)
class Case:
    """A limit and what is tried under it."""

    rate: Rate
    moves: Sequence[Move]


def cases(sign: int) -> st.SearchStrategy[Case]:
    """Cases whose steps of less than an hour all go one way.

    When a short step is undone while a daemon is cut off, that daemon cannot tell it from a step before its first
    look: the store's time and the time of the correction are the same either way. See "The limit clock" in
    docs/explanation/architecture.md. A step that is longer than the daemon was cut off must be told apart, there
    and back.
    """
    short = st.integers(201, 5_000).map(lambda ms: sign * ms)
    step = st.one_of(st.just(0), st.sampled_from((sign * 40_000, 3_600_000, -3_600_000)), short)
    moves = st.builds(Move, step, st.integers(0, 40_000), st.integers(1, 10), st.integers(0, 1))
    rates = st.builds(Rate, st.integers(1, 20), st.sampled_from([1.0, 60.0]))
    return st.builds(Case, rates, st.lists(moves, min_size=3, max_size=20))


CASES = st.sampled_from((1, -1)).flatmap(cases)
BACK_AND_FORTH = (
    Case(Rate(1, 1.0), [Move(0, 0, 1, 0), Move(3_600_000, 0, 1, 0), Move(-3_600_000, 1_017, 1, 1)]),
    Case(Rate(1, 1.0), [Move(0, 0, 1, 0), Move(-3_600_000, 0, 1, 1), Move(3_600_000, 0, 1, 0)]),
)
"""A step that one daemon corrects, and that is undone while the other was unavailable all the time."""
LONG_AWAY = Case(
    Rate(1, 1.0),
    [Move(0, 39_440, 1, 0), Move(40_000, 1_060, 1, 1), Move(0, 885, 1, 1), Move(40_000, 87, 1, 0)],
)
"""The first to correct the clock has not looked for long, the second has."""


@MODEL
@example(BACK_AND_FORTH[0])
@example(BACK_AND_FORTH[1])
@example(LONG_AWAY)
@given(case=CASES)
def test_a_limit_counts_real_time_however_the_clock_is_set(workbench: Bench, case: Case) -> None:
    workbench.run(lambda store, clock: _counts_real_time(store, clock, case))


@pytest.mark.faults
@MANY
@given(case=CASES)
def test_a_limit_counts_real_time_however_often_the_clock_is_set(workbench: Bench, case: Case) -> None:
    workbench.run(lambda store, clock: _counts_real_time(store, clock, case))


async def _counts_real_time(store: Store, clock: StoreClock, case: Case) -> None:
    labs = [ScriptHarness(store, QueueSettings("q", rate_limit=case.rate)) for _ in range(2)]
    for harness in labs:
        await claim(harness)  # both know the clock
    await labs[0].add(*(f"k{n}" for n in range(sum(move.want for move in case.moves))))
    count, period_ms = rate_window(case.rate)
    starts = Starts()
    for move in case.moves:
        await clock.step(move.step_ms)
        await clock.forward(move.forward_ms)
        free = count - starts.within(period_ms, clock.passed_ms)
        started = len((await claim(labs[move.daemon], move.want)).jobs)
        # Each correction may put the clock back by a ms, by which it and the own clock are rounded.
        late = count - starts.within(period_ms + 2 * len(case.moves), clock.passed_ms)
        assert min(move.want, late) <= started <= min(move.want, free)
        starts.add(clock.passed_ms, started)
    assert starts.most_in_a_window(case.rate.period_seconds * 1000) <= count


@pytest.mark.parametrize("step_ms", STEPS_MS)
@pytest.mark.parametrize("rate", [Rate(5, 60), Rate(1_100, 60)])
async def test_a_limit_is_used_again_within_its_period(
    store: Store, clock: StoreClock, step_ms: int, rate: Rate
) -> None:
    harness = ScriptHarness(store, QueueSettings("q", rate_limit=rate))
    await harness.add(*(f"k{n}" for n in range(5 * rate.count)))
    for _ in range(4):
        started = sum([len((await claim(harness, 500)).jobs) for _ in range(4)])
        assert started <= rate.count
        assert (await harness.claim()).reason == "limited"
        await clock.step(step_ms)
        claimed = await claim(harness)
        assert claimed.reason == "limited"
        assert 0 < claimed.wait_ms <= 61_000
        await clock.forward(claimed.wait_ms)
        assert (await claim(harness, 1)).jobs


@pytest.mark.parametrize("step_ms", STEPS_MS)
async def test_a_daemon_that_starts_after_the_step_is_told_by_the_first_that_was_there(
    store: Store, clock: StoreClock, step_ms: int
) -> None:
    old, new = (ScriptHarness(store, QueueSettings("q", rate_limit=Rate(5, 60))) for _ in range(2))
    await old.add(*(f"k{n}" for n in range(20)))
    assert len((await claim(old)).jobs) == 5
    await clock.step(step_ms)
    assert (await claim(old)).reason == "limited"
    for harness in (new, old, new, old):
        assert (await harness.claim()).reason == "limited"
    await clock.forward(61_000)
    assert len((await claim(new)).jobs) == 5


async def test_a_step_back_while_no_daemon_was_there_holds_a_limit_for_a_period_at_most(
    store: Store, clock: StoreClock
) -> None:
    await ScriptHarness(store, QueueSettings("q")).add(*(f"k{n}" for n in range(20)))
    before = ScriptHarness(store, QueueSettings("q", rate_limit=Rate(5, 60)))
    assert len((await claim(before)).jobs) == 5
    await clock.step(-3_600_000)
    after = ScriptHarness(store, QueueSettings("q", rate_limit=Rate(5, 60)))
    claimed = await claim(after)
    assert claimed.reason == "limited"
    assert claimed.wait_ms <= 61_000
    await clock.forward(claimed.wait_ms)
    assert len((await claim(after)).jobs) == 5


async def test_daemons_that_saw_different_steps_come_to_agree(store: Store, clock: StoreClock) -> None:
    """One knew the clock before the step, the other since; the first corrects it while the second is cut off."""
    first, second = (ScriptHarness(store, QueueSettings("q", rate_limit=Rate(1, 3600))) for _ in range(2))
    await first.add(*(f"k{n}" for n in range(9)))
    await claim(first)
    await clock.step(40_000)
    await claim(second)
    for step_ms in (0, 0, 3_600_000, -40_000, -3_600_000):
        await clock.step(step_ms)
        for harness in (first, second, first):
            assert (await claim(harness)).reason == "limited"
        for harness in (first, second):
            assert (await harness.claim()).reason == "limited"


@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(5, 60)))
async def test_a_slow_trip_is_no_step(
    harness: ScriptHarness, store: Store, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await claim(harness)
    command = store.command

    async def slow(*parts: str | bytes | int | float) -> object:
        if parts[0] == "EVALSHA":
            await clock.forward(900)
        return await command(*parts)

    monkeypatch.setattr(store, "command", slow)
    assert [(await harness.claim()).reason for _ in range(3)] == ["unsure", "empty", "empty"]
    monkeypatch.undo()
    assert (await harness.counters()).get("correction") is None
    assert (await harness.claim()).reason == "empty"


async def test_a_clock_is_never_put_right_to_before_what_started(
    store: Store, clock: StoreClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One daemon's first look was answered late, so it knows the clock within 20 s; the other then starts jobs."""
    unsure, sure = (ScriptHarness(store, QueueSettings("q", rate_limit=Rate(5, 60))) for _ in range(2))
    command = store.command

    async def late(*parts: str | bytes | int | float) -> object:
        answer = await command(*parts)
        if parts[0] == "EVALSHA":
            await clock.forward(20_000)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(store, "command", late)
        await unsure.claim()
    await sure.add(*(f"k{n}" for n in range(10)))
    assert len((await claim(sure)).jobs) == 5
    await clock.step(-3_600_000)
    corrected, claimed = await unsure.claim(), await unsure.claim()
    assert (corrected.reason, claimed.reason) == (CORRECTED, "limited")
    assert claimed.wait_ms <= 61_000
    await clock.forward(claimed.wait_ms)
    assert len((await claim(unsure)).jobs) == 5


@pytest.mark.queues(QueueSettings("q"))
async def test_where_nothing_is_limited_the_clock_is_nobodys_concern(
    harness: ScriptHarness, clock: StoreClock
) -> None:
    await harness.add(*(f"k{n}" for n in range(9)))
    for step_ms in STEPS_MS:
        await clock.step(step_ms)
        assert len((await harness.claim(1)).jobs) == 1
    assert "correction" not in await harness.counters()


@pytest.mark.parametrize("step_ms", STEPS_MS)
@pytest.mark.queues(QueueSettings("q"))
async def test_a_hold_lasts_as_long_as_was_asked_for(
    harness: ScriptHarness, clock: StoreClock, step_ms: int
) -> None:
    await harness.add("a")
    await harness.scripts.slow_down(10)
    await clock.step(step_ms)
    if step_ms > 10_000:  # what a step does to a time to live
        await harness.redis("DEL", harness.keys.blocked)
    claimed = await claim(harness)
    assert (claimed.reason, claimed.wait_ms) == ("blocked", 10_000)
    await clock.forward(9_999)
    assert (await claim(harness)).reason == "blocked"
    await clock.forward(1)
    assert len((await claim(harness)).jobs) == 1


@pytest.mark.parametrize("step_ms", STEPS_MS)
@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(50, 60)))
async def test_a_hold_that_is_asked_for_just_after_a_step_lasts_no_longer(
    harness: ScriptHarness, clock: StoreClock, step_ms: int
) -> None:
    await claim(harness)
    await harness.add("a")
    await clock.step(step_ms)
    await harness.scripts.slow_down(10)
    claimed = await claim(harness)
    assert claimed.reason == "blocked"
    assert 9_900 <= claimed.wait_ms <= 10_100
    await clock.forward(claimed.wait_ms)
    assert len((await claim(harness)).jobs) == 1


@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(50, 60)))
async def test_a_hold_that_is_lifted_is_over_after_a_step_too(harness: ScriptHarness, clock: StoreClock) -> None:
    await claim(harness)
    await harness.scripts.slow_down(10)
    assert (await claim(harness)).reason == "blocked"
    await harness.redis("DEL", harness.keys.blocked)
    await harness.add("a")
    assert len((await claim(harness)).jobs) == 1


@pytest.mark.parametrize("step_ms", STEPS_MS)
@pytest.mark.queues(QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 6), 1),)))
async def test_a_limit_by_key_rests_as_long_as_it_should(
    harness: ScriptHarness, clock: StoreClock, step_ms: int
) -> None:
    await harness.add("a", "b", payload={"to": "ann"})
    assert harness.keys_of(await claim(harness)) == ["a"]
    await clock.step(step_ms)
    claimed = await claim(harness)
    assert claimed.jobs == []
    assert 0 < claimed.wait_ms <= 6_061
    await clock.forward(claimed.wait_ms - 1)
    assert (await claim(harness)).jobs == []
    await clock.forward(1)
    assert harness.keys_of(await claim(harness)) == ["b"]


@pytest.mark.parametrize("step_ms", STEPS_MS)
@pytest.mark.queues(QueueSettings("q", rate_limit=Rate(5, 60)))
async def test_what_is_shown_of_a_limit_is_right_after_a_step(
    harness: ScriptHarness, clock: StoreClock, step_ms: int
) -> None:
    await harness.add(*(f"k{n}" for n in range(9)))
    await claim(harness, 3)
    await harness.scripts.slow_down(10)
    await clock.step(step_ms)
    await claim(harness)
    seen = await harness.scripts.counts()
    assert (seen.rate_left, seen.blocked_until_ms - seen.now_ms) == (2, 10_000)
