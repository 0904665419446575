"""The tables of `config.toml` about queues and what goes into them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from crmd.config.rules import Choice, Duration, Flag, ListOf, Payload, RateRule, Rule, Text, Whole
from crmd.config.schedule import Cron, TimeZone
from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit
from crmd.formatting import show

RESERVED_QUEUE_NAMES = ("job", "abort", "health", "metrics", "statistics")

NAME_PATTERN = r"[a-z0-9_-]{1,64}"
_NAME_WHAT = "1 to 64 of the characters a-z 0-9 _ -"
_REFERENCE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:[A-Za-z_]\w*)?"

Name = Annotated[str, Text(_NAME_WHAT, NAME_PATTERN)]


class Table(BaseModel):
    """One table of `config.toml`: closed, and not changed after load."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class QueueName(Rule):
    """A name that a queue may have."""

    def describe(self) -> str:
        return "queue name"

    def read(self, value: object) -> str:
        name = Text(_NAME_WHAT, NAME_PATTERN).read(value)
        if not is_queue_name(name):
            raise ValueError(f"{show(name)} is reserved; queues cannot be named {', '.join(RESERVED_QUEUE_NAMES)}")
        return name


def is_queue_name(name: str) -> bool:
    """Whether a queue may have that name."""
    return re.fullmatch(NAME_PATTERN, name, re.ASCII) is not None and name not in RESERVED_QUEUE_NAMES


class BackoffTable(Table):
    """Exponential backoff between attempts."""

    base: Annotated[float, Duration("1ms", "1d")] = Field(2.0, description="Wait after the first failed attempt.")
    max: Annotated[float, Duration("1ms", "30d")] = Field(600.0, description="Longest wait between two attempts.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        # With one of them given, the other comes from a table further up: Settings looks at the two together.
        if {"base", "max"} <= self.model_fields_set and self.base > self.max:
            raise ValueError("base is longer than max")
        return self


class DefaultsTable(Table):
    """What holds for each queue whose own table does not say otherwise."""

    concurrency: Annotated[int, Whole(1, 10_000)] = Field(10, description="Jobs at a time in one daemon.")
    attempts: Annotated[int, Whole(1, 100)] = Field(3, description="Attempts in all, the first included.")
    backoff: BackoffTable = Field(BackoffTable(), description="Wait between attempts, doubled each time.")
    timeout: Annotated[float | None, Duration("1ms", "30d", none=True)] = Field(
        60.0, description="Longest run of one attempt."
    )
    keep_completed: Annotated[int, Whole(0, 1_000_000)] = Field(
        100, description="Completed jobs kept, the latest."
    )
    keep_failed: Annotated[int, Whole(0, 1_000_000)] = Field(
        500, description="Failed, cancelled and unknown jobs kept, the latest."
    )
    keep_min: Annotated[float, Duration("0s", "1d")] = Field(
        10.0,
        description="How long a finished job stays at least (at most 10,000 a queue) before the counts apply.",
    )
    keep_age: Annotated[float | None, Duration("1s", "3650d", none=True)] = Field(
        None, description="How long a finished job stays at most, whatever the counts."
    )
    unique_for: Annotated[float | None, Duration("1s", "365d", none=True)] = Field(
        None,
        description="How long a job's key stays taken after the job completed or became unknown.",
    )
    unknown_job_grace: Annotated[float, Duration("0s", "7d")] = Field(
        300.0,
        description="How long a job whose name no daemon knows waits, as in a rolling deploy, before it fails.",
    )
    stall_after: Annotated[float, Duration("1s", "1d")] = Field(
        60.0, description="How long work may wait with nothing started before /health is 503."
    )
    handlers: Annotated[
        tuple[Annotated[str, Text('"package.module" or "package.module:function"', _REFERENCE)], ...],
        ListOf('handlers such as "myapp.jobs"'),
    ] = Field(
        (),
        description='Your own handlers, "package.module" or "package.module:function", besides the shipped ones.',
    )


class LimitTable(Table):
    """A limit for each value of one payload field."""

    by: Annotated[str, Text("the name of a payload field", r"[A-Za-z_][A-Za-z0-9_-]{0,63}")] = Field(
        description="Payload field whose values are each limited."
    )
    rate: Annotated[Rate, RateRule()] = Field(description="Starts in a period, for each value.")
    burst: Annotated[int | None, Whole(1, 100_000)] = Field(
        None,
        description="Most starts at once; after n of them the next comes n periods later. Absent: the rate's.",
    )

    def resolved(self) -> KeyedLimit:
        """The limit as the engine takes it."""
        return KeyedLimit(self.by, self.rate, self.burst or self.rate.count)


class QueueTable(DefaultsTable):
    """One queue; what is absent comes from `[defaults]`. The ten shipped queues need no table."""

    rate_limit: Annotated[Rate | None, RateRule(none=True)] = Field(
        None, description="Starts in any such period, over all daemons."
    )
    limits: Annotated[tuple[LimitTable, ...], ListOf("limits")] = Field(
        (), description="Limits for each value of a payload field: { by, rate, burst }."
    )

    @field_validator("limits")
    @classmethod
    def _each_field_once(cls, value: tuple[LimitTable, ...]) -> tuple[LimitTable, ...]:
        fields = [limit.by for limit in value]
        for field in fields:
            if fields.count(field) > 1:
                raise ValueError(f'has two limits by "{field}"')
        return value


class ScheduleTable(Table):
    """A job that comes again and again: one for each time, however many daemons there are."""

    enabled: Annotated[bool, Flag()] = Field(True, description="Whether it runs.")
    queue: Annotated[str, QueueName()] = Field(description="Queue that gets the job.")
    job: Annotated[str, Text("the name of a job", r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}")] = Field(
        description="Name of the job."
    )
    cron: Annotated[str | None, Cron()] = Field(
        None, description="When: minute, hour, day, month, day of week. Either this or every."
    )
    every: Annotated[float | None, Duration("1s", "365d")] = Field(
        None, description="How often. Either this or cron."
    )
    timezone: Annotated[str, TimeZone()] = Field("UTC", description="Time zone of cron.")
    missed: Annotated[Literal["once", "skip"], Choice("once", "skip")] = Field(
        "once",
        description="What happens about times that passed while no daemon ran: one run for all of them, or none.",
    )
    payload: Annotated[dict[str, Any], Payload()] = Field({}, description="Payload of the job.")

    @field_validator("queue")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        check_known(value, info)
        return value

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.cron is None) == (self.every is None):
            raise ValueError('needs either "cron" or "every"')
        return self


def check_known(name: str, info: ValidationInfo) -> None:
    """Raises ValueError where no queue has that name."""
    # The names are passed in by load(), so that this mistake is found beside all the others.
    known = (info.context or {}).get("queues")
    if known is not None and name not in known:
        close = get_close_matches(name, known, 1)
        hint = f'did you mean "{close[0]}"?' if close else f"there are {', '.join(known)}"
        raise ValueError(f"there is no queue {show(name)}; {hint}")
