"""A job's JSON: read and written exactly, and what its fields mean.

orjson does the work where it is exact, the standard library where orjson would refuse or alter a value.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

import orjson
from pydantic import BaseModel

from crmd.engine.durations import END_OF_TIME
from crmd.engine.settings import QueueSettings
from crmd.errors import InvalidPayload, JobTooLarge

MAX_JOB_BYTES = 256 * 1024
"""Every change of state rewrites the whole job."""
MAX_RESULT_BYTES = 256 * 1024
MAX_DEPTH = 500
"""Levels of nesting: the standard library, which orjson falls back to, recurses and ends at about 900."""
MAX_DETAIL_CHARS = 2_000
"""Of an error in the timeline; the whole of the last one is in the job."""
MAX_ATTEMPTS = 1_000_000
"""A foreign job that asks for more is mistaken."""
LONGEST_TIMEOUT_S = 10 * 365 * 86_400.0
"""Bounds what a foreign job may ask for: its numbers may be beyond what a float can hold."""

# orjson reads integers beyond 64 bits as floats, and writes NaN and infinities as null. Nineteen digits in a row
# may be such an integer; translating and searching takes a sixth of a regular expression's time.
_DIGITS_TO_ZERO = bytes(ord("0") if 48 <= byte <= 57 else byte for byte in range(256))
_LONG_NUMBER = b"0" * 19
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


def dumps(value: Any) -> bytes:
    """The value as JSON that `loads` reads back unchanged; raises TypeError or ValueError for NaN, sets, …"""
    try:
        raw = orjson.dumps(value)
    except TypeError:  # an integer beyond 64 bits, a lone surrogate, a key that is not a string
        return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")
    if b"null" in raw:
        json.dumps(value, allow_nan=False, default=str)
    return raw


def loads(raw: bytes) -> Any:
    """The value of a JSON text; raises ValueError where it has none."""
    if _LONG_NUMBER in raw.translate(_DIGITS_TO_ZERO):
        return json.loads(raw)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:  # also for the escape of a lone surrogate
        return json.loads(raw)


def decode(document: bytes) -> dict[str, Any]:
    """A stored job as a dict; raises Unreadable with the reason."""
    try:
        data = loads(document)
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
        document = dumps(data)
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
        document = dumps(result.model_dump(mode="json") if isinstance(result, BaseModel) else result)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the result is not JSON: {error}") from None
    if _too_deep(document, MAX_DEPTH - 1):
        raise ValueError(f"the result is nested deeper than {MAX_DEPTH - 1} levels")
    if len(document) > MAX_RESULT_BYTES:
        raise ValueError(f"the result is {len(document):,} bytes of JSON; at most {MAX_RESULT_BYTES:,} are kept")
    return Fragment(document)


def attempts_allowed(data: dict[str, Any], settings: QueueSettings) -> int:
    """Attempts in all: what the job's JSON says, else the queue's."""
    retries = data.get("retries")
    return min(retries, MAX_ATTEMPTS) if isinstance(retries, int) and retries > 0 else settings.attempts


def attempts_so_far(data: dict[str, Any]) -> int:
    """Attempts that count.

    A job whose stored status is active lost its daemon in an attempt that was noted and does not count.
    """
    attempts = data.get("attempts")
    counted = min(attempts, MAX_ATTEMPTS) if isinstance(attempts, int) and attempts > 0 else 0
    return max(0, counted - 1) if data.get("status") == "active" else counted


def timeout_of(data: dict[str, Any], settings: QueueSettings) -> float | None:
    """Seconds an attempt may take: the job's JSON (0: no limit), else the queue's."""
    timeout = data.get("timeout")
    if isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout >= 0:
        return float(min(timeout, LONGEST_TIMEOUT_S)) or None
    return settings.timeout_seconds


def queued_at(data: dict[str, Any]) -> float:
    """When the job was added, in epoch seconds; 0 where its JSON does not say."""
    queued = data.get("queued")
    return min(queued, END_OF_TIME * 1000) / 1000 if isinstance(queued, int | float) and queued > 0 else 0.0


def timeline_entry(at: float, event: str, attempt: int, delivery: int, detail: str | None) -> bytes:
    """One entry of a job's timeline; `at` is epoch seconds."""
    if detail and len(detail) > MAX_DETAIL_CHARS:
        detail = "…" + detail[-MAX_DETAIL_CHARS:]
    fields = {"at": round(at, 3), "event": event, "attempt": attempt, "delivery": delivery, "detail": detail}
    return encode(fields)


def ended_document(data: dict[str, Any], status: str, error: str | None, now: float) -> bytes:
    """A job's JSON as it ends without having run to an end here; `now` is epoch seconds."""
    return encode({**data, "status": status, "error": error, "completed": int(now * 1000)})


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
