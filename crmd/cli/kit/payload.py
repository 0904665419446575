"""Turns what a person types into jobs: payloads, times, lines of a file."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from crmd.engine.admin.views import LONGEST_UNIQUE_FOR_S, NewJob
from crmd.engine.durations import Rate, parse_duration

LINE_FIELDS = frozenset({"job", "payload", "delay", "at", "priority", "key", "unique_for"})
"""What a line of a `--from` file may say, as the HTTP API's jobs."""


def as_duration(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Option callback: seconds of `30s`; None for `none` and where the option is absent."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def as_wait(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    """Option callback: seconds to wait, endless for `none`; None where the option is absent."""
    return math.inf if value == "none" else as_duration(context, option, value)


def as_instant(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Option callback: epoch seconds of `2026-01-31T12:00:00Z`."""
    try:
        return None if value is None else parse_instant(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def as_rate(_context: click.Context, _option: click.Parameter, value: str | None) -> Rate | None:
    """Option callback: the rate `20/min`."""
    try:
        return None if value is None else Rate.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def parse_instant(text: Any) -> float:
    """Epoch seconds of an RFC 3339 instant; one without an offset is local time. Raises ValueError."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        example = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        raise ValueError(f'{text!r} is not a time; write it as "{example}" or with an offset') from None


def parse_object(text: str, source: str) -> dict[str, Any]:
    """The JSON object in a text; raises UsageError that says where it is wrong."""
    value = parse_json(text, source)
    if not isinstance(value, dict):
        raise click.UsageError(f"{source}: a payload is a JSON object {{…}}, this is {_kind(value)}")
    return value


def parse_json(text: str, source: str) -> Any:
    """The JSON value in a text; raises UsageError that says where it is wrong."""
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise click.UsageError(f"{source}: is nested too deeply") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise click.UsageError(f"{source}: is not JSON at {where}: {error.msg}") from None
    except ValueError as error:
        raise click.UsageError(f"{source}: is not JSON: {error}") from None


def read_payload(data: str | None, pairs: Iterable[str]) -> dict[str, Any]:
    """The payload of `-d` with the `name=string` and `name:=json` arguments laid over it."""
    payload = {} if data is None else _read_data(data)
    payload.update(map(_pair, pairs))
    return payload


def read_line(text: str, source: str, job: str | None) -> NewJob:
    """The job that one line of a `--from` file says: all of it, or only a payload for the job named before.

    Raises UsageError that names the line.
    """
    line = parse_object(text, source)
    if not (("payload" in line or "job" in line) and line.keys() <= LINE_FIELDS):
        line = {"payload": line}
    payload, name = line.get("payload", {}), line.get("job", job)
    if not isinstance(payload, dict):
        raise click.UsageError(f"{source}: payload is {_kind(payload)}, not an object")
    if not isinstance(name, str):
        raise click.UsageError(f'{source}: says no job; name it there as "job", or after the queue')
    try:
        return NewJob(
            job=name,
            payload=payload,
            key=_text(line.get("key"), "key"),
            delay=_seconds(line.get("delay")),
            at=None if line.get("at") is None else parse_instant(line["at"]),
            priority=_priority(line.get("priority", 0)),
            unique_for=_span(line.get("unique_for")),
        )
    except ValueError as error:
        raise click.UsageError(f"{source}: {error}") from None


def _span(value: Any) -> float | None:
    """A unique_for, of which "none" is one of no length; None where the line does not say."""
    span = 0.0 if value == "none" else _seconds(value)
    if span is not None and span > LONGEST_UNIQUE_FOR_S:
        raise ValueError("unique_for is longer than 365 days")
    return span


def _read_data(data: str) -> dict[str, Any]:
    if data == "-":
        return parse_object(sys.stdin.read(), "standard input")
    if not data.startswith("@"):
        return parse_object(data, "-d")
    try:
        return parse_object(Path(data[1:]).read_text(encoding="utf-8"), data[1:])
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"-d {data}: cannot be read: {error}") from None


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip(":"):
        raise click.UsageError(
            f"{text!r} is not part of a payload; write name=text, name:=json, or -d '{{\"name\": …}}'"
        )
    if name.endswith(":"):
        return name[:-1], parse_json(value, f"{name}=")
    return name, value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {_kind(value)}, not a text")
    return value


def _seconds(value: Any) -> float | None:
    return None if value is None else parse_duration(value)


def _priority(value: Any) -> int:
    if type(value) is not int:
        raise ValueError(f"priority is {_kind(value)}, not a whole number from 0 to 10")
    return value
