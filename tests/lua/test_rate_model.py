"""The rolling limit against a model that remembers every start, on a clock that the test sets."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmd.engine.durations import Rate
from crmd.engine.settings import QueueSettings
from crmd.engine.store.client import Store
from crmd.engine.store.limits import rate_window
from crmd.engine.store.replies import Claimed
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL
from tests.support.script_harness import Bench, ScriptHarness
from tests.support.storeclock import StoreClock

MODEL = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
LONG = settings(MODEL, max_examples=15)
BUCKETS = 100


@dataclass
class Starts:
    """Every start there was, in ms."""

    at: list[int] = field(default_factory=list)

    def add(self, now: int, count: int) -> None:
        self.at += [now] * count

    def within(self, period_ms: float, now: int) -> int:
        """How many were in the last `period_ms`, its first moment included."""
        return sum(now - at <= period_ms for at in self.at)

    def most_in_a_window(self, period_ms: float, since: int = 0) -> int:
        """The most that any window holds which begins at `since` or later; exact, whatever the window."""
        at = [start for start in self.at if start >= since]
        most = end = 0
        for first, start in enumerate(at):
            while end < len(at) and at[end] - start <= period_ms:
                end += 1
            most = max(most, end - first)
        return most


@dataclass(frozen=True)
class Step:
    """Some time passes, then one of the daemons claims."""

    forward: int | None
    """ms, or as long as the last claim said to wait."""
    want: int
    daemon: int


def steps(period_ms: int, most: int) -> st.SearchStrategy[list[Step]]:
    forward = st.one_of(
        st.none(),
        st.just(0),
        st.integers(0, max(1, period_ms // 10)),
        st.integers(0, 2 * period_ms),
        st.sampled_from([period_ms - 1, period_ms, period_ms + 1]),
    )
    return st.lists(st.builds(Step, forward, st.integers(1, most), st.integers(0, 1)), min_size=5, max_size=40)


@dataclass(frozen=True)
class Case:
    """A limit and what is tried under it."""

    rate: Rate
    steps: Sequence[Step]


def cases(counts: st.SearchStrategy[int], most: int) -> st.SearchStrategy[Case]:
    periods = st.sampled_from([50, 99, 250, 1000, 6000, 60_000, 3_600_000])
    return st.tuples(counts, periods).flatmap(
        lambda pair: st.builds(Case, st.just(Rate(pair[0], pair[1] / 1000)), steps(pair[1], most))
    )


async def play(store: Store, clock: StoreClock, case: Case) -> tuple[Starts, list[tuple[int, Step, Claimed]]]:
    """Runs a case on two daemons; what started, and each claim with its time."""
    labs = [ScriptHarness(store, QueueSettings("q", rate_limit=case.rate)) for _ in range(2)]
    await labs[0].add(*(f"k{n}" for n in range(sum(step.want for step in case.steps))))
    starts, claims, wait = Starts(), list[tuple[int, Step, Claimed]](), 0
    for step in case.steps:
        await clock.forward(max(0, wait) if step.forward is None else step.forward)
        claimed = await labs[step.daemon].claim(step.want, labs[step.daemon].token(f"daemon-{step.daemon}"))
        starts.add(clock.ms, len(claimed.jobs))
        claims.append((clock.ms, step, claimed))
        wait = claimed.wait_ms
    return starts, claims


async def top_up(harness: ScriptHarness, left: int) -> int:
    """Lets jobs always wait; says how many it added."""
    if left >= 2 * MAX_JOBS_PER_CALL:
        return 0
    return sum(await harness.add(*(uuid.uuid4().hex for _ in range(1000))))


@MODEL
@given(case=cases(st.integers(1, 50), 60))
def test_a_limit_lets_through_exactly_what_its_window_allows(workbench: Bench, case: Case) -> None:
    starts, claims = workbench.run(lambda store, clock: play(store, clock, case))
    count, period_ms = rate_window(case.rate)
    assert starts.most_in_a_window(case.rate.period_seconds * 1000) <= count
    so_far = Starts()
    for now, step, claimed in claims:
        free = count - so_far.within(period_ms, now)
        assert len(claimed.jobs) == min(step.want, free)
        so_far.add(now, len(claimed.jobs))
        if len(claimed.jobs) < step.want:
            assert (claimed.reason, claimed.wait_ms) == ("limited", so_far.at[-count] + period_ms + 1 - now)
        else:
            assert claimed.reason == "ok"


@MODEL
@given(case=cases(st.integers(1001, 3000), 500))
def test_a_large_limit_stays_on_the_safe_side_by_a_hundredth(workbench: Bench, case: Case) -> None:
    starts, claims = workbench.run(lambda store, clock: play(store, clock, case))
    count, period_ms = rate_window(case.rate)
    assert starts.most_in_a_window(case.rate.period_seconds * 1000) <= count
    so_far, grain = Starts(), period_ms / BUCKETS + 1
    for now, step, claimed in claims:
        most, least = count - so_far.within(period_ms, now), count - so_far.within(period_ms + grain, now)
        assert min(step.want, least) <= len(claimed.jobs) <= min(step.want, most)
        so_far.add(now, len(claimed.jobs))
        if len(claimed.jobs) < step.want:
            assert claimed.reason == "limited"
            assert 1 <= claimed.wait_ms <= period_ms + grain + 1


@pytest.mark.parametrize(("count", "in_a_bucket"), [(1_000, 1), (1_001, 101)])
async def test_a_window_is_over_a_moment_after_its_last_ms(
    store: Store, clock: StoreClock, count: int, in_a_bucket: int
) -> None:
    """Small limits to the ms, large ones to the end of a bucket: here the starts come in a bucket's last ms."""
    harness = ScriptHarness(store, QueueSettings("q", rate_limit=Rate(count, 10)))
    _, period_ms = rate_window(harness.scripts.settings.rate_limit)
    await clock.set(clock.ms - clock.ms % in_a_bucket + in_a_bucket - 1)
    await harness.add(*(f"k{n}" for n in range(count + 1)))
    assert sum([len(await harness.claimed(500)) for _ in range(4)]) == count
    await clock.forward(period_ms)
    claimed = await harness.claim(1)
    assert (claimed.jobs, claimed.wait_ms) == ([], 1)
    await clock.forward(1)
    assert len(await harness.claimed(1)) == 1


