"""Counts, totals and times, from what the store holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crmd.engine.admin.views import Pause, QueueCounts, QueueMetrics, QueueTotals
from crmd.engine.codec import Unreadable, decode
from crmd.engine.durations import END_OF_TIME
from crmd.engine.settings import QueueSettings
from crmd.engine.store.limits import rate_window
from crmd.engine.store.replies import RawCounts

THROUGHPUT_MINUTES = 5
PERCENTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}

TIMES = ("queued", "scheduled", "started", "completed")
"""What `metrics_of` reads of a job."""


def counts_of(raw: RawCounts, settings: QueueSettings) -> QueueCounts:
    """A queue's counts out of the store's reply, with the limit that its settings or an override set."""
    configured_ms = rate_window(settings.rate_limit)[1]
    limit = raw.override.get("text") or (str(settings.rate_limit) if settings.rate_limit else None)
    last_start = raw.counters.get("last_start")
    return QueueCounts(
        name=settings.name,
        waiting=raw.waiting,
        active=raw.active,
        delayed=raw.delayed,
        completed=raw.completed,
        failed=raw.failed,
        cancelled=raw.cancelled,
        unknown=raw.unknown,
        pause=_pause(raw.pause),
        rate_limit=limit,
        rate_left=raw.rate_left if raw.rate_left >= 0 else None,
        rate_override_until=_optional(raw.override.get("until")),
        oldest_waiting_seconds=_oldest(raw),
        last_start_at=int(last_start) / 1000 if last_start else None,
        blocked_until=raw.blocked_until_ms / 1000 if raw.blocked_until_ms else None,
        rate_period_seconds=float(raw.override.get("period_ms", configured_ms)) / 1000,
    )


def totals_of(name: str, raw: RawCounts) -> QueueTotals:
    """One queue's counts of all time."""
    fields = ("completed", "failed", "unknown", "cancelled", "retried", "lost", "started")
    return QueueTotals(name, **{field: int(raw.counters.get(field, 0)) for field in fields})


def metrics_of(raw: RawCounts, settings: QueueSettings, completed: Sequence[dict[str, Any]]) -> QueueMetrics:
    """How one queue does; times are of the completed jobs given."""
    started = [data for data in completed if _ms(data, "started")]
    waits = [_ms(data, "started") - _ready_ms(data) for data in started if _ready_ms(data)]
    runs = [_ms(data, "completed") - _ms(data, "started") for data in started]
    return QueueMetrics(
        counts_of(raw, settings),
        totals_of(settings.name, raw),
        throughput_per_minute=_throughput(raw),
        wait_ms=_percentiles(waits),
        run_ms=_percentiles(runs),
    )


def _throughput(raw: RawCounts) -> float:
    minute = raw.now_ms // 60_000
    recent = sum(count for m, count in raw.minutes.items() if minute - THROUGHPUT_MINUTES <= m < minute)
    return recent / THROUGHPUT_MINUTES


def _percentiles(values: Sequence[float]) -> dict[str, float | None]:
    ordered = sorted(max(0.0, value) for value in values)
    if not ordered:
        return dict.fromkeys(PERCENTILES, None)
    last = len(ordered) - 1
    return {name: float(ordered[round(share * last)]) for name, share in PERCENTILES.items()}


def _ready_ms(data: dict[str, Any]) -> float:
    """When the job could have started: when it was added, or when it was due; 0 when nobody knows."""
    queued = _ms(data, "queued")
    return queued and max(queued, _ms(data, "scheduled") * 1000)


def _ms(data: dict[str, Any], name: str) -> float:
    value = data.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < END_OF_TIME * 1000 else 0.0


def _oldest(raw: RawCounts) -> float | None:
    ages = []
    for document in raw.oldest:
        try:
            ready = _ready_ms(decode(document))
        except Unreadable:
            continue  # it has no age; a claim sets it aside
        if ready:
            ages.append((raw.now_ms - ready) / 1000)
    return round(max(0.0, *ages), 3) if ages else None


def _pause(fields: dict[str, str]) -> Pause | None:
    if not fields:
        return None
    return Pause(
        fields.get("reason") or None, fields.get("by") or None, float(fields["at"]), _optional(fields.get("until"))
    )


def _optional(text: str | None) -> float | None:
    return float(text) if text else None
