"""What requests may say, and how it is read: closed models, every mistake named at once."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, NoReturn, TypeVar

from aiohttp import web
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from crmd.engine.admin.control import KEY_PATTERN, MAX_PRIORITY
from crmd.engine.admin.views import LONGEST_UNIQUE_FOR_S, NewJob, State
from crmd.engine.durations import Rate, parse_duration
from crmd.errors import mistakes_in
from crmd.http.bodies import read_body
from crmd.http.problems import Problem

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_JOBS = 1_000
MAX_PAGE = 200
MAX_WAIT_SECONDS = 300.0
MAX_DELAY_SECONDS = 10 * 365 * 86400.0


def _duration(value: object) -> float:
    seconds = parse_duration(value)  # type: ignore[arg-type]  # it refuses what is no text, with advice
    if seconds is None:
        raise ValueError("leave it out instead of none")
    if seconds > MAX_DELAY_SECONDS:
        raise ValueError("is longer than ten years")
    return seconds


def _span(value: object) -> float:
    if value == "none":
        return 0.0
    seconds = _duration(value)
    if seconds > LONGEST_UNIQUE_FOR_S:
        raise ValueError("is longer than 365 days")
    return seconds


def _instant(value: object) -> float:
    if not isinstance(value, str):
        raise ValueError('write an instant as text, such as "2030-01-31T12:00:00Z"')
    try:
        moment = datetime.fromisoformat(value)
        seconds = moment.timestamp()
    except (ValueError, OverflowError):
        raise ValueError('is no instant; write it as "2030-01-31T12:00:00Z"') from None
    if moment.tzinfo is None:
        raise ValueError('has no time zone; end it with "Z" or an offset such as "+02:00"')
    if not 0 < seconds < 253_402_300_800:
        raise ValueError("is not between the years 1970 and 9999")
    return seconds


def _rate(value: object) -> Rate:
    return Rate.parse(value)  # type: ignore[arg-type]  # as above


def check_key(value: object) -> str:
    """A key of ours; raises ValueError that says what one looks like."""
    if not isinstance(value, str) or not KEY_PATTERN.fullmatch(value):
        raise ValueError("is no key: 1 to 200 letters, digits and . _ : @ + -")
    return value


Duration = Annotated[
    float,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "description": 'With its unit: "500ms", "30s", "10m", "2h", "1d".'}),
]
Span = Annotated[
    float,
    BeforeValidator(_span),
    WithJsonSchema({"type": "string", "description": 'With its unit, such as "24h", or "none".'}),
]
Instant = Annotated[float, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]
RateText = Annotated[
    Rate,
    BeforeValidator(_rate),
    WithJsonSchema({"type": "string", "description": 'Such as "20/min", "80/s" or "100/10s".'}),
]
Key = Annotated[
    str, BeforeValidator(check_key), WithJsonSchema({"type": "string", "pattern": "^[A-Za-z0-9._:@+-]{1,200}$"})
]


class Body(BaseModel):
    """A closed model: an unknown member is an error."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, strict=True, defer_build=True)


class JobBody(Body):
    """One job to add."""

    job: str = Field(min_length=1, max_length=200, description="Name of the job.")
    payload: dict[str, Any] = Field(default_factory=dict, description="What the job works on.")
    delay: Duration | None = Field(None, description="Start so long from now.")
    at: Instant | None = Field(None, description="Start then; not with delay.")
    priority: int = Field(0, ge=0, le=MAX_PRIORITY, description="1 (first) to 10; 0 is the normal lane.")
    key: Key | None = Field(None, description="Unique key; one is made where it is left out.")
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


class ManyBody(Body):
    """Many jobs to add."""

    jobs: list[Any] = Field(min_length=1, max_length=MAX_JOBS)


class PauseBody(Body):
    """Why, and for how long."""

    reason: str | None = Field(None, max_length=500)
    duration: Duration | None = Field(None, description="Resumes by itself after this.")


class ResumeBody(Body):
    """A reason, for the log."""

    reason: str | None = Field(None, max_length=500)


class LimitBody(Body):
    """Another rate; null is the configured one."""

    rate: RateText | None
    duration: Duration | None = Field(None, description="Then the configured rate holds again.")


class CancelBody(Body):
    """Why."""

    reason: str | None = Field(None, max_length=500)


class ReasonBody(Body):
    """Why it is paused or cancelled."""

    reason: str | None = Field(None, max_length=500)


class FilterBody(Body):
    """Which jobs to act on. A call acts on a bounded batch and says whether there is more."""

    state: Annotated[State, Field(strict=False)]
    search: str | None = Field(None, min_length=1, max_length=200, description="In key, name, payload and error.")
    dry_run: bool = Field(False, description="Only count and show samples.")
    rate: RateText | None = Field(None, description="Acts on no more than so many.")


class JobsQuery(Body):
    """A page of jobs."""

    model_config = ConfigDict(extra="forbid", strict=False)

    state: State | None = None
    search: str | None = Field(None, min_length=1, max_length=200)
    cursor: str | None = Field(None, max_length=64, description="From the page before.")
    limit: int = Field(50, ge=1, le=MAX_PAGE)


class WaitQuery(Body):
    """Whether to wait for the outcome."""

    wait: Duration | None = Field(None, description='At most "5m".')


def query(request: web.Request, model: type[M]) -> M:
    """The request's query; raises Problem 422 that names each mistake."""
    twice = sorted({name for name in request.query if len(request.query.getall(name)) > 1})
    if twice:
        raise Problem(422, f"given more than once: {', '.join(twice)}")
    return checked(dict(request.query), model, "query")


async def body(request: web.Request, model: type[M]) -> M:
    """The request's body, which may be left out where the model needs nothing; raises Problem."""
    return checked(await json_body(request), model, "body")


async def json_body(request: web.Request) -> Any:
    """The body's JSON, `{}` without a body. Raises Problem 408, 413 or 422."""
    too_large = f"the body is over {MAX_BODY_BYTES:,} bytes; send fewer jobs at once"
    raw = await read_body(request, MAX_BODY_BYTES, too_large)
    if not raw:
        return {}
    try:
        return json.loads(raw, parse_constant=_no_constant)
    except RecursionError:
        raise Problem(422, "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem(422, f"the body is not JSON: {error}") from None


def checked(data: Any, model: type[M], what: str) -> M:
    """Data as the model; raises Problem 422 with `errors`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        mistakes = mistakes_of(error)
        text = "; ".join(f"{mistake['field'] or what}: {mistake['reason']}" for mistake in mistakes)
        raise Problem(422, text, errors=mistakes) from None


def mistakes_of(error: ValidationError) -> list[dict[str, str]]:
    """Field and reason of each mistake."""
    return [
        {
            "field": ".".join(map(str, entry["loc"])),
            "reason": "no such field here" if entry["type"] == "extra_forbidden" else _reason(entry["msg"]),
        }
        for entry in mistakes_in(error)
    ]


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
