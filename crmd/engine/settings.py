"""The settings of one queue, resolved: what the engine works with; and what the ten shipped queues differ in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crmd.engine.durations import Rate

SHIPPED_QUEUES: Mapping[str, Mapping[str, Any]] = {
    "message": {
        "rate_limit": "20/min",
        "limits": [{"by": "to", "rate": "1/6s", "burst": 45}],
        "unique_for": "24h",
    },
    "campaign": {"timeout": "1h", "attempts": 2, "unique_for": "24h"},
    "flow": {"timeout": "5m"},
    "email": {"attempts": 5, "unique_for": "24h"},
    "webhook": {"attempts": 5},
    "ai": {"timeout": "5m", "attempts": 2},
    "import": {"timeout": "10m", "attempts": 1},
    "export": {"timeout": "5m", "attempts": 2},
    "analytics": {"timeout": "10m", "attempts": 2},
    "notification": {},
}
"""The queues that are always there, each with what differs from `[defaults]`, written as in `config.toml`."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff between attempts."""

    base_seconds: float = 2.0
    max_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class KeyedLimit:
    """A limit for each value of one payload field.

    After `n` starts at once the next comes `n` periods later; at most `burst` at once.
    """

    by: str
    rate: Rate
    burst: int

    @property
    def period_seconds(self) -> float:
        """Seconds that one start costs."""
        return self.rate.period_seconds / self.rate.count


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """One queue's settings in force; every field has the meaning of its key in `config.toml`."""

    name: str
    concurrency: int = 10
    attempts: int = 3
    backoff: Backoff = Backoff()
    timeout_seconds: float | None = 60.0
    keep_completed: int = 100
    keep_failed: int = 500
    keep_min_seconds: float = 10.0
    keep_age_seconds: float | None = None
    unique_for_seconds: float = 0.0
    rate_limit: Rate | None = None
    limits: tuple[KeyedLimit, ...] = ()
    handlers: tuple[str, ...] = ()
    unknown_job_grace_seconds: float = 300.0
    stall_after_seconds: float = 60.0
