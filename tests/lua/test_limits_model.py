"""Keyed limits against a model of their own making: a burst is debt, for each value of the field."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings
from crmd.engine.store.client import Store
from crmd.engine.store.replies import AckKind
from tests.support.script_harness import Bench, ScriptHarness, document
from tests.support.storeclock import StoreClock

MODEL = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Debt:
    """The starts of one value, and what they owe."""

    limit: KeyedLimit
    at: list[int] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """What one start costs, in ms: a hundredth more than is written, at most a quarter of a second more."""
        written = self.limit.period_seconds * 1000
        return min(written * 1.01, written + 250)

    def may_start(self, now: int) -> bool:
        """Whether one more may start now."""
        burst: list[int] = []
        for at in self.at:
            if burst and at >= burst[0] + len(burst) * self.cost:
                burst = []
            burst.append(at)
        if not burst or now >= burst[0] + len(burst) * self.cost:
            return True
        over_at = burst[-1] + 0.8 * self.limit.period_seconds * 1000
        owed = burst[0] + len(burst) * self.cost - over_at
        return len(burst) < self.limit.burst and (now <= over_at or owed <= self.limit.burst // 10 * self.cost)

    def check(self) -> None:
        """No stretch of time holds more than a burst and what the time pays for."""
        written = self.limit.period_seconds * 1000
        for i, first in enumerate(self.at):
            for j in range(i, len(self.at)):
                assert j - i + 1 <= self.limit.burst + (self.at[j] - first) / written


@dataclass(frozen=True)
class Add:
    """Jobs for one recipient arrive; None has no limited field."""

    to: str | None
    count: int


@dataclass(frozen=True)
class Wait:
    """Time passes: ms, or until the last claim said that a start may be possible."""

    ms: int | None


@dataclass(frozen=True)
class End:
    """The running job that is `nth` ends in some way."""

    nth: int
    kind: AckKind


@dataclass(frozen=True)
class Claim:
    """A daemon claims."""

    slots: int


Step = Add | Wait | End | Claim

LIMITS = st.builds(
    KeyedLimit,
    st.just("to"),
    st.sampled_from([Rate(1, 6), Rate(1, 1), Rate(7, 60), Rate(10, 1), Rate(3, 0.5)]),
    st.integers(1, 20),
)
ADD = st.builds(Add, st.sampled_from(["ann", "bob", "cid", None]), st.integers(1, 25))
WAIT = st.builds(
    Wait, st.one_of(st.none(), st.sampled_from([0, 1, 100, 857, 1010, 4800, 6060]), st.integers(0, 90_000))
)
END = st.builds(End, st.integers(0, 50), st.sampled_from([AckKind.COMPLETE, AckKind.RETRY, AckKind.RETURN]))


class Model:
    """What should wait where, and what should start."""

    def __init__(self, limit: KeyedLimit) -> None:
        self.debts: dict[str, Debt] = defaultdict(lambda: Debt(limit))
        self.parked: dict[str, deque[str]] = defaultdict(deque)
        self.lane: deque[str] = deque()
        self.to: dict[str, str | None] = {}

    def claim(self, now: int) -> set[str]:
        """What a claim with slots for all starts."""
        started = set()
        for name, waiting in self.parked.items():
            while waiting and self.debts[name].may_start(now):
                started.add(self._start(waiting.popleft(), now))
        while self.lane:
            key = self.lane.popleft()
            to = self.to[key]
            if to is None or (not self.parked[to] and self.debts[to].may_start(now)):
                started.add(self._start(key, now))
            else:
                self.parked[to].append(key)
        return started

    def _start(self, key: str, now: int) -> str:
        to = self.to[key]
        if to is not None:
            self.debts[to].at.append(now)
        return key


class Play:
    """Plays steps on the store."""

    def __init__(self, store: Store, clock: StoreClock, *limits: KeyedLimit) -> None:
        self.harness = ScriptHarness(store, QueueSettings("q", limits=limits, keep_min_seconds=0))
        self.clock = clock
        self.payloads: dict[str, dict[str, Any]] = {}
        self.running: dict[str, str] = {}
        self.wait_ms, self.reason = -1, ""

    async def add(self, count: int, payload: dict[str, Any]) -> list[str]:
        """Adds jobs; says their keys."""
        keys = [f"k{len(self.payloads) + n}" for n in range(count)]
        await self.harness.add(*keys, payload=payload)
        self.payloads |= dict.fromkeys(keys, payload)
        return keys

    async def wait(self, step: Wait) -> None:
        """Lets time pass."""
        await self.clock.forward(max(0, self.wait_ms) if step.ms is None else step.ms)

    async def claim(self, slots: int) -> list[str]:
        """One claim; says what started."""
        token = self.harness.token()
        claimed = await self.harness.claim(slots, token)
        self.wait_ms, self.reason = claimed.wait_ms, claimed.reason
        started = self.harness.keys_of(claimed)
        self.running |= dict.fromkeys(started, token)
        return started

    async def end(self, step: End) -> tuple[str, AckKind] | None:
        """Settles one running job."""
        if not self.running:
            return None
        key = sorted(self.running)[step.nth % len(self.running)]
        stored = document("q", key, self.payloads[key], status=step.kind.status)
        assert await self.harness.settle(key, self.running.pop(key), step.kind, document=stored) == "done"
        return key, step.kind

    async def all_end(self, slots: int) -> set[str]:
        """Everything that still waits or runs completes; says what started."""
        started = set()
        for _ in range(10_000):
            new = await self.claim(slots)
            started |= set(new)
            while self.running:
                await self.end(End(0, AckKind.COMPLETE))
            counts = await self.harness.scripts.counts()
            if not counts.waiting:
                break
            await self.clock.forward(max(1, self.wait_ms))
        assert await self.harness.redis("ZCARD", self.harness.keys.incomplete) == 0
        assert await self.harness.redis("EXISTS", self.harness.keys.parked, self.harness.keys.queued) == 0
        return started


@MODEL
@given(limit=LIMITS, steps=st.lists(st.one_of(ADD, WAIT, END, st.just(Claim(500))), min_size=5, max_size=40))
def test_with_slots_for_all_exactly_what_is_free_starts(
    workbench: Bench, limit: KeyedLimit, steps: Sequence[Step]
) -> None:
    async def scenario(store: Store, clock: StoreClock) -> None:
        play, model = Play(store, clock, limit), Model(limit)
        for step in steps:
            match step:
                case Add():
                    keys = await play.add(step.count, {} if step.to is None else {"to": step.to})
                    model.to |= dict.fromkeys(keys, step.to)
                    model.lane += keys
                case Wait():
                    await play.wait(step)
                case End():
                    if (ended := await play.end(step)) and ended[1] is AckKind.RETRY:
                        model.lane.append(ended[0])
                    elif ended and ended[1] is AckKind.RETURN:
                        model.lane.appendleft(ended[0])
                case Claim():
                    assert set(await play.claim(step.slots)) == model.claim(clock.ms)
                    waiting = sum(map(len, model.parked.values()))
                    assert (await play.harness.scripts.counts()).waiting == waiting
        for debt in model.debts.values():
            debt.check()
        await play.all_end(500)

    workbench.run(scenario)


@MODEL
@given(
    limit=LIMITS,
    steps=st.lists(st.one_of(ADD, WAIT, st.builds(Claim, st.integers(1, 12))), min_size=5, max_size=40),
)
def test_with_few_slots_limits_hold_and_each_key_keeps_its_order(
    workbench: Bench, limit: KeyedLimit, steps: Sequence[Step]
) -> None:
    async def scenario(store: Store, clock: StoreClock) -> None:
        play, order = Play(store, clock, limit), defaultdict[str | None, list[str]](list)
        debts: dict[str, Debt] = defaultdict(lambda: Debt(limit))
        added: dict[str | None, list[str]] = defaultdict(list)
        for step in [*steps, *[Wait(None), Claim(12)] * 20]:
            match step:
                case Add():
                    added[step.to] += await play.add(step.count, {} if step.to is None else {"to": step.to})
                case Wait():
                    await play.wait(step)
                case Claim():
                    started = await play.claim(step.slots)
                    assert len(started) <= step.slots
                    for key in started:
                        to = play.payloads[key].get("to")
                        order[to].append(key)
                        if to is not None:
                            assert debts[to].may_start(clock.ms)
                            debts[to].at.append(clock.ms)
                    assert len(started) == step.slots or play.reason in ("ok", "empty")
                    if play.reason == "empty":  # else it looked at as many as one claim may, and wants another
                        for to, keys in added.items():
                            left = len(keys) - len(order[to])
                            assert not left or (to is not None and not debts[to].may_start(clock.ms)), to
        for to, keys in added.items():
            assert order[to] == keys[: len(order[to])]
        await play.all_end(12)

    workbench.run(scenario)


@MODEL
@given(
    jobs=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz")), min_size=1, max_size=30),
    bursts=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    slots=st.sampled_from([2, 50]),
)
def test_under_several_limits_each_holds_and_every_job_starts(
    workbench: Bench, jobs: list[tuple[str, str]], bursts: tuple[int, int], slots: int
) -> None:
    limits = (KeyedLimit("to", Rate(1, 6), bursts[0]), KeyedLimit("campaign", Rate(1, 1), bursts[1]))

    async def scenario(store: Store, clock: StoreClock) -> None:
        play = Play(store, clock, *limits)
        debts: dict[tuple[str, str], Debt] = {}
        for to, campaign in jobs:
            await play.add(1, {"to": to, "campaign": campaign})
        left = len(jobs)
        for _ in range(1000):
            for key in await play.claim(slots):
                left -= 1
                for limit in limits:
                    value = play.payloads[key][limit.by]
                    debt = debts.setdefault((limit.by, value), Debt(limit))
                    assert debt.may_start(clock.ms)
                    debt.at.append(clock.ms)
            if not left:
                break
            await clock.forward(max(1, play.wait_ms))
        assert left == 0
        for debt in debts.values():
            debt.check()
        await play.all_end(slots)

    workbench.run(scenario)
