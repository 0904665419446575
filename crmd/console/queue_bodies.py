"""Models of the queries and bodies of requests about queues and jobs."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, RootModel, WithJsonSchema, model_validator

from crmd.engine.admin.control import KEY_PATTERN, MAX_PRIORITY
from crmd.engine.admin.views import LONGEST_UNIQUE_FOR_S, NewJob, State
from crmd.engine.durations import Rate
from crmd.http.schema import DURATION_PATTERN, Duration, Instant, PageQuery, RequestBody, read_duration

MAX_JOBS = 1_000
MAX_WAIT_SECONDS = 300.0
_RATE_PATTERN = r"^\s*\d{1,12}\s*/\s*(\d{1,12}(\.\d{1,12})?)?\s*(ms|s|min|m|h|d)\s*$"


def _span(value: object) -> float:
    if value == "none":
        return 0.0
    seconds = read_duration(value)
    if seconds > LONGEST_UNIQUE_FOR_S:
        raise ValueError("is longer than 365 days")
    return seconds


def _rate(value: object) -> Rate:
    return Rate.parse(value)  # type: ignore[arg-type]  # it refuses what is not text, with advice


def _key(value: object) -> str:
    if not isinstance(value, str) or not KEY_PATTERN.fullmatch(value):
        raise ValueError("is not a key: 1 to 200 letters, digits and . _ : @ + -")
    return value


Span = Annotated[
    float,
    BeforeValidator(_span),
    WithJsonSchema(
        {
            "anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"const": "none"}],
            "description": 'With its unit, such as "24h", or "none".',
        }
    ),
]
RateText = Annotated[
    Rate,
    BeforeValidator(_rate),
    WithJsonSchema(
        {"type": "string", "pattern": _RATE_PATTERN, "description": 'Such as "20/min", "80/s" or "100/10s".'}
    ),
]
Key = Annotated[
    str, BeforeValidator(_key), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9._:@+-]{1,200}$"})
]


class JobBody(RequestBody):
    """One job to add."""

    job: str = Field(min_length=1, max_length=200, description="Name of the job.")
    payload: dict[str, Any] = Field(default_factory=dict, description="The job's payload.")
    delay: Duration | None = Field(None, description="Start this long from now.")
    at: Instant | None = Field(None, description="Start at this instant; not together with delay.")
    priority: int = Field(0, ge=0, le=MAX_PRIORITY, description="1 (first) to 10; 0 is the normal lane.")
    key: Key | None = Field(None, description="Unique key; generated if absent.")
    unique_for: Span | None = Field(
        None,
        description="How long the key stays taken once the job completed or became unknown, up to 365 days; "
        "absent: the queue's.",
    )

    @model_validator(mode="after")
    def _one_time(self) -> JobBody:
        if self.delay is not None and self.at is not None:
            raise ValueError("a job takes delay or at, not both")
        return self

    def to_new(self) -> NewJob:
        """The job as the engine takes it."""
        return NewJob(self.job, self.payload, self.key, self.delay, self.at, self.priority, self.unique_for)


class ManyBody(RequestBody):
    """Many jobs to add; each is validated separately, so that all mistakes are named."""

    jobs: list[Any] = Field(min_length=1, max_length=MAX_JOBS)


class JobsBody(RequestBody):
    """Many jobs to add."""

    jobs: list[JobBody] = Field(min_length=1, max_length=MAX_JOBS)


class AddBody(RootModel[JobBody | JobsBody]):
    """One job to add, or up to 1,000."""

    model_config = ConfigDict(defer_build=True)


class PauseBody(RequestBody):
    """Why and for how long a queue is paused."""

    reason: str | None = Field(None, max_length=500)
    duration: Duration | None = Field(None, description="Resume automatically after this time.")


class LimitBody(RequestBody):
    """A rate to apply; null restores the configured one."""

    rate: RateText | None
    duration: Duration | None = Field(None, description="Return to the configured rate after this time.")


class FilterBody(RequestBody):
    """Selects jobs to act on. A call acts on a bounded batch, and says whether there are more."""

    state: Annotated[State, Field(strict=False)]
    search: str | None = Field(
        None, min_length=1, max_length=200, description="Text in key, name, payload or error."
    )
    dry_run: bool = Field(False, description="Only counts, and shows samples.")
    rate: RateText | None = Field(None, description="Act on at most this many in a period.")


class JobsQuery(PageQuery):
    """A page of jobs."""

    state: State | None = None
    search: str | None = Field(None, min_length=1, max_length=200)


class WaitQuery(RequestBody):
    """How long to wait for the outcome."""

    wait: Duration | None = Field(None, description='At most "5m".')
