"""The answers about queues, jobs, schedules and daemons."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field, RootModel

from crmd.engine.admin.queue_health import QueueStatus
from crmd.engine.admin.views import State
from crmd.http.answers import AnswerBody, Timestamp


class StoreConnectionAnswer(AnswerBody):
    """Whether the store answers."""

    connected: bool


class HealthAnswer(AnswerBody):
    """Health of the daemon."""

    status: Literal["ok", "error", "draining"]
    redis: StoreConnectionAnswer
    queues: QueueStatus
    timestamp: Timestamp
    uptime_seconds: float
    version: str
    reason: str | None = Field(None, description="Why the status is not 200.")


class ProbeAnswer(AnswerBody):
    """Whether all is well."""

    status: Literal["ok", "error"]
    reason: str | None = Field(None, description="Why the status is not 200.")


class StoreLatencyAnswer(StoreConnectionAnswer):
    """Whether the store answers, and how fast."""

    latency_ms: float | None


class QueueSummaryAnswer(AnswerBody):
    """Counts and status of one queue."""

    status: QueueStatus
    waiting: int
    active: int
    delayed: int
    completed: int
    failed: int
    paused: bool
    reason: str | None = Field(None, description="Why it is not healthy, unless it is paused.")


class SummedCountsAnswer(AnswerBody):
    """Counts over all queues."""

    waiting: int
    active: int
    delayed: int
    completed: int
    failed: int
    paused: int = Field(description="How many queues are paused.")


class QueuesHealthAnswer(AnswerBody):
    """Counts and status of each queue."""

    status: QueueStatus
    redis: StoreLatencyAnswer
    queues: dict[str, QueueSummaryAnswer]
    totals: SummedCountsAnswer
    reason: str | None = Field(None, description="Why the store cannot be used.")


class JobCountsAnswer(AnswerBody):
    """How many jobs of a queue are in each state; of those that are over, the ones kept."""

    waiting: int
    active: int
    delayed: int
    completed: int
    failed: int
    cancelled: int
    unknown: int = Field(description="Also counted in `failed`.")


class RateAnswer(AnswerBody):
    """The rate of a queue that applies now."""

    rate: str | None = Field(description="Such as `20/min`; null if there is none.")
    left: int | None = Field(description="Starts that it allows now.")
    override_until: Timestamp | None = Field(description="When the configured rate applies again.")
    blocked_until: Timestamp | None = Field(description="Until when a service asked the queue to slow down.")


class PercentilesAnswer(AnswerBody):
    """Times in milliseconds; null without data."""

    p50: float | None
    p95: float | None
    p99: float | None


class QueueMetricsAnswer(JobCountsAnswer):
    """How one queue does."""

    success_rate: float | None
    paused: bool
    limit: RateAnswer
    throughput_per_minute: float
    wait_ms: PercentilesAnswer
    run_ms: PercentilesAnswer
    oldest_waiting_seconds: float | None
    last_start_at: Timestamp | None


class QueuesMetricsAnswer(AnswerBody):
    """Rates, times and limits of each queue."""

    queues: dict[str, QueueMetricsAnswer]
    timestamp: Timestamp


class StatisticsAnswer(AnswerBody):
    """Totals of all time."""

    completed: int
    failed: int
    unknown: int
    cancelled: int
    retried: int
    lost: int
    started: int
    success_rate: float | None


class QueuesStatisticsAnswer(AnswerBody):
    """Totals of all time, over all queues and for each."""

    totals: StatisticsAnswer
    queues: dict[str, StatisticsAnswer]


class PauseAnswer(AnswerBody):
    """Why a queue is paused."""

    reason: str | None
    by: str | None
    at: Timestamp | None
    until: Timestamp | None = Field(description="When it resumes automatically.")


class SettingAnswer(AnswerBody):
    """A setting that applies, and where it came from."""

    value: int | str | list[Any] | dict[str, Any] | None
    source: str


class QueueAnswer(AnswerBody):
    """One queue: state, settings, sources."""

    name: str
    jobs: list[str] = Field(description="Names of the jobs that it handles.")
    paused: bool
    pause: PauseAnswer | None
    held: str | None = Field(description="Why this daemon does not run its jobs.")
    degraded: str | None = Field(description="Why this daemon cannot run its jobs now.")
    counts: JobCountsAnswer
    limit: RateAnswer
    settings: dict[str, SettingAnswer]


class QueuesAnswer(AnswerBody):
    """All queues."""

    queues: list[QueueAnswer]


class QuarantinedAnswer(AnswerBody):
    """An entry that could not be read and was set aside."""

    at: Timestamp | None
    id: str
    reason: str
    raw: str


class QuarantineAnswer(AnswerBody):
    """Entries that could not be read, the newest first."""

    entries: list[QuarantinedAnswer]


class DaemonAnswer(AnswerBody):
    """One live daemon."""

    id: str
    host: str
    pid: int
    version: str
    started_at: Timestamp | None
    queues: list[str]
    active: int
    state: str = Field(description="running or draining")
    seen_at: Timestamp | None


class DaemonsAnswer(AnswerBody):
    """The live daemons."""

    workers: list[DaemonAnswer]


class TimelineEntryAnswer(AnswerBody):
    """One thing that happened to a job."""

    at: Timestamp | None
    event: str
    attempt: int
    delivery: int
    detail: str | None


class JobAnswer(AnswerBody):
    """One job."""

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
    enqueued_at: Timestamp | None
    started_at: Timestamp | None
    finished_at: Timestamp | None
    run_at: Timestamp | None
    timeline: list[TimelineEntryAnswer]


class AddedAnswer(AnswerBody):
    """What became of a job to add."""

    key: str
    created: bool
    state: State | None = Field(
        None, description="Present if the request was repeated or the job is no longer kept."
    )


class AddedJobAnswer(JobAnswer):
    """The job that was added, or that had its key already, as it stands."""

    created: bool


class AddedJobsAnswer(AnswerBody):
    """What became of each of many jobs."""

    jobs: list[AddedAnswer]


class JobsAddedAnswer(RootModel[AddedJobAnswer | AddedAnswer | AddedJobsAnswer]):
    """What became of one job, the job itself, or what became of many."""

    model_config = ConfigDict(defer_build=True)


class JobsPageAnswer(AnswerBody):
    """A page of jobs."""

    jobs: list[JobAnswer]
    cursor: str | None = Field(description="Names the next page; null on the last one.")


class BulkAnswer(AnswerBody):
    """What was done to the jobs that the filter found."""

    state: State
    matched: int
    done: int
    skipped: int
    more: bool = Field(description="Whether more jobs match: call again.")
    dry_run: bool
    samples: list[str] = Field(description="Keys of the first ones.")


class ScheduleAnswer(AnswerBody):
    """One schedule: next and last run, pause."""

    name: str
    queue: str
    job: str
    times: str
    missed: str
    enabled: bool
    paused: bool
    paused_at: Timestamp | None
    paused_by: str | None
    paused_reason: str | None
    next_run_at: Timestamp | None
    last_run_at: Timestamp | None
    last_due_at: Timestamp | None
    last_queue: str | None
    last_key: str | None
    last_state: str | None


class SchedulesAnswer(AnswerBody):
    """All schedules."""

    schedules: list[ScheduleAnswer]


class ScheduledJobAnswer(AnswerBody):
    """The job's queue and key."""

    schedule: str
    queue: str
    key: str
