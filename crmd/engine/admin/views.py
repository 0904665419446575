"""Queues and jobs as seen from outside: plain values, the same for HTTP, the command line and Python."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import orjson

from crmd.engine.durations import END_OF_TIME
from crmd.telemetry.redact import redact, redact_value


class State(StrEnum):
    """The states of a job."""

    WAITING = "waiting"
    DELAYED = "delayed"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"

    @property
    def finished(self) -> bool:
        """Whether the job is over."""
        return self in FINISHED


LONGEST_UNIQUE_FOR_S = 365 * 86_400.0
"""What a job may say as its unique_for; the settings of a queue have the same bound."""
FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.UNKNOWN})


def not_by_filter(state: State, done: str, states: Collection[State]) -> str:
    """Why a filter does not act on jobs in this state: only those in `states` can be `done`, such as "retried"."""
    *others, last = [usable for usable in State if usable in states]
    only = f"{', '.join(others)} and {last}" if others else last
    unknown = state is State.UNKNOWN and State.FAILED in states
    why = ": their effect may have happened; check, then retry them by key" if unknown else ""
    return f"{state} jobs cannot be {done} by filter (only {only} ones){why}"


def instant(seconds: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, from epoch seconds; None for None, 0 and what no calendar has."""
    if seconds is None or not 0 < seconds < END_OF_TIME:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def epoch_seconds(text: str | None) -> float | None:
    """Epoch seconds of what `instant` wrote."""
    return datetime.fromisoformat(text).timestamp() if text else None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened to a job."""

    at: float
    """Epoch seconds by the store's clock."""
    event: str
    """failed, retried, snoozed, given_back, lost, cancelled, unknown, …"""
    attempt: int
    delivery: int
    detail: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The entry as HTTP and `--json` show it."""
        return {**asdict(self), "at": instant(self.at)}


@dataclass(frozen=True, slots=True)
class JobView:
    """One job. Instants are epoch seconds here and RFC 3339 in `to_json()`."""

    queue: str
    job: str
    key: str
    state: State
    payload: Any
    result: Any
    error: str | None
    progress: float
    attempt: int
    attempts: int
    delivery: int
    priority: int
    enqueued_at: float | None
    started_at: float | None
    finished_at: float | None
    run_at: float | None
    timeline: list[TimelineEntry] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The job as HTTP and `--json` show it, masked."""
        shown = self.masked()
        data = {name: getattr(shown, name) for name in self.__slots__}
        for name in ("enqueued_at", "started_at", "finished_at", "run_at"):
            data[name] = instant(data[name])
        data["timeline"] = [entry.to_json() for entry in shown.timeline]
        return data

    def masked(self) -> JobView:
        """The job without secrets in its payload and errors. Its result stays: it is for whoever waits for it."""
        timeline = [replace(entry, detail=redact_value(entry.detail)) for entry in self.timeline]
        return replace(self, payload=redact_value(self.payload), error=redact_value(self.error), timeline=timeline)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobView:
        """The job from what `to_json` made."""
        fields = {name: data[name] for name in cls.__slots__}
        for name in ("enqueued_at", "started_at", "finished_at", "run_at"):
            fields[name] = epoch_seconds(fields[name])
        fields["state"] = State(fields["state"])
        fields["timeline"] = [
            TimelineEntry(**{**entry, "at": epoch_seconds(entry["at"])}) for entry in data["timeline"]
        ]
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs; `cursor` is None on the last."""

    jobs: list[JobView]
    cursor: str | None
    size: int = 0
    """Bytes of the jobs' JSON in the store."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An entry of a queue that could not be read, and was set aside."""

    at: float
    """Epoch seconds."""
    id: str
    """Its id in the store."""
    reason: str
    raw: str
    """The first 10,000 bytes of what stood there, as text."""

    def to_json(self) -> dict[str, Any]:
        """The entry as HTTP and `--json` show it, secrets masked."""
        return {"at": instant(self.at), "id": self.id, "reason": self.reason, "raw": redact(self.raw)}


