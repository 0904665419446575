"""A queue as JSON: its state, and its settings with their sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crmd.config.load import DEFAULT, first_below, queue_source
from crmd.console.health import counts_json, limit_json
from crmd.console.served_queues import ServedQueues
from crmd.engine.admin.views import QueueCounts
from crmd.engine.durations import format_duration
from crmd.engine.settings import QueueSettings


def queue_json(queues: ServedQueues, name: str, counts: QueueCounts) -> dict[str, Any]:
    """One queue: state, settings, sources."""
    return {
        "name": name,
        "jobs": queues.catalog.names(name),
        "paused": counts.paused,
        "pause": counts.pause.to_json() if counts.pause else None,
        "held": queues.held(name),
        "degraded": queues.degraded().get(name),
        "counts": counts_json(counts),
        "limit": limit_json(counts),
        "settings": {
            key: {"value": value, "source": _source_of(queues.sources, name, key)}
            for key, value in settings_json(queues.settings[name]).items()
        },
    }


def settings_json(settings: QueueSettings) -> dict[str, Any]:
    """A queue's settings under their keys, in the form of `config.toml`."""
    backoff = settings.backoff
    return {
        "concurrency": settings.concurrency,
        "attempts": settings.attempts,
        "backoff": {"base": format_duration(backoff.base_seconds), "max": format_duration(backoff.max_seconds)},
        "timeout": format_duration(settings.timeout_seconds),
        "keep_completed": settings.keep_completed,
        "keep_failed": settings.keep_failed,
        "keep_min": format_duration(settings.keep_min_seconds),
        "keep_age": format_duration(settings.keep_age_seconds),
        "unique_for": format_duration(settings.unique_for_seconds or None),
        "rate_limit": str(settings.rate_limit) if settings.rate_limit else None,
        "limits": [{"by": limit.by, "rate": str(limit.rate), "burst": limit.burst} for limit in settings.limits],
        "handlers": list(settings.handlers),
        "unknown_job_grace": format_duration(settings.unknown_job_grace_seconds),
        "stall_after": format_duration(settings.stall_after_seconds),
    }


def _source_of(origins: Mapping[str, str], queue: str, key: str) -> str:
    return queue_source(origins, queue, key) or first_below(origins, f"defaults.{key}") or DEFAULT
