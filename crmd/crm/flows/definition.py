"""A flow's definition, and every mistake that one can have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from crmd.crm.flows.graph import graph_problems
from crmd.crm.flows.steps import STEP_TYPES, AnyStep, Duration, Passed
from crmd.crm.payload import NotBlank, Payload, invalid
from crmd.crm.templating import templates
from crmd.errors import InvalidPayload, mistakes_in

FLOW_PATTERN = r"^[a-z0-9_-]{1,64}$"
MAX_STEPS = 200
MAX_BYTES = 128 * 1024
"""Of a definition's JSON: each run keeps a copy."""
MAX_WORDS = 100

FlowName = Annotated[str, Field(pattern=FLOW_PATTERN)]


class Start(Payload):
    """What starts the flow; a job `run_flow` always can."""

    on: Annotated[
        Literal["manual", "message"],
        Field(description="manual: only such a job; message: also a message from a contact."),
    ] = "manual"
    words: Annotated[
        list[Annotated[NotBlank, Field(max_length=100)]] | None,
        Field(
            min_length=1,
            max_length=MAX_WORDS,
            description="The message has one of these words or phrases in it; left out, any message, "
            "where no other flow's words are met.",
        ),
    ] = None
    cooldown: Annotated[
        Duration | None, Field(description="A contact's messages start it no more often than this.")
    ] = None

    @model_validator(mode="after")
    def _only_of_messages(self) -> Self:
        if self.on == "manual" and (self.words or self.cooldown):
            raise invalid('words and cooldown are for on = "message"')
        return self


class FlowDefinition(Payload):
    """A flow: steps, of which the first is where runs begin."""

    name: Annotated[FlowName, Field(description="1 to 64 of the characters a-z 0-9 _ -.")]
    description: Annotated[str, Field(max_length=1000, description="For people.")] = ""
    enabled: Annotated[bool, Field(description="false: nothing starts it; runs under way go on.")] = True
    start: Annotated[Start, Field(description="What starts it.")] = Start()
    steps: Annotated[
        list[Annotated[AnyStep, Field(discriminator="type")]],
        Field(min_length=1, max_length=MAX_STEPS, description="The steps."),
    ]

    @property
    def first(self) -> str:
        """The id of the step where runs begin."""
        return self.steps[0].id

    def find(self, step_id: str) -> AnyStep:
        """A step by its id; raises KeyError."""
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def below(self, step: AnyStep) -> str | None:
        """The id of the step that stands below; None for the last."""
        index = self.steps.index(step) + 1
        return self.steps[index].id if index < len(self.steps) else None

    def after(self, step: Passed) -> str | None:
        """The id of the step that follows; None where the flow ends there."""
        return step.next or self.below(step)


@dataclass(frozen=True, slots=True)
class StepProblem:
    """One mistake in a definition."""

    step: str | None
    """The step's id, `#3` for the third where it has none; None for what is of no step."""
    field: str
    reason: str

    def __str__(self) -> str:
        where = f"step {self.step}" if self.step else ""
        return ": ".join(part for part in (where, self.field, self.reason) if part)

    def to_json(self) -> dict[str, object]:
        """As HTTP shows it."""
        return {"step": self.step, "field": self.field, "reason": self.reason}


def check_flow(data: Any, name: str | None = None) -> FlowDefinition:
    """The definition, under `name` where one is given.

    Raises InvalidPayload that names all mistakes, each with its step.
    """
    if isinstance(data, Mapping) and name is not None:
        data = {"name": name, **data}
    try:
        return _checked(data, name)
    except RecursionError:
        raise InvalidPayload("the definition is nested too deeply") from None


def _checked(data: Any, name: str | None) -> FlowDefinition:
    size = len(json.dumps(data, default=str))
    if size > MAX_BYTES:
        raise InvalidPayload(f"the definition has {size:,} bytes; at most {MAX_BYTES:,} go")
    definition, problems = _parse(data)
    if isinstance(data, Mapping):
        if name is not None and data.get("name") != name:
            reason = f'is "{data.get("name")}", and the flow is put as "{name}"'
            problems.append(StepProblem(None, "name", reason))
        steps = _listed(data.get("steps"))
        problems += [
            StepProblem(*found) for found in graph_problems([one for one in steps if isinstance(one, Mapping)])
        ]
        problems += _template_problems(steps)
    if problems or definition is None:
        raise InvalidPayload("; ".join(map(str, problems)), [problem.to_json() for problem in problems])
    return definition


def read_flow(stored: Any) -> FlowDefinition:
    """A definition that was checked before it was stored. Raises ValidationError for that of another version."""
    return FlowDefinition.model_validate(stored)


def _parse(data: Any) -> tuple[FlowDefinition | None, list[StepProblem]]:
    try:
        return FlowDefinition.model_validate(data), []
    except ValidationError as error:
        steps = _listed(data.get("steps")) if isinstance(data, Mapping) else []
        return None, [_problem(entry, steps) for entry in mistakes_in(error)]


def _problem(entry: Any, steps: list[Any]) -> StepProblem:
    location = [str(part) for part in entry["loc"]]
    reason = str(entry["msg"]).removeprefix("Value error, ")
    if entry["type"] == "extra_forbidden":
        reason = "no such field here"
    elif entry["type"] == "missing":
        reason = "is missing"
    elif entry["type"] == "union_tag_invalid" and len(location) == 2:
        tag = entry.get("ctx", {}).get("tag")
        reason = f'no step type "{tag}"; there are {", ".join(STEP_TYPES)}'
        location.append("type")
    elif entry["type"] == "union_tag_not_found" and len(location) == 2:
        reason = f"is missing; there are {', '.join(STEP_TYPES)}"
        location.append("type")
    if len(location) < 2 or location[0] != "steps":
        return StepProblem(None, ".".join(location), reason)
    rest = location[2:]
    if rest and rest[0] in STEP_TYPES:  # pydantic names the type on the way into the step
        rest = rest[1:]
    return StepProblem(_named(steps, int(location[1])), ".".join(rest), reason)


def _named(steps: list[Any], index: int) -> str:
    step = steps[index] if index < len(steps) else None
    found = step.get("id") if isinstance(step, Mapping) else None
    return found if isinstance(found, str) and found else f"#{index + 1}"


def _template_problems(steps: list[Any]) -> Iterator[StepProblem]:
    for index, step in enumerate(steps):
        for field, text in templates.texts_in(step):
            try:
                templates.check(text)
            except ValueError as error:
                yield StepProblem(_named(steps, index), field, str(error))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
