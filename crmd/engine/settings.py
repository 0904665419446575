"""The settings of queues and schedules as the engine takes them: plain data, wherever it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from crmd.engine.durations import Rate


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff between attempts, from `base_seconds` up to `max_seconds`."""

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


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """A job that is added again and again, by either `cron` or `every_seconds`."""

    name: str
    queue: str
    job: str
    cron: str | None = None
    every_seconds: float | None = None
    timezone: str = "UTC"
    """Of `cron`, by its IANA name."""
    missed: Literal["once", "skip"] = "once"
    """What due times mean that passed while no daemon ran: one run for all of them together, or none."""
    payload: dict[str, Any] = field(default_factory=dict)
    enabled: bool = True


class SettingsRegistry:
    """The settings of all queues and schedules. Readers ask it each time; a reload replaces the whole at once."""

    def __init__(
        self, queues: Mapping[str, QueueSettings], schedules: Mapping[str, ScheduleSettings] = MappingProxyType({})
    ) -> None:
        self.replace(queues, schedules)

    def replace(self, queues: Mapping[str, QueueSettings], schedules: Mapping[str, ScheduleSettings]) -> None:
        """Applies other settings to all queues and schedules."""
        self.queues = MappingProxyType(dict(queues))
        self.schedules = MappingProxyType(dict(schedules))

    def put(self, settings: QueueSettings) -> None:
        """Applies other settings to one queue, or makes it known."""
        self.replace({**self.queues, settings.name: settings}, self.schedules)
