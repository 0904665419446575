"""Outcomes on their way to the store, kept until it surely has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container

from crmd.engine.store.replies import Ack
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL

RESEND_WINDOW_S = 2.0
"""Outcomes are kept so long after their acknowledgement: a store that restarts may have lost its last second."""
RESEND_MAX = 10_000
"""So many at most, of the latest trips."""

Batch = list[Ack]


class Outbox:
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
        """Whether the job's outcome is not written yet."""
        return job_id in self._new or job_id in self._sending

    def unwritten(self) -> Batch:
        """What is not written yet."""
        return [*self._sending.values(), *self._new.values()]

    def clear(self) -> None:
        """Forgets what is not written yet, as the death of the daemon does."""
        self._new.clear()
        self._sending.clear()
        self._doubtful.clear()

    def add(self, outcome: Ack) -> None:
        """Notes an outcome to be written."""
        self._new[outcome.job_id] = outcome

    def take(self) -> Batch:
        """Outcomes to write now; `written` or `failed` ends that. One of a job that is being written waits."""
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
        for outcome in batch:
            del self._sending[outcome.job_id]
            self._new.setdefault(outcome.job_id, outcome)
            self._doubtful.add(outcome.job_id)

    def written(self, batch: Batch, stale: Container[str]) -> tuple[Batch, Batch]:
        """The store has answered: which it refused, and which it may have refused because it had them already.

        Those of the latest trips, written again after a restart, are neither.
        """
        for outcome in batch:
            del self._sending[outcome.job_id]
        refused, doubtful = Batch(), Batch()
        for outcome in batch if stale else ():
            if outcome.job_id in stale and outcome.job_id not in self._resent:
                (doubtful if outcome.job_id in self._doubtful else refused).append(outcome)
        if self._resent or self._doubtful:
            written = {outcome.job_id for outcome in batch}
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
            for outcome in batch:
                if outcome.job_id not in running and outcome.job_id not in self:
                    outcome.event = ()
                    self.add(outcome)
                    self._resent.add(outcome.job_id)  # the store most likely has it, and will call it stale
        self._sent.clear()
        self._sent_count = 0

    def forget_sent(self) -> None:
        """Drops outcomes that were acknowledged so long ago that a restarting store cannot have lost them."""
        oldest = self._monotonic() - RESEND_WINDOW_S
        while self._sent and (self._sent[0][0] < oldest or self._sent_count > RESEND_MAX):
            self._sent_count -= len(self._sent.popleft()[1])

    def recently_finished(self) -> list[tuple[str, str]]:
        """Takes the (id, status) of jobs that ended since the last call."""
        finished = [(o.job_id, o.kind.status) for batch in self._unread for o in batch if o.kind.final]
        self._unread.clear()
        self._unread_count = 0
        return finished
