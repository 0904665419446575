"""The exceptions of crmd, and its exit codes.

CrmdError
├── ConfigError              every problem of the configuration at once (exit 78)
├── StateDirTaken            another daemon uses the state folder (exit 69)
├── StoreError
│   ├── StoreUnavailable     the store is unavailable, or did not answer in time (exit 69)
│   ├── StoreFull            the store is at its memory limit, or its disk is full
│   └── StoreUnusable        wrong credentials, wrong kind or version of store (exit 78)
├── RecordsError
│   ├── RecordsUnavailable   the database is unavailable, or busy for too long (exit 69)
│   └── RecordsUnusable      wrong credentials, damaged, or migrated by a newer crmd (exit 78)
├── RequestError             what was asked for cannot be done
│   ├── UnknownQueue
│   ├── UnknownJob           no job of that name is handled by that queue
│   ├── UnknownSchedule
│   ├── JobNotFound
│   ├── IllegalTransition    the job's state does not allow it
│   ├── InvalidPayload
│   ├── JobTooLarge
│   ├── UnknownFile          no such upload, export or report, or it has expired
│   ├── UnknownCampaign
│   ├── FileTooLarge
│   └── UploadQuotaReached   the uploader keeps as many files, or bytes, as it may
└── JobSignal                raised by handlers to end an attempt
    ├── Permanent            do not try again
    ├── Retry                try again after a time that the handler chooses
    ├── Snooze               not now; spends no attempt
    ├── RateLimited          a service asks to slow down; spends no attempt
    ├── PauseQueue           pause the queue and give the job back
    └── OutcomeUnknown       the effect may have happened; never repeat it blindly
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydantic import ValidationError


class ExitCode(IntEnum):
    """Exit codes of every command; those of sysexits.h where it has one."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 69
    CONFIG = 78
    WAIT_EXPIRED = 124


class CrmdError(Exception):
    """Base of all errors of crmd. `str()` is one line: what, where, what to do."""

    exit_code: ExitCode = ExitCode.FAILED


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in the configuration."""

    source: str
    """Where the value was found: a file's path, `environment` or `command line`."""
    key: str
    """Dotted key, such as `queues.message.rate_limit`, or the variable's name."""
    reason: str
    """What is wrong and what to write instead."""

    def __str__(self) -> str:
        return f"{self.source}: {self.key}: {self.reason}" if self.key else f"{self.source}: {self.reason}"


class ConfigError(CrmdError):
    """The configuration has mistakes; `problems` lists all of them."""

    exit_code = ExitCode.CONFIG

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


class StateDirTaken(CrmdError):
    """Another daemon uses the state folder."""

    exit_code = ExitCode.UNAVAILABLE


class PortTaken(CrmdError):
    """The HTTP address is in use."""

    exit_code = ExitCode.UNAVAILABLE


class StoreError(CrmdError):
    """Something is wrong with the store."""


class StoreUnavailable(StoreError):
    """The store is unavailable, or did not answer in time."""

    exit_code = ExitCode.UNAVAILABLE


class StoreFull(StoreError):
    """The store refuses to grow: memory limit reached or disk full."""


class StoreUnusable(StoreError):
    """The store answers, but cannot be used: wrong credentials, kind, version or settings."""

    exit_code = ExitCode.CONFIG


class RecordsError(CrmdError):
    """Something is wrong with the database."""


class RecordsUnavailable(RecordsError):
    """The database is unavailable, or busy for too long."""

    exit_code = ExitCode.UNAVAILABLE


class RecordsUnusable(RecordsError):
    """The database cannot be used: wrong credentials, damaged, or migrated by a newer crmd."""

    exit_code = ExitCode.CONFIG


class RequestError(CrmdError):
    """What was asked for cannot be done."""


class UnknownQueue(RequestError):
    """No queue has that name."""


class UnknownJob(RequestError):
    """The queue has no job of that name."""


class UnknownSchedule(RequestError):
    """No schedule has that name."""


class JobNotFound(RequestError):
    """The queue holds no job with that key."""


class IllegalTransition(RequestError):
    """The job's state does not allow what was asked for."""


class InvalidPayload(RequestError):
    """The payload does not fit the job's model."""

    def __init__(self, message: str, errors: list[dict[str, object]] | None = None) -> None:
        super().__init__(message)
        self.errors = errors or []


class JobTooLarge(RequestError):
    """The job's JSON is over the size limit."""


class UnknownFile(RequestError):
    """There is no such upload, export or report, or it has expired."""


class UnknownCampaign(RequestError):
    """There is no campaign with that id."""


class FileTooLarge(RequestError):
    """The file is over the size limit."""


class UploadQuotaReached(RequestError):
    """The uploader keeps as many files, or bytes, as it may; the first expires in `seconds`."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


class JobSignal(CrmdError):
    """Base of what handlers raise to end an attempt."""


class Permanent(JobSignal):
    """The job cannot succeed: fail it now, whatever attempts are left.

    `code` is the service's own error code; the job's error names it.
    """

    def __init__(self, reason: str, *, code: str | None = None) -> None:
        super().__init__(reason)
        self.code = code


class Retry(JobSignal):
    """Try again after `after` seconds, if attempts are left; None means the queue's backoff, at least `at_least`.

    `max_attempts` lowers the attempts of this job for this kind of error.
    """

    def __init__(
        self,
        reason: str,
        *,
        after: float | None = None,
        at_least: float = 0.0,
        max_attempts: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.after = after
        self.at_least = at_least
        self.max_attempts = max_attempts


class Snooze(JobSignal):
    """Not now: run again after `after` seconds, or at `until`. Spends no attempt."""

    def __init__(
        self, reason: str = "snoozed", *, after: float | None = None, until: datetime | None = None
    ) -> None:
        super().__init__(reason)
        if (after is None) == (until is None):
            raise ValueError("Snooze takes either after= (seconds) or until= (an aware datetime)")
        self.after = after
        self.until = until


class RateLimited(JobSignal):
    """A service asks to slow down for `after` seconds; applies to all daemons. Spends no attempt.

    `scope="key"` slows only jobs that share this job's limit key, `scope="queue"` all of the queue.
    """

    def __init__(self, reason: str, *, after: float, scope: Literal["key", "queue"] = "queue") -> None:
        super().__init__(reason)
        self.after = after
        self.scope = scope


class PauseQueue(JobSignal):
    """Pause the queue until a person resumes it; the job is given back, no attempt is spent."""


class OutcomeUnknown(JobSignal):
    """The effect may have happened. The job ends as unknown and is never repeated blindly."""


def mistakes_in(error: ValidationError) -> list[Any]:
    """What pydantic found wrong, by entry. Of a text with half a character it cannot tell: one entry does."""
    try:
        return list(error.errors(include_url=False, include_input=False))
    except UnicodeEncodeError:
        return [{"type": "value_error", "loc": (), "msg": "a text has half a character (a lone surrogate)"}]
