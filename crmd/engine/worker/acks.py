"""Acks: what the store is told of an execution, and the buffer that keeps each until the store safely has it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from typing import Any

from crmd.engine.codec import (
    Unreadable,
    completed_document,
    decode,
    encode,
    ended_document,
    timeline_entry,
)
from crmd.engine.store.keys import QueueKeys
from crmd.engine.store.replies import Ack, AckKind, Inspected
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL, POISON_AFTER_CRASHES
from crmd.engine.worker.execution import Execution, Outcome

LONGEST_TTL_S = 10 * 365 * 86_400
"""The store refuses times to live that are far longer, and with them all acks of the trip."""
RESEND_WINDOW_S = 2.0
"""Acks are kept this long after they were written: a store that restarts may have lost its last second."""
RESEND_MAX = 10_000
"""So many at most, of the latest trips."""

Batch = list[Ack]

_RECOVERED = {
    "unknown": (AckKind.UNKNOWN, "job.unknown", "outcome unknown: its daemon died after the effect had begun"),
    "poison": (
        AckKind.FAILED,
        "job.poisoned",
        f"poison: its daemon died {POISON_AFTER_CRASHES} times while it ran",
    ),
    "aborted": (AckKind.ABORTED, "job.cancelled", "cancelled"),
}


class AckBuffer:
    """What one worker has to write, what is being written, and what was written lately."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._new: dict[str, Ack] = {}
        self._sending: dict[str, Ack] = {}
        self._sent: deque[tuple[float, Batch]] = deque()
        self._sent_count = 0
        self._unread: deque[Batch] = deque()
        self._unread_count = 0
        self._resent: set[str] = set()
        self._doubtful: set[str] = set()

    def __bool__(self) -> bool:
        """Whether anything is not written yet."""
        return bool(self._new or self._sending)

    def __contains__(self, job_id: str) -> bool:
        """Whether the job's ack is not written yet."""
        return job_id in self._new or job_id in self._sending

    def unwritten(self) -> Batch:
        """What is not written yet."""
        return [*self._sending.values(), *self._new.values()]

    def clear(self) -> None:
        """Forgets what is not written yet, as the death of the daemon does."""
        self._new.clear()
        self._sending.clear()
        self._doubtful.clear()

    def add(self, ack: Ack) -> None:
        """Notes an ack to be written."""
        self._new[ack.job_id] = ack

    def take_batch(self) -> Batch:
        """Acks to write now; `written` or `failed` ends that. One of a job that is being written waits."""
        new, sending = self._new, self._sending
        if not new:
            return []
        if len(new) <= MAX_JOBS_PER_CALL and (not sending or sending.keys().isdisjoint(new)):
            taken, self._new = new, {}
        else:
            ids = [job_id for job_id in new if job_id not in sending][:MAX_JOBS_PER_CALL]
            taken = {job_id: new.pop(job_id) for job_id in ids}
        sending.update(taken)
        return list(taken.values())

    def failed(self, batch: Batch) -> None:
        """The trip failed: they are to be written again. Perhaps only its answer was lost."""
        for ack in batch:
            del self._sending[ack.job_id]
            self._new.setdefault(ack.job_id, ack)
            self._doubtful.add(ack.job_id)

    def written(self, batch: Batch, stale: Container[str]) -> tuple[Batch, Batch]:
        """The store has answered: which it refused, and which it may have refused because it had them already.

        Those of the latest trips, written again after a restart, are neither.
        """
        for ack in batch:
            del self._sending[ack.job_id]
        refused, doubtful = Batch(), Batch()
        for ack in batch if stale else ():
            if ack.job_id in stale and ack.job_id not in self._resent:
                (doubtful if ack.job_id in self._doubtful else refused).append(ack)
        if self._resent or self._doubtful:
            written = {ack.job_id for ack in batch}
            self._resent -= written
            self._doubtful -= written
        self._sent.append((self._monotonic(), batch))
        self._sent_count += len(batch)
        self._unread.append(batch)
        self._unread_count += len(batch)
        while self._unread_count > RESEND_MAX:
            self._unread_count -= len(self._unread.popleft())
        self.forget_sent()
        return refused, doubtful

    def resend(self, running: Container[str]) -> None:
        """The store restarted and may have lost its last second: what was written lately is written again."""
        for _, batch in self._sent:
            for ack in batch:
                if ack.job_id not in running and ack.job_id not in self:
                    ack.event = ()
                    self.add(ack)
                    self._resent.add(ack.job_id)  # the store most likely has it, and will call it stale
        self._sent.clear()
        self._sent_count = 0

    def forget_sent(self) -> None:
        """Drops acks that were written so long ago that a restarting store cannot have lost them."""
        oldest = self._monotonic() - RESEND_WINDOW_S
        while self._sent and (self._sent[0][0] < oldest or self._sent_count > RESEND_MAX):
            self._sent_count -= len(self._sent.popleft()[1])

    def recently_finished(self) -> list[tuple[str, str]]:
        """Takes the (id, status) of jobs that ended since the last call."""
        finished = [(ack.job_id, ack.kind.status) for batch in self._unread for ack in batch if ack.kind.final]
        self._unread.clear()
        self._unread_count = 0
        return finished


