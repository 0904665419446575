"""How an attempt ended: the one place that decides a job's next state."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from crmd.engine.codec import Fragment, encode_result
from crmd.engine.durations import format_duration
from crmd.engine.settings import QueueSettings
from crmd.engine.store.limits import limit_keys
from crmd.engine.store.replies import AckKind
from crmd.engine.worker.backoff import LONGEST_WAIT_S, retry_delay
from crmd.engine.worker.execution import CancelReason, Run
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
"""A job that cannot reach the records waits so long, and no attempt is spent: nothing was tried."""
MAX_ERROR_CHARS = 8_000
"""Of an error the end is kept: there stands what was raised."""


@dataclass(slots=True)
class Ending:
    """How one attempt ended. Not frozen: that would cost a microsecond a job."""

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


def returned(result: Any) -> Ending:
    """The handler returned."""
    try:
        return Ending(AckKind.COMPLETE, "completed", result=encode_result(result))
    except ValueError as error:
        return Ending(AckKind.FAILED, "failed", error=str(error))


def raised(error: BaseException, run: Run, settings: QueueSettings, now: float) -> Ending:
    """The handler raised; `now` is epoch seconds."""
    try:
        return _of_error(error, run, settings, now)
    except Exception as broken:  # a signal whose values are none, such as Retry(after="soon")
        return failed_attempt(run, settings, describe(broken))


def cancelled(run: Run, settings: QueueSettings) -> Ending:
    """We cancelled the job, and it ended or was abandoned."""
    reason = run.cancel_reason
    if reason is CancelReason.TIMEOUT:
        text = f"TimeoutError: timed out after {format_duration(run.timeout)}"  # SAQ programs look for the name
        return _unknown(text) if run.begun else failed_attempt(run, settings, text)
    if run.begun:
        return _unknown(f"stopped ({reason}) after its effect had begun")
    if reason is CancelReason.ABORT:
        return Ending(AckKind.ABORTED, "cancelled", error=run.cancel_detail or "cancelled")
    return Ending(AckKind.RETURN, "given_back", counts=False)


def failed_attempt(
    run: Run,
    settings: QueueSettings,
    error: str,
    *,
    after: float | None = None,
    at_least: float = 0.0,
    max_attempts: int | None = None,
) -> Ending:
    """One attempt failed: another one, or the end."""
    allowed = run.attempts if max_attempts is None else min(run.attempts, max_attempts)
    if run.attempt >= allowed:
        return Ending(AckKind.FAILED, "failed", error=error)
    delay = max(retry_delay(run.data, settings.backoff, run.attempt, after), _bounded(at_least))
    return Ending(AckKind.RETRY, "retried", error=error, delay=delay)


def not_known(run: Run, settings: QueueSettings, known: list[str], waited: float) -> Ending:
    """No handler of that name here: wait, for a rolling deploy, then fail."""
    text = f"no job {run.name!r} in queue {settings.name}; known: {', '.join(known) or 'none'}"
    if waited < settings.unknown_job_grace_seconds:
        delay = min(15.0, settings.unknown_job_grace_seconds - waited + 0.1)
        return Ending(AckKind.SNOOZE, "snoozed", error=text, delay=delay, counts=False)
    return Ending(AckKind.FAILED, "failed", error=text)


def describe(error: BaseException) -> str:
    """An exception as kept with the job: the traceback's end."""
    text = "".join(traceback.format_exception(error)).rstrip()
    return text if len(text) <= MAX_ERROR_CHARS else "…" + text[-MAX_ERROR_CHARS:]


def _of_error(error: BaseException, run: Run, settings: QueueSettings, now: float) -> Ending:
    if run.cancel_reason is not None and isinstance(error, asyncio.CancelledError):
        return cancelled(run, settings)
    if isinstance(error, JobSignal | InvalidPayload):
        return _signalled(error, run, settings, now)
    if isinstance(error, RecordsError) and not run.begun:
        return Ending(AckKind.SNOOZE, "snoozed", error=str(error), delay=RECORDS_AWAY_S, counts=False)
    detail = describe(error)
    return _unknown(detail) if run.begun else failed_attempt(run, settings, detail)


def _unknown(detail: str) -> Ending:
    return Ending(AckKind.UNKNOWN, "unknown", error=f"outcome unknown: {detail}")


def _signalled(error: JobSignal | InvalidPayload, run: Run, settings: QueueSettings, now: float) -> Ending:
    text = str(error)
    match error:
        case Retry():
            return failed_attempt(
                run, settings, text, after=error.after, at_least=error.at_least, max_attempts=error.max_attempts
            )
        case Snooze():
            delay = error.after if error.after is not None else _seconds_until(error.until, now)
            return Ending(AckKind.SNOOZE, "snoozed", error=text, delay=_bounded(delay), counts=False)
        case RateLimited():
            return _rate_limited(error, run, settings)
        case PauseQueue():
            return Ending(AckKind.RETURN, "given_back", error=text, counts=False, pause=text)
        case OutcomeUnknown():
            return _unknown(text)
        case Permanent(code=str(code)) if code not in text:
            return Ending(AckKind.FAILED, "failed", error=f"[{code}] {text}")
        case _:
            return Ending(AckKind.FAILED, "failed", error=text)


def _rate_limited(error: RateLimited, run: Run, settings: QueueSettings) -> Ending:
    after = _bounded(error.after)
    ending = Ending(AckKind.RETURN, "rate_limited", error=str(error), counts=False)
    if error.scope == "queue":
        return replace(ending, slow_down=(after, "queue"))
    if limit_keys(settings, run.kwargs):
        return replace(ending, slow_down=(after, "key"))
    return replace(ending, kind=AckKind.SNOOZE, delay=after)


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), LONGEST_WAIT_S)  # in this order NaN is 0


def _seconds_until(until: datetime | None, now: float) -> float:
    if until is None:
        return 0.0
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return aware.timestamp() - now
