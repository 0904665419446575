"""Job JSON. orjson where it is exact; the standard library where orjson would refuse or alter."""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

import orjson
from pydantic import BaseModel

from crmd.engine.store import exactjson
from crmd.errors import InvalidPayload, JobTooLarge

MAX_JOB_BYTES = 256 * 1024
"""Every change of state rewrites the whole job."""
MAX_RESULT_BYTES = 256 * 1024
MAX_DEPTH = 500
"""Levels of nesting: the standard library, which orjson falls back to, recurses and ends at about 900."""

_QUEUED = b',"status":"queued"}'
_SAID_BY_ATTEMPTS = frozenset(
    {"attempts", "started", "completed", "progress", "result", "error", "touched", "worker_id"}
)
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


class Fragment:
    """JSON that is encoded already, as a value among others."""

    __slots__ = ("raw",)

    def __init__(self, raw: bytes) -> None:
        self.raw = raw


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
    if _too_deep(document):
        raise Unreadable(f"is nested deeper than {MAX_DEPTH} levels")
    return data


def completed_document(
    document: bytes, data: dict[str, Any], started_ms: int, completed_ms: int, result: bytes
) -> bytes | None:
    """The JSON of a job that completed in its first attempt, made from the JSON it was added with.

    None where that says already what an attempt says, or does not end in its status: then `encode` has to do it.
    """
    if not document.endswith(_QUEUED) or not _SAID_BY_ATTEMPTS.isdisjoint(data):
        return None
    said = b',"status":"complete","attempts":1,"started":%d,"completed":%d,"progress":1.0,"result":%b}'
    return document[: -len(_QUEUED)] + said % (started_ms, completed_ms, result)


def encode(data: dict[str, Any]) -> bytes:
    """A job's dict as stored; what came out of `decode` always goes in."""
    try:
        document = orjson.dumps(data, default=_paste)
    except (TypeError, ValueError):
        return _encode_slowly(data)
    # NaN and infinities, which plain SAQ programs may write, orjson makes null.
    return _encode_slowly(data) if b"null" in document and not _is_finite(data) else document


def encode_payload(data: dict[str, Any]) -> bytes:
    """A new job's dict as stored. Raises InvalidPayload for what JSON cannot say, JobTooLarge over 256 KiB."""
    try:
        document = exactjson.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidPayload(f"the payload is not JSON: {error}") from None
    if _too_deep(document):
        raise InvalidPayload(f"the payload is nested deeper than {MAX_DEPTH} levels")
    if len(document) > MAX_JOB_BYTES:
        raise JobTooLarge(f"the job is {len(document):,} bytes of JSON; at most {MAX_JOB_BYTES:,} are taken")
    return document


def encode_result(result: Any) -> Fragment:
    """A handler's result as JSON, to put into a job's dict. Raises ValueError with the reason where it is none."""
    try:
        document = exactjson.dumps(result.model_dump(mode="json") if isinstance(result, BaseModel) else result)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the result is not JSON: {error}") from None
    if _too_deep(document, MAX_DEPTH - 1):
        raise ValueError(f"the result is nested deeper than {MAX_DEPTH - 1} levels")
    if len(document) > MAX_RESULT_BYTES:
        raise ValueError(f"the result is {len(document):,} bytes of JSON; at most {MAX_RESULT_BYTES:,} are kept")
    return Fragment(document)


def _too_deep(document: bytes, levels: int = MAX_DEPTH) -> bool:
    if len(document) <= 2 * levels:
        return False
    if document.count(b"[") + document.count(b"{") <= levels:
        return False
    brackets = _STRING.sub(b"", document).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEP.__getitem__, brackets)), default=0) > levels


def _encode_slowly(data: dict[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":"), default=_unwrap).encode()


def _is_finite(data: dict[str, Any]) -> bool:
    try:
        json.dumps(data, allow_nan=False, default=lambda _: None)
    except ValueError:
        return False
    return True


def _paste(value: Any) -> orjson.Fragment:
    if isinstance(value, Fragment):
        return orjson.Fragment(value.raw)
    raise TypeError(f"{type(value).__name__} is not JSON")


def _unwrap(value: Any) -> Any:
    if isinstance(value, Fragment):
        return json.loads(value.raw)
    raise TypeError(f"{type(value).__name__} is not JSON")
