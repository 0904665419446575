"""Job JSON. orjson where it is exact; the standard library where orjson would refuse or alter."""

from __future__ import annotations

import json
from typing import Any

import orjson
from pydantic import BaseModel

from crmd.errors import InvalidPayload, JobTooLarge
from crmd.store import exactjson

MAX_JOB_BYTES = 256 * 1024
"""Every change of state rewrites the whole job."""
MAX_RESULT_BYTES = 256 * 1024


class Unreadable(ValueError):
    """A stored job is not JSON of a job."""


def decode(document: bytes) -> dict[str, Any]:
    """A stored job as a dict; raises Unreadable with the reason."""
    try:
        data = exactjson.loads(document)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise Unreadable(f"is JSON of {type(data).__name__}, not of a job")
    return data


def encode(data: dict[str, Any]) -> bytes:
    """A job's dict as stored; what came out of `decode` always goes in."""
    try:
        return orjson.dumps(data)
    except (TypeError, ValueError):
        return json.dumps(data, separators=(",", ":"), default=_unwrap).encode()


def encode_payload(data: dict[str, Any]) -> bytes:
    """A new job's dict as stored. Raises InvalidPayload for what JSON cannot say, JobTooLarge over 256 KiB."""
    try:
        document = exactjson.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload is not JSON: {error}") from None
    if len(document) > MAX_JOB_BYTES:
        raise JobTooLarge(f"the job is {len(document):,} bytes of JSON; at most {MAX_JOB_BYTES:,} are taken")
    return document


def encode_result(result: Any) -> orjson.Fragment:
    """A handler's result as JSON, to put into a job's dict. Raises ValueError with the reason where it is none."""
    try:
        document = exactjson.dumps(result.model_dump(mode="json") if isinstance(result, BaseModel) else result)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the result is not JSON: {error}") from None
    if len(document) > MAX_RESULT_BYTES:
        raise ValueError(f"the result is {len(document):,} bytes of JSON; at most {MAX_RESULT_BYTES:,} are kept")
    return orjson.Fragment(document)


def _unwrap(value: Any) -> Any:
    if isinstance(value, orjson.Fragment):
        return json.loads(value.contents)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _decode_slowly(document: bytes) -> Any:
    try:
        return json.loads(document)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"is not JSON: {error}") from None


def _encode_strictly(data: dict[str, Any]) -> bytes:
    try:
        return json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload is not JSON: {error}") from None
