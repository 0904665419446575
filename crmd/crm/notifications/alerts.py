"""crmd's own alerts: a queue is stalled, jobs fail, the store is unavailable."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from crmd.component import Periodic
from crmd.config.tables import AlertsTable
from crmd.crm.notifications.payloads import Notify
from crmd.engine.admin.control import Control
from crmd.engine.admin.queue_health import QueueObservation, observe
from crmd.engine.admin.views import NewJob, QueueTotals
from crmd.engine.durations import format_duration
from crmd.engine.store import keys
from crmd.engine.store.scripts import see_alert
from crmd.errors import StoreUnavailable

EVERY_S = 5.0
FORGOTTEN_AFTER_MS = 900_000
"""An alert that no daemon has seen for this long is no longer known; if it still lasts it is a new one."""
QUEUE = "notification"
"""Where notifications go; what is wrong with this queue itself goes to the log."""
TITLE = "crmd"

_log = logging.getLogger("crmd")


class Alerts(Periodic):
    """Raises alerts. Daemons on one store raise each one once: they agree through keys in the store."""

    def __init__(
        self, control: Control, table: AlertsTable, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__("alerts", EVERY_S, _log)
        self._control = control
        self._store = control.store
        self._table = table
        self._monotonic = monotonic
        self._rules = AlertRules(table)
        self._reported: dict[str, tuple[int, int]] = {}
        """By alert: since when it lasts (ms), and how often it was told again."""
        self._away_since: float | None = None
        self._away_told_at: float | None = None

    def configure(self, table: AlertsTable) -> None:
        """Applies other settings."""
        self._table = self._rules.table = table

    async def run_once(self) -> None:
        """Applies the rules once. Raises StoreError if the store answers with a refusal."""
        if not self._store.serves:
            self._while_away()
            return
        try:
            await self._after_away()
            queues = await observe(self._control.inspector)
            now_ms = await self._now_ms()
            findings = self._rules.apply(queues, self._monotonic(), now_ms / 1000)
            await asyncio.gather(*(self._handle(finding, now_ms) for finding in findings))
        except StoreUnavailable:
            self._while_away()

    # The queues

    async def _handle(self, finding: Finding, now_ms: int) -> None:
        name = f"{finding.kind}:{finding.queue}"
        if finding.wrong:
            await self._tell(name, finding, now_ms)
        elif finding.wrong is False:
            await self._tell_over(name, finding)

    async def _tell(self, name: str, finding: Finding, now_ms: int) -> None:
        """Tells an alert at its beginning, and each time that `repeat` has passed since then."""
        since_ms = await see_alert(self._store, finding.kind, finding.queue, now_ms, FORGOTTEN_AFTER_MS)
        repeats = max(0, now_ms - since_ms) // round(self._table.repeat * 1000)
        if self._reported.get(name) == (since_ms, repeats):
            return
        lasts = f", for {about((now_ms - since_ms) / 1000)} now" if repeats else ""
        if await self._notify(
            f"{name}:{since_ms}:{repeats}", finding.queue, f"queue {finding.queue}: {finding.text}{lasts}"
        ):
            self._store.events.emit("alert.raised", kind=finding.kind, queue=finding.queue)
        self._reported[name] = (since_ms, repeats)

    async def _tell_over(self, name: str, finding: Finding) -> None:
        key = keys.alert(finding.kind, finding.queue)
        since = await self._store.command("GET", key)
        self._reported.pop(name, None)
        if since is None:
            return
        over = {"oldest_waiting": "its jobs start again", "failure_share": "its jobs no longer fail"}[finding.kind]
        if await self._notify(f"{name}:{int(since)}:over", finding.queue, f"queue {finding.queue}: {over}"):
            self._store.events.emit("alert.over", kind=finding.kind, queue=finding.queue)
        # Only now: a daemon that dies before leaves it to the others.
        await self._store.command("DEL", key)

    async def _notify(self, key: str, about_queue: str, text: str, unique_for: float | None = None) -> bool:
        """Adds a notification under a key that all daemons share; False where another daemon has."""
        if about_queue == QUEUE:
            _log.error("%s: %s", TITLE, text)
            return True
        payload = Notify(title=TITLE, message=text, level="error", channel=self._table.channel)
        new = NewJob(
            "notify",
            payload.model_dump(mode="json"),
            key=f"alert:{key}",
            unique_for=unique_for or self._table.repeat,
        )
        [added] = await self._control.enqueue(QUEUE, [new])
        return added.created

    async def _now_ms(self) -> int:
        seconds, micros = await self._store.command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    # The store

    def _while_away(self) -> None:
        """To the log: there is nowhere else to put it."""
        now, limit = self._monotonic(), self._table.store_away
        if self._away_since is None:
            self._away_since = now
            self._rules.forget()
        told = self._away_told_at
        if (
            limit is None
            or now - self._away_since < limit
            or (told is not None and now - told < self._table.repeat)
        ):
            return
        self._away_told_at = now
        _log.error(
            "%s: the store has been unavailable for %s: %s",
            TITLE,
            about(now - self._away_since),
            self._store.trouble,
        )

    async def _after_away(self) -> None:
        """Tells of an outage that is over, if it was long."""
        since, limit = self._away_since, self._table.store_away
        if since is None:
            return
        seconds = self._monotonic() - since
        if limit is not None and seconds >= limit:
            # All daemons saw the same outage, and come back within a few seconds.
            text = f"the store was unavailable for {about(seconds)}; it is back"
            await self._notify("store", "", text, unique_for=max(60.0, limit))
        self._away_since = self._away_told_at = None


# The rules by which a queue deserves an alert. Pure: observations and times are passed in


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
