"""Turns endings into what the store keeps: the job's JSON, and entries of its timeline."""

from __future__ import annotations

from typing import Any

from crmd.engine.codec import completed_document, encode, timeline_entry
from crmd.engine.store.replies import Ack, AckKind, Inspected
from crmd.engine.worker.ending import Ending
from crmd.engine.worker.execution import Run

LONGEST_TTL_S = 10 * 365 * 86_400
"""The store refuses times to live that are far longer, and with them all outcomes of the trip."""


def outcome_of(run: Run, ending: Ending, now: float) -> Ack:
    """What settle writes for an attempt that ended; `now` is epoch seconds."""
    kind, now_ms = ending.kind, int(now * 1000)
    if kind is AckKind.COMPLETE and not run.marked and ending.result is not None and run.untouched:
        document = completed_document(run.document, run.seen, run.started_ms, now_ms, ending.result.raw)
        if document is not None:
            return Ack(run.job_id, run.token, kind, document, _ttl(run.seen))
    data = run.data
    if kind.final:
        _finish(run, ending, now_ms)
        number = _ttl(data)
    else:
        _put_back(run, ending, now_ms)
        number = max(0, round(ending.delay * 1000))
    untouched = kind is AckKind.RETURN and not run.marked and ending.error is None
    return Ack(
        run.job_id,
        run.token,
        kind,
        b"" if untouched else encode(data),
        number,
        b""
        if kind is AckKind.COMPLETE
        else timeline_entry(now, ending.event, run.attempt, run.delivery, ending.error),
        run.marked,
    )


def is_written(outcome: Ack, found: Inspected) -> bool:
    """Whether the store has an outcome that it called stale, or nothing any more that would tell."""
    if found.document is None:
        return True
    if outcome.entry:
        return outcome.entry in found.log
    return outcome.document in (b"", found.document)


def quarantine_entry(job_id: str, document: bytes, reason: str, now: float) -> dict[str, Any]:
    """What is kept of an entry that could not be read."""
    return {
        "at": round(now, 3),
        "id": job_id,
        "reason": reason,
        "raw": document[:10_000].decode("utf-8", "backslashreplace"),
    }


def _finish(run: Run, ending: Ending, now_ms: int) -> None:
    data = run.data
    data["status"] = ending.kind.status
    data["attempts"] = run.attempt
    data["started"] = run.started_ms
    data["completed"] = now_ms
    if ending.kind is AckKind.COMPLETE:
        data["progress"] = 1.0
        data.pop("error", None)
        if ending.result is not None:
            data["result"] = ending.result
    else:
        data["error"] = ending.error


def _put_back(run: Run, ending: Ending, now_ms: int) -> None:
    data = run.data
    data["status"] = "queued"
    data["attempts"] = run.attempt if ending.counts else run.attempt - 1
    data["touched"] = now_ms
    for name in ("started", "completed", "progress", "worker_id"):
        data.pop(name, None)
    if ending.error is not None:
        data["error"] = ending.error


def _ttl(data: dict[str, Any]) -> int:
    ttl = data.get("ttl")
    return min(ttl, LONGEST_TTL_S) if isinstance(ttl, int) and not isinstance(ttl, bool) and ttl >= -1 else 0
