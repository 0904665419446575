"""Reads queries and bodies into closed models and reports every mistake at once; pages with cursors."""

from __future__ import annotations

import base64
import binascii
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
)

from crmd.engine.durations import parse_duration
from crmd.errors import mistakes_in
from crmd.http.bodies import LARGE_BYTES, body_time_slice, loads_in_slices, read_body
from crmd.http.problems import HttpProblem

M = TypeVar("M", bound=BaseModel)

MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_PAGE = 200
MAX_DELAY_SECONDS = 10 * 365 * 86400.0
DURATION_PATTERN = r"^\s*\d{1,12}(\.\d{1,12})?\s*(ms|s|min|m|h|d)\s*$"


def read_duration(value: object) -> float:
    """Parses text such as "30s" to seconds; raises ValueError with advice."""
    seconds = parse_duration(value)  # type: ignore[arg-type]  # it refuses what is not text, with advice
    if seconds is None:
        raise ValueError("leave it out instead of none")
    if seconds > MAX_DELAY_SECONDS:
        raise ValueError("is longer than ten years")
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


Duration = Annotated[
    float,
    BeforeValidator(read_duration),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": DURATION_PATTERN,
            "description": 'With its unit: "500ms", "30s", "10m", "2h", "1d".',
        }
    ),
]
Instant = Annotated[float, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})]


class RequestBody(BaseModel):
    """A closed model: unknown members are errors."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, strict=True, defer_build=True)


class PageQuery(RequestBody):
    """Selects a page of a list."""

    model_config = ConfigDict(extra="forbid", strict=False)

    cursor: str | None = Field(None, max_length=64, description="From the page before.")
    limit: int = Field(50, ge=1, le=MAX_PAGE)


class ReasonBody(RequestBody):
    """An optional reason."""

    reason: str | None = Field(None, max_length=500)


def query(request: web.Request, model: type[M]) -> M:
    """Reads the query; raises HttpProblem 422 that names each mistake."""
    twice = sorted({name for name in request.query if len(request.query.getall(name)) > 1})
    if twice:
        raise HttpProblem(422, f"given more than once: {', '.join(twice)}")
    return checked(dict(request.query), model, "query")


async def body(request: web.Request, model: type[M]) -> M:
    """Reads the body, which may be empty if the model requires nothing; raises HttpProblem."""
    return checked(await json_body(request), model, "body")


async def json_body(request: web.Request) -> Any:
    """Parses the body, `{}` if it is empty. Raises HttpProblem 408, 413 or 422."""
    too_large = f"the body is over {MAX_BODY_BYTES:,} bytes; send fewer jobs at once"
    raw = await read_body(request, MAX_BODY_BYTES, too_large)
    if not raw:
        return {}
    try:
        if len(raw) > LARGE_BYTES:
            return await loads_in_slices(raw, _DECODER, body_time_slice(request))
        return json.loads(raw, parse_constant=_no_constant)
    except RecursionError:
        raise HttpProblem(422, "the body is nested too deeply") from None
    except ValueError as error:
        raise HttpProblem(422, f"the body is not JSON: {error}") from None


def checked(data: Any, model: type[M], what: str) -> M:
    """Validates data; raises HttpProblem 422 with `errors`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        mistakes = mistakes_of(error)
        text = "; ".join(f"{mistake['field'] or what}: {mistake['reason']}" for mistake in mistakes)
        raise HttpProblem(422, text, errors=mistakes) from None


def mistakes_of(error: ValidationError) -> list[dict[str, str]]:
    """The field and reason of each mistake."""
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


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


# Pages that are ordered by id, with opaque cursors


def write_cursor(row_id: int) -> str:
    """The cursor that points behind a row."""
    return base64.urlsafe_b64encode(f"id:{row_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str | None) -> int | None:
    """The row's id; raises HttpProblem 422 if the cursor is not one of ours."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    name, _, number = text.partition(":")
    if name != "id" or not number.isdigit() or len(number) > 18:
        raise HttpProblem(422, "cursor: is not one that this list gave out")
    return int(number)


def row_id(text: str, what: str) -> int:
    """The id in a path; raises HttpProblem 404 if it cannot be one."""
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise HttpProblem(404, f"there is no {what} {text[:40]!r}")
    return int(text)


def page(name: str, rows: list[dict[str, Any]], limit: int) -> web.Response:
    """Answers a page of `limit` rows; one row more than that means that there is another page."""
    cursor = write_cursor(rows[limit - 1]["id"]) if len(rows) > limit else None
    return web.json_response({name: rows[:limit], "cursor": cursor})