@dataclass(frozen=True)
class Steady:
    """A limit under jobs that always wait."""

    rate: Rate
    slots: int
    daemons: int


@LONG
@given(
    steady=st.builds(
        Steady,
        st.builds(
            Rate,
            st.one_of(st.integers(1, 50), st.sampled_from([200, 1000, 1001, 1500])),
            st.sampled_from([0.2, 1.0, 6.0, 60.0]),
        ),
        st.sampled_from([20, 50, 500]),
        st.integers(1, 2),
    )
)
def test_a_limit_is_used_where_jobs_always_wait(workbench: Bench, steady: Steady) -> None:
    async def scenario(store: Store, clock: StoreClock) -> tuple[Starts, int]:
        labs = [ScriptHarness(store, QueueSettings("q", rate_limit=steady.rate)) for _ in range(steady.daemons)]
        starts, began, added = Starts(), clock.ms, 0
        period_ms = round(steady.rate.period_seconds * 1000)
        ends = began + 10 * period_ms
        while clock.ms <= ends:
            added += await top_up(labs[0], added - len(starts.at))
            waits = []
            for harness in labs:
                claimed = await harness.claim(steady.slots)
                starts.add(clock.ms, len(claimed.jobs))
                waits.append(claimed.wait_ms if claimed.reason == "limited" else 1)
            await clock.forward(max(1, min(waits)))
        return starts, ends - began

    starts, lasted_ms = workbench.run(scenario)
    period_ms = steady.rate.period_seconds * 1000
    assert starts.most_in_a_window(period_ms) <= steady.rate.count
    # Slots that are fewer than the limit take a while of 1 ms each to use it up: that is the claimers' part.
    by_slots = (lasted_ms + 1) * steady.slots * steady.daemons
    windows = lasted_ms / (period_ms * 1.02 + 1)
    assert len(starts.at) >= min(by_slots, steady.rate.count * windows - 1)


@LONG
@given(
    counts=st.lists(
        st.tuples(st.one_of(st.integers(1, 50), st.integers(900, 1200)), st.sampled_from([200, 1000, 7000])),
        min_size=2,
        max_size=4,
    ),
    slots=st.sampled_from([50, 500]),
)
def test_a_changed_limit_holds_at_once_and_is_used(
    workbench: Bench, counts: list[tuple[int, int]], slots: int
) -> None:
    """Up, down, to another period, and between small and large ones, by override and by its end."""
    rates = [Rate(count, period_ms / 1000) for count, period_ms in counts]

    async def scenario(store: Store, clock: StoreClock) -> None:
        harness = ScriptHarness(store, QueueSettings("q", rate_limit=rates[0]))
        starts, added = Starts(), 0
        for turn, rate in enumerate([*rates[1:], rates[0]]):
            if turn < len(rates) - 1:
                count, window_ms = rate_window(rate)
                await harness.redis("HSET", harness.keys.override, "count", count, "period_ms", window_ms)
            else:
                await harness.redis("DEL", harness.keys.override)
            changed, period_ms = clock.ms, round(rate.period_seconds * 1000)
            # What started before may hold the new limit back for one of its windows, not longer.
            while clock.ms <= changed + 4 * period_ms:
                added += await top_up(harness, added - len(starts.at))
                claimed = await harness.claim(slots)
                starts.add(clock.ms, len(claimed.jobs))
                await clock.forward(claimed.wait_ms if claimed.reason == "limited" else 1)
            assert starts.most_in_a_window(period_ms, since=changed) <= rate.count
            used = [at for at in starts.at if at >= changed]
            assert len(used) >= min(2 * period_ms * slots, rate.count * 2), f"limit {rate} after {changed}"

    workbench.run(scenario)
