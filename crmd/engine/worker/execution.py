"""One job while it runs here: what the engine knows of it, and what its handler can ask of the engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from crmd.engine.admin.views import NewJob
from crmd.engine.codec import decode, queued_at
from crmd.errors import IllegalTransition
from crmd.jobs import NewPayload

if TYPE_CHECKING:
    from crmd.engine.worker.worker import CrmWorker

CANCEL_GRACE_S = 1.0
"""A handler that is cancelled has so long to end; then its slot is freed and it is counted as leaked."""
PROGRESS_EVERY_S = 0.2
"""Progress is stored at most so often: each time rewrites the job."""
ADVANCE = 0.01
"""By so much a job must get further than any delivery that was lost, so that its deaths count no more."""


class CancelReason(StrEnum):
    """Why we cancel a running job."""

    TIMEOUT = "timeout"
    ABORT = "abort"
    DRAIN = "drain"
    LOST = "lost"
    """The lease is no longer ours: another daemon has the job, or nobody."""


@dataclass(slots=True, eq=False)
class Run:
    """One delivery of one job: its JSON, its lease and, once it begins, its task.

    It is the engine's side of a `JobContext`.
    """

    worker: CrmWorker
    job_id: str
    key: str
    token: str
    document: bytes
    """Its JSON as it was claimed."""
    seen: dict[str, Any]
    """The JSON as its handler sees it, and may change it."""
    name: str
    attempt: int
    attempts: int
    deaths: int
    """How often a daemon died with this job."""
    timeout: float | None
    started_ms: int
    started_at: float
    """On the monotonic clock; until the job begins, when it was fetched."""
    task: asyncio.Task[None] | None = None
    cancel_reason: CancelReason | None = None
    cancel_detail: str | None = None
    abandon_at: float = 0.0
    marked: bool = False
    begun: bool = False
    """Whether an effect that cannot be repeated has begun."""
    ended: bool = False
    progress_at: float = 0.0
    reached: float | None = None
    """How far the job came, where a delivery of it was lost; known once it tells of progress."""
    advanced: bool = False
    """Whether this delivery came further than those."""
    _data: dict[str, Any] | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The JSON as it is to be stored. Few jobs need it, so it is read then; no handler can reach it."""
        if self._data is None:
            self._data = decode(self.document)
        return self._data

    @property
    def untouched(self) -> bool:
        """Whether nothing of what is to be stored was changed while the job ran."""
        return self._data is None

    @property
    def kwargs(self) -> dict[str, Any]:
        """The payload."""
        return self.seen.get("kwargs") or {}

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self.worker.settings.name

    @property
    def delivery(self) -> int:
        """1, or more where an earlier delivery was lost."""
        return self.deaths + 1

    @property
    def enqueued_at(self) -> float:
        """When the job was added, in epoch seconds; 0 where its JSON does not say."""
        return queued_at(self.seen)

    @property
    def deadline(self) -> float | None:
        """When the attempt times out, on the monotonic clock."""
        return None if self.timeout is None else self.started_at + self.timeout

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the job in each line."""
        return _JobLog(self.worker.engine.log, {"queue": self.queue, "job": self.name, "key": self.key})

    def cancel(self, reason: CancelReason, now: float, detail: str | None = None) -> None:
        """Asks the handler to stop; the first reason stands."""
        if self.cancel_reason is None and not self.ended:
            self.cancel_reason, self.cancel_detail = reason, detail
            self.abandon_at = now + CANCEL_GRACE_S
            if self.task:
                self.task.cancel()
            else:
                self.worker.runner.withdraw(self)

    async def progress(self, fraction: float, note: str | None) -> None:
        """Notes how far the job is, and stores it where that was not done a moment ago."""
        now = self.worker.engine.monotonic()
        share = min(max(0.0, float(fraction)), 1.0)  # in this order NaN is 0
        at_once = self.deaths > 0 and self._passes_earlier(share)
        self.data["progress"] = max(share, self.reached or 0.0)
        if note is not None:
            meta = self.data.get("meta")
            self.data["meta"] = {**(meta if isinstance(meta, dict) else {}), "progress_note": str(note)[:500]}
        if at_once or now - self.progress_at >= PROGRESS_EVERY_S:
            self.progress_at = now
            await self.worker.watch.mark([self])

    def _passes_earlier(self, share: float) -> bool:
        """Whether the job gets further with this than any delivery that was lost, or than it was told of last."""
        if self.reached is None:
            known = self.data.get("progress")
            self.reached = min(max(0.0, known), 1.0) if isinstance(known, int | float) else 0.0
        if share < self.reached + ADVANCE:
            return False
        self.reached, self.advanced = share, True
        return True

    async def effect_begun(self) -> None:
        """Stores that an effect begins; raises IllegalTransition where the job is no longer ours."""
        if not await self.worker.scripts.begin_effect(self.job_id, self.token):
            raise IllegalTransition(
                f"job {self.key} was cancelled, or is no longer this daemon's: its effect is not begun"
            )
        self.begun = True

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        """Adds jobs, each a payload and its options, and returns their keys."""
        new = [NewJob(job=name, payload=dict(payload), **_times(options)) for payload, options in jobs]
        return [added.key for added in await self.worker.engine.control.enqueue(queue, new)]


class _JobLog(logging.LoggerAdapter[logging.Logger]):
    """Puts queue, job and key into each record's fields."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = dict(kwargs.get("extra") or {})
        extra["fields"] = {**(self.extra or {}), **extra.get("fields", {})}
        return msg, {**kwargs, "extra": extra}


def _times(options: Mapping[str, Any]) -> dict[str, Any]:
    at = options.get("at")
    return {**options, "at": at.timestamp()} if isinstance(at, datetime) else dict(options)
