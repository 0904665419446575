"""One delivery of a job while it runs here, as plain data; and the only rules that decide what becomes of it."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from crmd.engine.codec import Fragment, decode, encode_result, queued_at
from crmd.engine.durations import format_duration
from crmd.engine.settings import QueueSettings
from crmd.engine.store.limits import limit_keys
from crmd.engine.store.replies import AckKind
from crmd.engine.worker.backoff import LONGEST_WAIT_S, retry_delay
from crmd.errors import (
    InvalidPayload,
    JobSignal,
    OutcomeUnknown,
    PauseQueue,
    Permanent,
    RateLimited,
    RecordsError,
    Retry,
    Snooze,
)

RECORDS_AWAY_S = 10.0
"""A job that cannot reach the database waits this long without spending an attempt: nothing was tried."""
MAX_ERROR_CHARS = 8_000
"""Of an error the end is kept: it says what was raised."""


class CancelReason(StrEnum):
    """Why we cancel a running job."""

    TIMEOUT = "timeout"
    ABORT = "abort"
    DRAIN = "drain"
    LOST = "lost"
    """The lease is no longer ours: another daemon has the job, or nobody."""


@dataclass(slots=True, eq=False)
class Execution:
    """One delivery of one job: its JSON, its lease and, once it begins, its task."""

    queue: str
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
    crash_count: int
    """How often a daemon died with this job."""
    timeout: float | None
    started_ms: int
    """Epoch milliseconds; 0 until the job begins."""
    started_at: float
    """On the monotonic clock; until the job begins, when it was fetched."""
    task: asyncio.Task[None] | None = None
    cancel_reason: CancelReason | None = None
    cancel_detail: str | None = None
    abandon_at: float = 0.0
    """When a cancelled handler is given up, on the monotonic clock."""
    marked: bool = False
    """Whether the store shows it as active."""
    side_effect_started: bool = False
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
        """The job's payload, empty where its JSON has none."""
        return self.seen.get("kwargs") or {}

    @property
    def delivery(self) -> int:
        """1, or more where an earlier delivery was lost."""
        return self.crash_count + 1

    @property
    def enqueued_at(self) -> float:
        """When the job was added, in epoch seconds; 0 where its JSON does not say."""
        return queued_at(self.seen)

    @property
    def deadline(self) -> float | None:
        """When the attempt times out, on the monotonic clock."""
        return None if self.timeout is None else self.started_at + self.timeout


@dataclass(slots=True)
class Outcome:
    """What became of one execution. Not frozen: that would cost a microsecond a job."""

    kind: AckKind
    event: str
    """What the timeline and the events call it."""
    error: str | None = None
    result: Fragment | None = None
    delay: float = 0.0
    """Seconds until the job is due again."""
    counts: bool = True
    """Whether the attempt is spent."""
    pause: str | None = None
    """Why the queue is to be paused."""
    slow_down: tuple[float, Literal["key", "queue"]] | None = None
    """Seconds, and what is to be slowed."""


def returned(result: Any) -> Outcome:
    """The outcome of a handler that returned: failed where its result cannot be stored as JSON."""
    try:
        return Outcome(AckKind.COMPLETE, "completed", result=encode_result(result))
    except ValueError as error:
        return Outcome(AckKind.FAILED, "failed", error=str(error))


def raised(error: BaseException, execution: Execution, settings: QueueSettings, now: float) -> Outcome:
    """The handler raised; `now` is epoch seconds."""
    try:
        return _of_error(error, execution, settings, now)
    except Exception as broken:  # a signal with unusable values, such as Retry(after="soon")
        return failed_attempt(execution, settings, describe(broken))


def cancelled(execution: Execution, settings: QueueSettings) -> Outcome:
    """We cancelled the job, and it ended or was abandoned."""
    reason = execution.cancel_reason
    if reason is CancelReason.TIMEOUT:
        # SAQ programs look for the name of the exception.
        text = f"TimeoutError: timed out after {format_duration(execution.timeout)}"
        return _unknown(text) if execution.side_effect_started else failed_attempt(execution, settings, text)
    if execution.side_effect_started:
        return _unknown(f"stopped ({reason}) after its effect had begun")
    if reason is CancelReason.ABORT:
        return Outcome(AckKind.ABORTED, "cancelled", error=execution.cancel_detail or "cancelled")
    return Outcome(AckKind.RETURN, "given_back", counts=False)