def ack_of(execution: Execution, outcome: Outcome, now: float) -> Ack:
    """What the store is told of an attempt that ended; `now` is epoch seconds."""
    kind, now_ms = outcome.kind, int(now * 1000)
    if kind is AckKind.COMPLETE and not execution.marked and outcome.result is not None and execution.untouched:
        document = completed_document(
            execution.document, execution.seen, execution.started_ms, now_ms, outcome.result.raw
        )
        if document is not None:
            return Ack(execution.job_id, execution.token, kind, document, _ttl(execution.seen))
    data = execution.data
    if kind.final:
        _finish(execution, outcome, now_ms)
        number = _ttl(data)
    else:
        _put_back(execution, outcome, now_ms)
        number = max(0, round(outcome.delay * 1000))
    untouched = kind is AckKind.RETURN and not execution.marked and outcome.error is None
    entry = b""
    if kind is not AckKind.COMPLETE:
        entry = timeline_entry(now, outcome.event, execution.attempt, execution.delivery, outcome.error)
    return Ack(
        execution.job_id,
        execution.token,
        kind,
        b"" if untouched else encode(data),
        number,
        entry,
        execution.marked,
    )


def ack_of_recovered(k: QueueKeys, job_id: str, token: str, document: bytes, end: str, now: float) -> Ack:
    """What the store is told of a job that must not run again; `end` is unknown, poison or aborted."""
    kind, event, error = _RECOVERED[end]
    announced = (event, {"queue": k.name, "key": k.key_of(job_id), "error": error})
    try:
        data = decode(document)
    except Unreadable:
        return Ack(job_id, token, kind, b"", 0, timeline_entry(now, end, 0, 0, error), event=announced)
    if end == "aborted":
        error = data.get("error") or error
    entry = timeline_entry(now, end, data.get("attempts") or 0, 0, error)
    ended = ended_document(data, kind.status, error, now)
    return Ack(job_id, token, kind, ended, 0, entry, event=announced)


def ack_of_aborted(ack: Ack) -> Ack:
    """What the store is told of a job that an abort took while it was being put back: it ends as cancelled."""
    document = ack.document
    if document:
        document = encode({**decode(document), "status": "aborted", "error": "cancelled"})
    ended = Ack(ack.job_id, ack.token, AckKind.ABORTED, document)
    if ack.event:
        ended.event = ("job.cancelled", {**ack.event[1], "error": "cancelled"})
    return ended


def is_written(ack: Ack, found: Inspected) -> bool:
    """Whether the store has an ack that it called stale, or nothing any more that would tell."""
    if found.document is None:
        return True
    if ack.entry:
        return ack.entry in found.log
    return ack.document in (b"", found.document)


def _finish(execution: Execution, outcome: Outcome, now_ms: int) -> None:
    data = execution.data
    data["status"] = outcome.kind.status
    data["attempts"] = execution.attempt
    data["started"] = execution.started_ms
    data["completed"] = now_ms
    if outcome.kind is AckKind.COMPLETE:
        data["progress"] = 1.0
        data.pop("error", None)
        if outcome.result is not None:
            data["result"] = outcome.result
    else:
        data["error"] = outcome.error


def _put_back(execution: Execution, outcome: Outcome, now_ms: int) -> None:
    data = execution.data
    data["status"] = "queued"
    data["attempts"] = execution.attempt if outcome.counts else execution.attempt - 1
    data["touched"] = now_ms
    for name in ("started", "completed", "progress", "worker_id"):
        data.pop(name, None)
    if outcome.error is not None:
        data["error"] = outcome.error


def _ttl(data: dict[str, Any]) -> int:
    ttl = data.get("ttl")
    return min(ttl, LONGEST_TTL_S) if isinstance(ttl, int) and not isinstance(ttl, bool) and ttl >= -1 else 0
