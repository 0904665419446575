"""The health of the queues: one rule for stalled queues, used by `/health`, alerts and pages."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.stats import counts_of, totals_of
from crmd.engine.admin.views import DaemonInfo, QueueCounts, QueueMetrics, QueueTotals
from crmd.engine.durations import format_duration
from crmd.engine.settings import QueueSettings
from crmd.engine.single_flight import SingleFlight
from crmd.errors import StoreError, StoreUnavailable

T = TypeVar("T")

WAIT_SECONDS = 2.0
"""How long health, metrics and summaries wait for the store."""
FRESH_SECONDS = 1.0
METRICS_FRESH_SECONDS = 5.0
"""Percentiles read up to a hundred jobs of each queue."""


@dataclass(frozen=True, slots=True)
class QueueObservation:
    """One queue at one moment."""

    counts: QueueCounts
    totals: QueueTotals
    has_unparked: bool
    """Whether any waiting job is not parked behind a keyed limit."""

    def may_start_jobs(self, now: float) -> bool:
        """Whether jobs wait that nothing holds back, except perhaps a spent rate; `now` in epoch seconds."""
        counts = self.counts
        blocked = (counts.blocked_until or 0) > now
        return counts.waiting > 0 and not counts.paused and not blocked and self.has_unparked


class QueueStatus(StrEnum):
    """The health of one queue or of all."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The queues at one moment, and what is wrong with them. Without the store only `error` is set."""

    queues: Mapping[str, QueueObservation] = field(default_factory=dict)
    stalls: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs wait and do not start, and for how long."""
    degraded: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs this daemon cannot run now, and why."""
    error: str | None = None
    refusal: str | None = None
    """Why the store answers but refuses writes, so that no job can be added or started."""

    @property
    def connected(self) -> bool:
        """Whether the store answered."""
        return self.error is None

    def status_of(self, queue: str) -> QueueStatus:
        """The health of one queue."""
        if queue in self.stalls:
            return QueueStatus.UNHEALTHY
        degraded = queue in self.degraded or self.queues[queue].counts.paused
        return QueueStatus.DEGRADED if degraded else QueueStatus.HEALTHY

    @property
    def status(self) -> QueueStatus:
        """The health of all queues: that of the worst one."""
        found = {self.status_of(queue) for queue in self.queues}
        if self.error or self.refusal or QueueStatus.UNHEALTHY in found:
            return QueueStatus.UNHEALTHY
        return QueueStatus.DEGRADED if QueueStatus.DEGRADED in found else QueueStatus.HEALTHY


class QueueHealth:
    """Observes the queues for health, metrics and pages. Concurrent callers share one read of the store.

    `run_elsewhere` returns the queues whose jobs only other daemons run; `degraded` those whose jobs this daemon
    cannot run now, and why; `uptime_seconds` the age of this daemon. All methods but `report` raise
    StoreUnavailable.
    """

    def __init__(
        self,
        inspector: Inspector,
        *,
        run_elsewhere: Callable[[], Collection[str]],
        degraded: Callable[[], Mapping[str, str]],
        uptime_seconds: Callable[[], float],
    ) -> None:
        self._inspector = inspector
        self._run_elsewhere = run_elsewhere
        self._degraded = degraded
        self._uptime_seconds = uptime_seconds
        self._observations = Cached(lambda: observe(inspector), max_age_seconds=FRESH_SECONDS)
        self._metrics = Cached(inspector.metrics, max_age_seconds=METRICS_FRESH_SECONDS)
        self._daemons = Cached(inspector.daemons, max_age_seconds=FRESH_SECONDS)

    async def stop(self) -> None:
        """Cancels reads in progress."""
        for cached in (self._observations, self._metrics, self._daemons):
            await cached.stop()

    def forget(self) -> None:
        """Drops cached answers, as something was changed."""
        self._observations.forget()
        self._metrics.forget()

    async def report(self) -> HealthReport:
        """The queues and what is wrong with them; never raises for a store that is unavailable."""
        try:
            queues = await self.observations()
        except StoreError as error:
            return HealthReport(error=str(error))
        stalls = {name: stall for name, seen in queues.items() if (stall := self._stall(name, seen))}
        return HealthReport(queues, stalls, self._degraded(), refusal=self._inspector.store.refusal)

    async def observations(self) -> Mapping[str, QueueObservation]:
        """Every queue, at most a second old."""
        self._require_store()
        return await self._observations.get()

    async def metrics(self) -> Mapping[str, QueueMetrics]:
        """Rates and times of every queue, at most five seconds old."""
        self._require_store()
        return await self._metrics.get()

    async def daemons(self) -> list[DaemonInfo]:
        """The live daemons, at most a second old."""
        self._require_store()
        return await self._daemons.get()

    def _require_store(self) -> None:
        store = self._inspector.store
        if not store.connected:
            raise StoreUnavailable(f"the store is unavailable: {store.trouble}")

    def _stall(self, name: str, seen: QueueObservation) -> str | None:
        settings = self._inspector.settings.get(name)
        if settings is None or name in self._run_elsewhere():
            return None
        return stall(seen, settings, time.time(), self._uptime_seconds())


