"""What crmd has to reach. Ratios compare the rounds of one run, one by one."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from bench.model import Rounds


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of the list of bars."""

    text: str
    measure: str
    subject: str
    figure: str
    limit: float
    against: str = ""
    """The subject that it is a multiple of; empty: the figure itself is meant."""
    at_most: bool = False
    aim: float | None = None
    """What is hoped for beyond the limit."""


@dataclass(frozen=True, slots=True)
class MeasuredBar:
    """A bar and what was measured for it."""

    bar: Bar
    value: float
    """Median of the rounds."""
    least: float
    most: float

    @property
    def met(self) -> bool:
        """Whether the median keeps the limit."""
        return self.value <= self.bar.limit if self.bar.at_most else self.value >= self.bar.limit


BARS = (
    Bar("processing, concurrency 100, x bull", "process100", "crmd", "rate", 2.0, "bull", aim=3.0),
    Bar("processing, concurrency 100, x stock SAQ", "process100", "crmd", "rate", 18.0, "saq"),
    Bar("processing, concurrency 10, x bull", "process10", "crmd", "rate", 1.5, "bull", aim=2.0),
    Bar("processing, concurrency 10, x stock SAQ", "process10", "crmd", "rate", 10.0, "saq"),
    Bar("ten queues, x one at concurrency 100", "variants", "crmd, ten queues", "rate", 0.8, "crmd, one queue"),
    Bar("adding in bulk, x bull's addBulk", "bulk", "crmd", "rate", 3.0, "bull"),
    Bar("adding one by one, x bull's add", "add", "crmd", "rate", 1.0, "bull"),
    Bar("pickup p99, x bull's", "pickup", "crmd", "p99_ms", 1.0, "bull", at_most=True),
    Bar(
        "pickup p99, plain SAQ producer, x bull's",
        *("pickup", "crmd, plain SAQ producer", "p99_ms", 1.0, "bull"),
        at_most=True,
    ),
    Bar("store CPU per job, c100, x bull's", "process100", "crmd", "store_us", 0.5, "bull", at_most=True),
    Bar("store CPU per job, c10, x bull's", "process10", "crmd", "store_us", 0.5, "bull", at_most=True),
    Bar("idle: round trips a second", "idle", "crmd", "trips", 5.0, at_most=True),
    Bar("idle: connections", "idle", "crmd", "connections", 15.0, at_most=True),
    Bar("idle: CPU %", "idle", "crmd", "cpu_percent", 0.5, at_most=True),
    Bar("idle: resident MiB", "idle", "crmd", "resident_mib", 80.0, at_most=True),
    Bar(
        "restart, embedded store, 100,000 waiting: s",
        *("memory", "crmd, embedded store, again with 100,000 waiting", "ready_s", 2.0),
        at_most=True,
    ),
    Bar(
        "rate limit that is never reached, x without",
        "variants",
        "crmd, rate limit",
        "rate",
        0.9,
        "crmd, one queue",
    ),
    Bar("1,000,000 waiting, x 10,000", "growth", "1,000,000 waiting", "rate", 0.9, "10,000 waiting"),
    Bar("100,000 delayed, x 10,000 waiting", "growth", "100,000 delayed", "rate", 0.9, "10,000 waiting"),
    Bar(
        "100,000 due at once, x added at once",
        *("growth", "100,000 due at once", "rate", 0.9, "100,000 added at once"),
    ),
    *(
        Bar(f"longest script ms, {subject}", "growth", subject, "script_ms", 20.0, at_most=True)
        for subject in ("1,000,000 waiting", "100,000 delayed", "100,000 due at once")
    ),
)


def measured_bars(rounds: Mapping[str, Rounds]) -> list[MeasuredBar]:
    """The bars for which everything was measured."""
    return [measured for bar in BARS if (measured := _measured(bar, rounds.get(bar.measure, {})))]


def _measured(bar: Bar, rounds: Rounds) -> MeasuredBar | None:
    if bar.subject not in rounds or (bar.against and bar.against not in rounds):
        return None
    values = [figures[bar.figure] for figures in rounds[bar.subject]]
    if bar.against:
        others = [figures[bar.figure] for figures in rounds[bar.against]]
        values = [value / other for value, other in zip(values, others, strict=True)]
    return MeasuredBar(bar, statistics.median(values), min(values), max(values))
