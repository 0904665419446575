"""One bounded look at the queues, shared by all that ask within a second, and what it means for health."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from crmd.engine.admin.stats import counts_of, totals_of
from crmd.engine.admin.views import DaemonInfo, QueueCounts, QueueMetrics, QueueTotals
from crmd.engine.durations import format_duration
from crmd.engine.settings import QueueSettings
from crmd.errors import StoreError, StoreUnavailable
from crmd.http.bounded import PROBE_SECONDS, Cached, bounded
from crmd.http.deps import WebDeps

FRESH_SECONDS = 1.0
METRICS_FRESH_SECONDS = 5.0
"""Percentiles read up to a hundred jobs of each queue."""


class QueueStatus(StrEnum):
    """How one queue, or all of them, do."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the store said of all queues at one moment."""

    counts: dict[str, QueueCounts] = field(default_factory=dict)
    totals: dict[str, QueueTotals] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """A snapshot and what it means. Without the store it is empty, and `error` says why."""

    seen: Snapshot = Snapshot()
    stalls: dict[str, str] = field(default_factory=dict)
    """Queues whose work waits and does not start, and since when."""
    degraded: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs this daemon cannot run now, and why."""
    error: str | None = None
    refusal: str | None = None
    """Why the store, though it answers, takes no writes: no job can be added or started."""

    @property
    def connected(self) -> bool:
        """Whether the store answered."""
        return self.error is None

    def status_of(self, queue: str) -> QueueStatus:
        """How one queue does."""
        if queue in self.stalls:
            return QueueStatus.UNHEALTHY
        degraded = queue in self.degraded or self.seen.counts[queue].paused
        return QueueStatus.DEGRADED if degraded else QueueStatus.HEALTHY

    @property
    def status(self) -> QueueStatus:
        """How the queues do together: as the worst of them."""
        found = {self.status_of(queue) for queue in self.seen.counts}
        if self.error or self.refusal or QueueStatus.UNHEALTHY in found:
            return QueueStatus.UNHEALTHY
        return QueueStatus.DEGRADED if QueueStatus.DEGRADED in found else QueueStatus.HEALTHY


class Lookout:
    """Reads the store for health, metrics and pages, never for longer than PROBE_SECONDS."""

    def __init__(self, deps: WebDeps) -> None:
        self._deps = deps
        self._snapshot = Cached(self._read_snapshot, max_age_seconds=FRESH_SECONDS)
        self._metrics = Cached(self._read_metrics, max_age_seconds=METRICS_FRESH_SECONDS)
        self._daemons = Cached(self._read_daemons, max_age_seconds=FRESH_SECONDS)

    async def stop(self) -> None:
        """Ends looks under way."""
        for cached in (self._snapshot, self._metrics, self._daemons):
            await cached.stop()

    def forget(self) -> None:
        """Makes the next look a new one: something was changed."""
        self._snapshot.forget()
        self._metrics.forget()

    async def look(self) -> Look:
        """What there is and what it means; never raises for a store that is away."""
        try:
            seen = await self.snapshot()
            stalls = {name: why for name, counts in seen.counts.items() if (why := await self._stall(counts))}
        except StoreError as error:
            return Look(error=str(error))
        return Look(seen, stalls, self._deps.degraded(), refusal=self._deps.store.refusal)

    async def snapshot(self) -> Snapshot:
        """Counts and all-time totals of every queue, at most a second old. Raises StoreUnavailable."""
        self._require_store()
        return await self._snapshot.get()

    async def metrics(self) -> dict[str, QueueMetrics]:
        """How every queue does, at most five seconds old. Raises StoreUnavailable."""
        self._require_store()
        return await self._metrics.get()

    async def daemons(self) -> list[DaemonInfo]:
        """The live daemons. Raises StoreUnavailable."""
        self._require_store()
        return await self._daemons.get()

    def _require_store(self) -> None:
        store = self._deps.store
        if not store.connected:
            raise StoreUnavailable(f"the store is away: {store.trouble}")

    async def _stall(self, counts: QueueCounts) -> str | None:
        """Why a queue counts as stalled; None where it does not."""
        settings = self._deps.queues.get(counts.name)
        if settings is None or counts.name in self._deps.held or not _may_start(counts, time.time()):
            return None
        allowed = _stall_after(counts, settings)
        idle = _idle_seconds(counts, self._deps.life.uptime_seconds, time.time())
        if idle < allowed or not await self._has_startable(settings):
            return None
        return f"{counts.waiting} jobs of {counts.name} wait and none has started for {format_duration(int(idle))}"

    async def _has_startable(self, settings: QueueSettings) -> bool:
        """Whether any waiting job is not parked behind a keyed limit."""
        if not settings.limits:
            return True
        k = self._deps.inspector.queue(settings.name).keys
        lengths = (("LLEN", k.queued), ("ZCARD", k.priority), ("LLEN", k.suspects))
        for command in lengths:
            if await bounded(self._deps.store.command(*command), PROBE_SECONDS):
                return True
        return False

    async def _read_snapshot(self) -> Snapshot:
        seen, queues = Snapshot(), self._deps.queues
        reads = (self._deps.inspector.queue(name).counts() for name in queues)
        for name, raw in zip(queues, await asyncio.gather(*reads), strict=True):
            seen.counts[name] = counts_of(raw, queues[name])
            seen.totals[name] = totals_of(name, raw)
        return seen

    async def _read_metrics(self) -> dict[str, QueueMetrics]:
        return await self._deps.inspector.metrics()

    async def _read_daemons(self) -> list[DaemonInfo]:
        return await self._deps.inspector.daemons()


def _may_start(counts: QueueCounts, now: float) -> bool:
    return counts.waiting > 0 and not counts.paused and (counts.blocked_until or 0) <= now


def _stall_after(counts: QueueCounts, settings: QueueSettings) -> float:
    """A spent rate explains a period without starts, full slots as long as jobs may take, and neither more."""
    allowed = settings.stall_after_seconds
    if counts.rate_left == 0:
        allowed += counts.rate_period_seconds
    if counts.active >= settings.concurrency:
        allowed += float("inf") if settings.timeout_seconds is None else settings.timeout_seconds
    return allowed


def _idle_seconds(counts: QueueCounts, uptime_seconds: float, now: float) -> float:
    """Seconds in which work waited, this daemon lived, and nothing started."""
    since_start = now - counts.last_start_at if counts.last_start_at else float("inf")
    return max(0.0, min(since_start, counts.oldest_waiting_seconds or 0.0, uptime_seconds))