def failed_attempt(
    execution: Execution,
    settings: QueueSettings,
    error: str,
    *,
    after: float | None = None,
    at_least: float = 0.0,
    max_attempts: int | None = None,
) -> Outcome:
    """One attempt failed: another one, or the end."""
    allowed = execution.attempts if max_attempts is None else min(execution.attempts, max_attempts)
    if execution.attempt >= allowed:
        return Outcome(AckKind.FAILED, "failed", error=error)
    delay = max(
        retry_delay(execution.data, settings.backoff, execution.attempt, after),
        _bounded(at_least),
    )
    return Outcome(AckKind.RETRY, "retried", error=error, delay=delay)


def not_known(execution: Execution, settings: QueueSettings, known: list[str], waited: float) -> Outcome:
    """No handler of that name here: wait, for a rolling deploy, then fail."""
    text = f"no job {execution.name!r} in queue {settings.name}; known: {', '.join(known) or 'none'}"
    if waited < settings.unknown_job_grace_seconds:
        delay = min(15.0, settings.unknown_job_grace_seconds - waited + 0.1)
        return Outcome(AckKind.SNOOZE, "snoozed", error=text, delay=delay, counts=False)
    return Outcome(AckKind.FAILED, "failed", error=text)


def as_stored(outcome: Outcome, stored: dict[str, Any]) -> Outcome:
    """How a job ends that a client took out of the queue while it ran: as its stored JSON says.

    That is cancelled after an abort, and what a SAQ client's finish() wrote after one of those.
    """
    error = error_in(stored)
    match stored.get("status"):
        case "complete":
            return returned(stored.get("result"))
        case "failed":
            return Outcome(AckKind.FAILED, "failed", error=error or "failed: a SAQ client finished it so")
        case "aborting" | "aborted":
            return replace(outcome, error=error or outcome.error)
        case _:
            return outcome


def error_in(stored: dict[str, Any]) -> str | None:
    """The error in a stored job's JSON, if it has one."""
    error = stored.get("error")
    return error if isinstance(error, str) else None


def describe(error: BaseException) -> str:
    """An exception as kept with the job: the traceback's end."""
    text = "".join(traceback.format_exception(error)).rstrip()
    return text if len(text) <= MAX_ERROR_CHARS else "…" + text[-MAX_ERROR_CHARS:]


def _of_error(error: BaseException, execution: Execution, settings: QueueSettings, now: float) -> Outcome:
    if execution.cancel_reason is not None and isinstance(error, asyncio.CancelledError):
        return cancelled(execution, settings)
    if isinstance(error, JobSignal | InvalidPayload):
        return _signalled(error, execution, settings, now)
    if isinstance(error, RecordsError) and not execution.side_effect_started:
        return Outcome(AckKind.SNOOZE, "snoozed", error=str(error), delay=RECORDS_AWAY_S, counts=False)
    detail = describe(error)
    return _unknown(detail) if execution.side_effect_started else failed_attempt(execution, settings, detail)


def _unknown(detail: str) -> Outcome:
    return Outcome(AckKind.UNKNOWN, "unknown", error=f"outcome unknown: {detail}")


def _signalled(
    error: JobSignal | InvalidPayload, execution: Execution, settings: QueueSettings, now: float
) -> Outcome:
    text = str(error)
    match error:
        case Retry():
            return failed_attempt(
                execution,
                settings,
                text,
                after=error.after,
                at_least=error.at_least,
                max_attempts=error.max_attempts,
            )
        case Snooze():
            delay = error.after if error.after is not None else _seconds_until(error.until, now)
            return Outcome(AckKind.SNOOZE, "snoozed", error=text, delay=_bounded(delay), counts=False)
        case RateLimited():
            return _rate_limited(error, execution, settings)
        case PauseQueue():
            return Outcome(AckKind.RETURN, "given_back", error=text, counts=False, pause=text)
        case OutcomeUnknown():
            return _unknown(text)
        case Permanent(code=str(code)) if code not in text:
            return Outcome(AckKind.FAILED, "failed", error=f"[{code}] {text}")
        case _:
            return Outcome(AckKind.FAILED, "failed", error=text)


def _rate_limited(error: RateLimited, execution: Execution, settings: QueueSettings) -> Outcome:
    after = _bounded(error.after)
    outcome = Outcome(AckKind.RETURN, "rate_limited", error=str(error), counts=False)
    if error.scope == "queue":
        return replace(outcome, slow_down=(after, "queue"))
    if limit_keys(settings, execution.kwargs):
        return replace(outcome, slow_down=(after, "key"))
    return replace(outcome, kind=AckKind.SNOOZE, delay=after)


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_WAIT_S)  # in this order NaN is 0


def _seconds_until(until: datetime | None, now: float) -> float:
    if until is None:
        return 0.0
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return aware.timestamp() - now
