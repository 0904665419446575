"""The shared rate of sends against both ways in which Meta may count, in virtual time."""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from crmd.crm.whatsapp.send_rate import SendRate
from crmd.engine.store.client import Store
from crmd.sandbox.limits import BucketRule, Throughput, ThroughputRule
from tests.support.script_harness import Bench
from tests.support.storeclock import StoreClock

LATENCY = (0.002, 0.012)
"""Seconds from the start of a request to its arrival."""
ANSWER = 0.05
"""Seconds from the start of a request to its answer."""
WEBHOOK = (0.005, 0.03)
"""Seconds from a message's arrival at Meta to ours."""
LEAD = 0.005


@dataclass
class Play:
    """Daemons that always have messages to send, people who write, and the service between them."""

    rate: SendRate
    clock: StoreClock
    rule: Throughput
    seconds: float
    daemons: int = 2
    people_per_second: float = 0.0
    deaths: tuple[float, ...] = ()
    dice: random.Random = field(default_factory=lambda: random.Random(7))
    seen: Counter[str] = field(default_factory=Counter)
    refusals: list[float] = field(default_factory=list)
    """When they were."""

    async def run(self) -> None:
        """Plays it all."""
        self._agenda: list[tuple[float, int, str, float]] = []
        self._number = 0
        self._started_ms = self.clock.ms
        for daemon in range(self.daemons):
            self._at(daemon * 0.003, "ask")
        for at in self.deaths:
            self._at(at, "death")
        if self.people_per_second:
            self._at(self._next_person(0.0), "person")
        self._skipped = 0
        while self._agenda:
            at, _, what, since = heapq.heappop(self._agenda)
            if at > self.seconds:
                break
            await self._do(at, what, since)

    @property
    def used(self) -> float:
        """Share of the service's rate that was used, both ways."""
        return (self.seen["accepted"] + self.seen["person"]) / self.seconds / 80

    async def _do(self, at: float, what: str, since: float) -> None:
        await self.clock.set(self._started_ms + int(at * 1000))
        match what:
            case "ask":
                await self._ask(at)
            case "arrival":
                self._arrive(at, since)
            case "refusal":
                await self.rate.refused(at - since)
            case "person":
                self.rule.count(at)
                self.seen["person"] += 1
                self._at(at + self.dice.uniform(*WEBHOOK), "webhook")
                self._at(self._next_person(at), "person")
            case "webhook":
                await self.rate.received(1)
            case "death":
                self._skipped += 1

    async def _ask(self, at: float) -> None:
        slots = await self.rate.take(20)
        died, self._skipped = bool(self._skipped), 0  # a daemon that was given slots died with them
        for n in range(0 if died else slots.count):
            start = max(at, at + slots.first_seconds + n * slots.between_seconds)
            self._at(start + self.dice.uniform(*LATENCY), "arrival", start)
        last = slots.first_seconds + max(0, slots.count - 1) * slots.between_seconds
        self._at(at + max(0.002, last - LEAD), "ask")

    def _arrive(self, at: float, since: float) -> None:
        if self.rule.admits(at):
            self.rule.count(at)
            self.seen["accepted"] += 1
        else:
            self.seen["refused"] += 1
            self.refusals.append(at)
            self._at(since + ANSWER, "refusal", since)

    def _next_person(self, at: float) -> float:
        return at + self.dice.expovariate(self.people_per_second)

    def _at(self, at: float, what: str, since: float = 0.0) -> None:
        self._number += 1
        heapq.heappush(self._agenda, (at, self._number, what, since))


RULES: dict[str, Callable[[], Throughput]] = {
    "window": lambda: ThroughputRule(80),
    "bucket": lambda: BucketRule(80, 80),
    "small bucket": lambda: BucketRule(80, 8),
}


def check(workbench: Bench, rule: str, people: int, seconds: float, seed: int = 7) -> None:
    """Nine tenths are used, and one in a thousand is refused, while three daemons die."""

    async def scenario(store: Store, clock: StoreClock) -> None:
        play = Play(
            *(SendRate(store, "1", 80.0), clock, RULES[rule](), seconds),
            people_per_second=people,
            deaths=(seconds / 4, seconds / 2, seconds * 3 / 4),
            dice=random.Random(seed),
        )
        await play.run()
        assert play.seen["refused"] <= max(1, play.seen["accepted"] / 1000), play.seen
        assert play.used >= 0.9, (play.used, play.seen)

    workbench.run(scenario)


@pytest.mark.parametrize("rule", ["window", "small bucket"])
def test_nine_tenths_are_used_and_one_in_a_thousand_is_refused(workbench: Bench, rule: str) -> None:
    check(workbench, rule, 20, 12.0)


@pytest.mark.faults
@pytest.mark.parametrize("people", [0, 5, 20])
@pytest.mark.parametrize("rule", RULES)
def test_the_same_for_longer(workbench: Bench, rule: str, people: int) -> None:
    for seed in range(3):
        check(workbench, rule, people, 60.0, seed)


@pytest.mark.faults
def test_a_limit_that_is_lower_than_configured_is_used_too(workbench: Bench) -> None:
    async def scenario(store: Store, clock: StoreClock) -> None:
        play = Play(SendRate(store, "1", 80.0), clock, ThroughputRule(20), 30.0)
        await play.run()
        found = [at for at in play.refusals if at > 15]
        assert len(found) <= play.seen["accepted"] / 50, (found, play.seen)
        assert play.used >= 0.85 * 20 / 80, (play.used, play.seen)

    workbench.run(scenario)