@dataclass(slots=True)  # frozen, its eight fields would cost a tenth of adding one job
class NewJob:
    """A job to add, as `Control.enqueue` takes it."""

    job: str
    payload: dict[str, Any] = field(default_factory=dict)
    key: str | None = None
    """Unique key; None makes one."""
    delay: float | None = None
    """Seconds from now."""
    at: float | None = None
    """Epoch seconds."""
    priority: int = 0
    """1 (first) to 10; 0 is the normal lane."""
    unique_for: float | None = None
    """Seconds that `key` stays taken once the job completed or became unknown, up to LONGEST_UNIQUE_FOR_S; None is
    the queue's, 0 is none."""
    again: bool = False
    """Adds it although a job that is over holds the key by its `unique_for`."""


@dataclass(slots=True, unsafe_hash=True)  # not frozen, as NewJob
class Added:
    """What became of a job to add."""

    key: str
    created: bool
    """False where the key was taken: the existing job stands."""
    state: State | None = None
    """Of a repeated request: the job's state; None where it is over and no longer kept."""
    repeated: bool = False
    """True where an earlier request under the same idempotency key had this answer, which may have been lost."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a queue is paused."""

    reason: str | None
    by: str | None
    at: float
    until: float | None
    """Epoch seconds when it resumes by itself; None for never."""

    def to_json(self) -> dict[str, Any]:
        """The pause as HTTP and `--json` show it."""
        return {"reason": self.reason, "by": self.by, "at": instant(self.at), "until": instant(self.until)}


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many jobs of one queue are in each state, and what holds it."""

    name: str
    waiting: int
    active: int
    delayed: int
    completed: int
    """Those kept; the totals of all time are in `QueueTotals`."""
    failed: int
    cancelled: int
    unknown: int
    """Also counted in `failed`."""
    pause: Pause | None
    rate_limit: str | None
    """The limit in force, such as `20/min`."""
    rate_left: int | None
    """Starts it allows right now."""
    rate_override_until: float | None
    oldest_waiting_seconds: float | None
    last_start_at: float | None
    blocked_until: float | None
    """Epoch seconds until which an outside limit holds the queue."""
    rate_period_seconds: float = 0.0
    """In which the limit in force counts; 0 where there is none."""

    @property
    def paused(self) -> bool:
        """Whether the queue is paused."""
        return self.pause is not None


@dataclass(frozen=True, slots=True)
class QueueTotals:
    """All-time counters of one queue; they survive restarts."""

    name: str
    completed: int = 0
    failed: int = 0
    """Unknown ones included."""
    unknown: int = 0
    cancelled: int = 0
    retried: int = 0
    lost: int = 0
    """Deliveries lost with their daemon."""
    started: int = 0

    @property
    def success_rate(self) -> float | None:
        """Completed share of completed and failed, 0 to 1; None without data."""
        ended = self.completed + self.failed
        return self.completed / ended if ended else None


@dataclass(frozen=True, slots=True)
class QueueMetrics:
    """A queue's counts, throughput, waits and run times."""

    counts: QueueCounts
    totals: QueueTotals
    throughput_per_minute: float
    """Finished jobs a minute over the last five minutes."""
    wait_ms: dict[str, float | None]
    """p50, p95, p99 from enqueue (or due time) to start, over the kept completed jobs."""
    run_ms: dict[str, float | None]
    """p50, p95, p99 from start to end, over the kept completed jobs."""


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """A live daemon as it describes itself in the store; instants are epoch seconds."""

    id: str
    host: str
    pid: int
    version: str
    started_at: float
    queues: list[str]
    active: int
    state: str
    """running or draining."""
    seen_at: float

    @classmethod
    def from_json(cls, document: bytes) -> DaemonInfo:
        """The daemon as it describes itself in the store; what only a newer version says is passed over."""
        data = orjson.loads(document)
        return cls(**{one.name: data[one.name] for one in fields(cls)})

    def to_json(self) -> dict[str, Any]:
        """The daemon as HTTP and `--json` show it."""
        return {**asdict(self), "started_at": instant(self.started_at), "seen_at": instant(self.seen_at)}
