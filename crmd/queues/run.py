"""One job while it runs here."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crmd.config.queue import QueueSettings
from crmd.queues.views import END_OF_TIME

LONGEST_TIMEOUT_S = 10 * 365 * 86_400.0
"""Bounds what a foreign job may ask for: its numbers may be beyond what a float can hold."""
CANCEL_GRACE_S = 1.0
"""A handler that is cancelled has so long to end; then its slot is freed and it is counted as leaked."""


MAX_ATTEMPTS = 1_000_000
"""Of what a foreign job says: more is no count but a mistake."""


class CancelReason(StrEnum):
    """Why we cancel a running job."""

    TIMEOUT = "timeout"
    ABORT = "abort"
    DRAIN = "drain"
    LOST = "lost"
    """The lease is no longer ours: another daemon has the job, or nobody."""


@dataclass(slots=True, eq=False)
class Run:
    """One delivery of one job: its JSON, its lease and its task."""

    job_id: str
    key: str
    token: str
    data: dict[str, Any]
    """Its JSON, the arguments already encoded: what a handler does to its own is not to be stored."""
    kwargs: dict[str, Any]
    name: str
    attempt: int
    attempts: int
    deaths: int
    """How often a daemon died with this job."""
    timeout: float | None
    started_ms: int
    started_at: float
    """On the monotonic clock."""
    task: asyncio.Task[None] | None = None
    cancel_reason: CancelReason | None = None
    cancel_detail: str | None = None
    abandon_at: float = 0.0
    marked: bool = False
    begun: bool = False
    """Whether an effect that cannot be repeated has begun."""
    ended: bool = False
    progress_at: float = field(default=0.0)

    @property
    def delivery(self) -> int:
        """1, or more where an earlier delivery was lost."""
        return self.deaths + 1

    @property
    def deadline(self) -> float | None:
        """When the attempt times out, on the monotonic clock."""
        return None if self.timeout is None else self.started_at + self.timeout

    def cancel(self, reason: CancelReason, now: float, detail: str | None = None) -> None:
        """Asks the handler to stop; the first reason stands."""
        if self.cancel_reason is None and not self.ended:
            self.cancel_reason, self.cancel_detail = reason, detail
            self.abandon_at = now + CANCEL_GRACE_S
            if self.task:
                self.task.cancel()


def attempts_allowed(data: dict[str, Any], settings: QueueSettings) -> int:
    """Attempts in all: what the job's JSON says, else the queue's."""
    retries = data.get("retries")
    return min(retries, MAX_ATTEMPTS) if isinstance(retries, int) and retries > 0 else settings.attempts


def timeout_of(data: dict[str, Any], settings: QueueSettings) -> float | None:
    """Seconds an attempt may take: the job's JSON (0: no limit), else the queue's."""
    timeout = data.get("timeout")
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout >= 0:
        return float(min(timeout, LONGEST_TIMEOUT_S)) or None
    return settings.timeout_seconds


def queued_at(data: dict[str, Any]) -> float:
    """When the job was added, in epoch seconds; 0 where its JSON does not say."""
    queued = data.get("queued")
    return min(queued, END_OF_TIME * 1000) / 1000 if isinstance(queued, int | float) and queued > 0 else 0.0


def attempts_so_far(data: dict[str, Any]) -> int:
    """Attempts that count.

    A job whose stored status is active lost its daemon in an attempt that was noted and does not count.
    """
    attempts = data.get("attempts")
    counted = min(attempts, MAX_ATTEMPTS) if isinstance(attempts, int) and attempts > 0 else 0
    return max(0, counted - 1) if data.get("status") == "active" else counted
