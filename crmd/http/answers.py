"""Models that describe the bodies of answers; what is sent are plain dicts."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, WithJsonSchema

Timestamp = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""RFC 3339 in UTC with milliseconds."""


def _open(schema: dict[str, Any]) -> None:
    """For clients the model is open: a newer daemon may say more."""
    schema.pop("additionalProperties", None)


class AnswerBody(BaseModel):
    """The body of an answer. A member that is always sent has no default, also where it may be null."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True, json_schema_extra=_open)


class Mistake(AnswerBody):
    """What is wrong with one member of a request."""

    field: str = Field(description="Its dotted name; empty for the body as a whole.")
    reason: str


class StepMistake(Mistake):
    """What is wrong with one step of a flow."""

    step: str | None = Field(description="Null for the flow as a whole.")


class JobMistakes(AnswerBody):
    """What is wrong with one job of many."""

    index: int
    errors: list[Mistake]
    example: dict[str, Any] | None = Field(None, description="The request's Bull job, in crmd's form.")


class ProblemAnswer(AnswerBody):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    id: str = Field(description="The log has the same id.")
    error: str = Field(description="The same as `detail`.")
    errors: list[StepMistake | JobMistakes | Mistake] = Field(
        default_factory=list, description="Each mistake in the request, if `detail` does not say everything."
    )
    example: dict[str, Any] | None = Field(None, description="The request's Bull job, in crmd's form.")


class OpenApiAnswer(AnswerBody):
    """This description, as OpenAPI 3.1."""

    openapi: str
    info: dict[str, Any]
    servers: list[dict[str, Any]]
    paths: dict[str, Any]
    components: dict[str, Any]
