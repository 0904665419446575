"""What the scripts take and answer, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crmd.errors import StoreError


class AckKind(StrEnum):
    """How the store ends a job, or puts it back."""

    COMPLETE = "complete", "complete", True
    FAILED = "failed", "failed", True
    UNKNOWN = "unknown", "failed", True
    ABORTED = "aborted", "aborted", True
    RETRY = "retry", "queued", False
    SNOOZE = "snooze", "queued", False
    RETURN = "return", "queued", False

    status: str
    """SAQ's status of a job that ended so."""
    final: bool
    """Whether the job is over."""

    def __new__(cls, value: str, status: str, final: bool) -> AckKind:
        """A member whose properties are plain attributes: they are read several times a job."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.status = status
        member.final = final
        return member


@dataclass(slots=True)
class Ack:
    """What the store is told of one job that ran."""

    job_id: str
    token: str
    kind: AckKind
    document: bytes = b""
    """The job's JSON; empty: as it is stored."""
    number: int = 0
    """TTL in seconds of a finished job (0: none, -1: delete at once), delay in ms of a job put back."""
    entry: bytes = b""
    """Timeline entry, if any."""
    marked: bool = False
    """Whether it was shown as active."""
    event: tuple[Any, ...] = ()
    """To emit once it is written: an event's name and fields, or a completed job's entry in `job.completed`."""


@dataclass(slots=True)
class Claimed:
    """The reply to a claim: the jobs, and when to claim again."""

    reason: str
    """ok, empty, paused, limited, blocked, or unsure or corrected, where the clock of limits may have been set."""
    wait_ms: int
    """Until a start may be possible; -1 unknown."""
    due_ms: int
    """Until the next delayed job is due; -1 none."""
    crash_looping: int
    """How many jobs that crashed their daemons wait to run alone and could start now."""
    clock_ms: int = 0
    """The clock of limits; 0: it was not looked at."""
    correction_ms: int = 0
    """How far it is ahead of the store's."""
    jobs: list[tuple[str, bytes, int]] = field(default_factory=list)
    """id, JSON, crash count."""
    aborted_ids: list[str] = field(default_factory=list)
    """Jobs that an abort took out of the queue's indexes."""
    invalid_ids: list[tuple[bytes, bytes]] = field(default_factory=list)
    """id and JSON of leased jobs whose id is not UTF-8."""


@dataclass(slots=True)
class TripReply:
    """What one trip of a worker brought."""

    stale: list[str]
    """Ids of acks that were not written: their lease is another's or gone."""
    aborted: list[str]
    """Ids that an abort took while they ran: they are to be settled as aborted."""
    claimed: Claimed | None = None
    claim_error: StoreError | None = None
    """Why nothing was claimed; the acks are written all the same."""


@dataclass(slots=True)
class NewDocument:
    """One job to enqueue, encoded."""

    job_id: str
    document: bytes
    delay_ms: int = -1
    due_ms: int = -1
    priority: int = 0
    unique_ms: int = 0
    """How long the key stays taken once the job completed or became unknown; 0: not at all."""
    again: bool = False
    """Whether it is added although an earlier job holds the key by its unique_for."""


@dataclass(frozen=True, slots=True)
class RecoverStep:
    """What one step of a recovery found."""

    cursor: str
    """Where the next step goes on; "0": there is none."""
    returned: int
    """How many jobs were given back."""
    ended: list[tuple[str, bytes, str]]
    """id, JSON and end of the jobs that must not run again: unknown, poison or aborted."""
    unlisted: list[str]
    """Instance ids of daemons that hold leases and are not listed."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """What the store keeps of a request that may be repeated."""

    digest: bytes
    """Whose request it is, 12 bytes."""
    fingerprint: bytes
    """Of its jobs, 8 bytes."""
    time_ms: int
    """What the keys that were made for it begin with."""
    mixed_keys: bool
    """Whether some, but not all, of its jobs have keys of their own."""


@dataclass(frozen=True, slots=True)
class RequestReply:
    """What became of a request that may be repeated."""

    repeated: bool
    time_ms: int
    """What the keys begin with that were made for the first of its kind."""
    created: list[bool]
    """Of each job, whether the first added it."""


@dataclass(frozen=True, slots=True)
class Tick:
    """What a daemon sees once a second."""

    now_ms: int
    daemons: dict[str, str]
    """Instance id -> its entry in the list of daemons, which each renewal changes."""
    due_ms: list[int]
    untrimmed: list[bool]


@dataclass(frozen=True, slots=True)
class Inspected:
    """All that is known of one job."""

    job_id: str
    document: bytes | None
    due: float | None
    """Epoch seconds; 0 when waiting or active; None when neither waits nor runs."""
    lease: str | None
    place: str | None
    """completed, failed, unknown or cancelled; None when not indexed."""
    ended_ms: float | None
    priority: int
    crash_count: int
    log: list[bytes]


@dataclass(frozen=True, slots=True)
class RawCounts:
    """Counts of one queue as the store has them."""

    now_ms: int
    waiting: int
    delayed: int
    active: int
    completed: int
    failed: int
    cancelled: int
    unknown: int
    pause: dict[str, str]
    override: dict[str, str]
    blocked_until_ms: int
    rate_left: int
    oldest: list[bytes]
    counters: dict[str, str]
    minutes: dict[int, int]


def text(raw: bytes) -> str:
    """What another program wrote and may be no UTF-8: then it is shown with escapes, and names nothing."""
    return raw.decode("utf-8", "backslashreplace")
