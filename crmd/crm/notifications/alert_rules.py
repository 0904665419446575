"""The rules by which a queue deserves an alert. Pure: observations and times are passed in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from crmd.config.tables import AlertsTable
from crmd.engine.admin.queue_health import QueueObservation
from crmd.engine.admin.views import QueueTotals
from crmd.engine.durations import format_duration

FAILURES_WITHIN_S = 300.0
FEWEST_JOBS = 20
"""Below this a share of failures means nothing."""
STEADY_OBSERVATIONS = 3
"""This many in a row must agree: a limited queue is free for a moment now and then."""

Kind = Literal["oldest_waiting", "failure_share"]
KINDS: tuple[Kind, ...] = ("oldest_waiting", "failure_share")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule says about one queue."""

    kind: Kind
    queue: str
    wrong: bool | None
    """None if it is unknown, or not steady yet."""
    text: str


@dataclass(slots=True)
class _Steady:
    """How often in a row a rule has said the same."""

    wrong: bool | None = None
    count: int = 0

    def see(self, wrong: bool | None) -> bool | None:
        self.count = self.count + 1 if wrong == self.wrong else 1
        self.wrong = wrong
        return wrong if self.count >= STEADY_OBSERVATIONS else None


class AlertRules:
    """Applies the rules; remembers the counts of the last five minutes, and how steady each finding is."""

    def __init__(self, table: AlertsTable) -> None:
        self.table = table
        self._past: deque[tuple[float, Mapping[str, QueueTotals]]] = deque()
        self._steady: dict[tuple[Kind, str], _Steady] = {}

    def apply(self, queues: Mapping[str, QueueObservation], at: float, now: float) -> list[Finding]:
        """What all rules say about all queues; `at` is on the monotonic clock, `now` in epoch seconds."""
        self._past.append((at, {name: seen.totals for name, seen in queues.items()}))
        while len(self._past) > 1 and self._past[1][0] <= at - FAILURES_WITHIN_S:
            self._past.popleft()
        found = []
        for name, seen in queues.items():
            found += [self._oldest(name, seen, now), self._failures(name, seen.totals, at)]
        return found

    def forget(self) -> None:
        """Starts over, as the store was unavailable."""
        self._past.clear()
        self._steady.clear()

    def _oldest(self, name: str, seen: QueueObservation, now: float) -> Finding:
        limit, age = self.table.oldest_waiting, seen.counts.oldest_waiting_seconds or 0.0
        held = seen.counts.rate_left == 0 or not seen.may_start_jobs(now)
        wrong = limit is not None and age > limit and not held
        text = f"a job has waited for {about(age)}, and nothing holds the queue"
        return self._finding("oldest_waiting", name, wrong, text)

    def _failures(self, name: str, totals: QueueTotals, at: float) -> Finding:
        began, past = self._past[0]
        before = past.get(name, totals)
        failed, completed = totals.failed - before.failed, totals.completed - before.completed
        ended = failed + completed
        wrong: bool | None
        if ended >= FEWEST_JOBS and failed >= 0 and completed >= 0:
            wrong = self.table.failure_share < 1 and failed / ended >= self.table.failure_share
        else:
            # Too few jobs: fine, once they are those of the whole time.
            wrong = False if at - began >= FAILURES_WITHIN_S else None
        share = failed / ended if ended > 0 else 0
        text = f"{share:.0%} of {ended:,} jobs failed within {about(max(1.0, at - began))}"
        return self._finding("failure_share", name, wrong, text)

    def _finding(self, kind: Kind, queue: str, wrong: bool | None, text: str) -> Finding:
        steady = self._steady.setdefault((kind, queue), _Steady())
        return Finding(kind, queue, steady.see(wrong), text)


def about(seconds: float) -> str:
    """A duration for people: whole minutes if it is long."""
    return format_duration(float(seconds // 60 * 60 if seconds >= 120 else round(seconds)))