async def observe(inspector: Inspector) -> dict[str, QueueObservation]:
    """Reads every queue from the store. Raises StoreError."""
    names = list(inspector.settings)
    raw = await asyncio.gather(*(inspector.scripts[name].counts() for name in names))
    counts = [counts_of(one, inspector.settings[name]) for name, one in zip(names, raw, strict=True)]
    unparked = await asyncio.gather(*(_has_unparked(inspector, one) for one in counts))
    return {
        name: QueueObservation(one, totals_of(name, of_store), free)
        for name, of_store, one, free in zip(names, raw, counts, unparked, strict=True)
    }


def stall(seen: QueueObservation, settings: QueueSettings, now: float, uptime_seconds: float) -> str | None:
    """Why a queue is stalled at `now` (epoch seconds); None if it is not."""
    if not seen.may_start_jobs(now):
        return None
    counts = seen.counts
    idle = _idle_seconds(counts, uptime_seconds, now)
    if idle < _allowed_seconds(counts, settings):
        return None
    return f"{counts.waiting} jobs of {counts.name} wait and none has started for {format_duration(int(idle))}"


async def _has_unparked(inspector: Inspector, counts: QueueCounts) -> bool:
    if not counts.waiting or not inspector.settings[counts.name].limits:
        return counts.waiting > 0
    k = inspector.scripts[counts.name].keys
    lengths = (("LLEN", k.queued), ("ZCARD", k.priority), ("LLEN", k.suspects))
    return any(await asyncio.gather(*(inspector.store.command(*length) for length in lengths)))


def _allowed_seconds(counts: QueueCounts, settings: QueueSettings) -> float:
    """How long a queue may start nothing: a spent rate excuses one period, full slots the jobs' timeout."""
    allowed = settings.stall_after_seconds
    if counts.rate_left == 0:
        allowed += counts.rate_period_seconds
    if counts.active >= settings.concurrency:
        allowed += float("inf") if settings.timeout_seconds is None else settings.timeout_seconds
    return allowed


def _idle_seconds(counts: QueueCounts, uptime_seconds: float, now: float) -> float:
    """Seconds during which jobs waited, this daemon was up, and nothing started."""
    since_start = now - counts.last_start_at if counts.last_start_at else float("inf")
    return max(0.0, min(since_start, counts.oldest_waiting_seconds or 0.0, uptime_seconds))


class Cached(Generic[T]):
    """Caches the result of a call for a while. Concurrent callers share one call."""

    def __init__(
        self,
        fetch: Callable[[], Coroutine[Any, Any, T]],
        *,
        max_age_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._max_age_seconds = max_age_seconds
        self._monotonic = monotonic
        self._value: T | None = None
        self._fetched_at = float("-inf")
        self._flight = SingleFlight[None, T]()

    async def get(self) -> T:
        """The value, at most `max_age_seconds` old. Raises what the call does, and StoreUnavailable."""
        if self._value is not None and self._monotonic() - self._fetched_at < self._max_age_seconds:
            return self._value
        return await self._flight.run(None, self._call)

    def forget(self) -> None:
        """Makes the next `get` call for a new value."""
        self._fetched_at = float("-inf")

    async def stop(self) -> None:
        """Cancels a call in progress."""
        await self._flight.stop()

    async def _call(self) -> T:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                value = await self._fetch()
        except TimeoutError:
            raise StoreUnavailable(
                f"the store did not answer within {WAIT_SECONDS:g} s; look at it before trying again"
            ) from None
        self._value, self._fetched_at = value, self._monotonic()
        return value
