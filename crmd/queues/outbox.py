"""Outcomes on their way to the store, kept until it surely has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container

from crmd.store.replies import Outcome
from crmd.store.scripts import MAX_JOBS_PER_CALL

RESEND_WINDOW_S = 2.0
"""Outcomes are kept so long after their acknowledgement: a store that restarts may have lost its last second."""
RESEND_MAX = 10_000


class Outbox:
    """What one worker has to write, what is being written, and what was written lately."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self.pending: dict[str, Outcome] = {}
        """By job id; being written included."""
        self._monotonic = monotonic
        self._sending: set[str] = set()
        self._sent: deque[tuple[float, Outcome]] = deque(maxlen=RESEND_MAX)
        self._resent: set[str] = set()
        self._finished: deque[tuple[str, str]] = deque(maxlen=RESEND_MAX)

    def add(self, outcome: Outcome) -> None:
        """Notes an outcome to be written."""
        self.pending[outcome.job_id] = outcome

    def take(self) -> list[Outcome]:
        """Outcomes to write now; `written` or `failed` ends that."""
        batch = [one for one in self.pending.values() if one.job_id not in self._sending][:MAX_JOBS_PER_CALL]
        self._sending |= {outcome.job_id for outcome in batch}
        return batch

    def failed(self, batch: list[Outcome]) -> None:
        """The trip failed: they are to be written again."""
        self._sending -= {outcome.job_id for outcome in batch}

    def written(self, batch: list[Outcome], stale: list[str]) -> set[str]:
        """The store has them; returns the stale ids that are news, not those of a second writing."""
        now = self._monotonic()
        for outcome in batch:
            if self.pending.get(outcome.job_id) is outcome:
                del self.pending[outcome.job_id]
            self._sent.append((now, outcome))
            if outcome.kind.final:
                self._finished.append((outcome.job_id, outcome.kind.status))
        ids = {outcome.job_id for outcome in batch}
        news = set(stale) - self._resent
        self._sending -= ids
        self._resent -= ids
        self.forget_sent()
        return news

    def resend(self, running: Container[str]) -> None:
        """The store restarted and may have lost its last second: what was written lately is written again."""
        for _, outcome in self._sent:
            if outcome.job_id not in running and outcome.job_id not in self.pending:
                self.add(outcome)
                self._resent.add(outcome.job_id)  # the store most likely has it, and will call it stale
        self._sent.clear()

    def forget_sent(self) -> None:
        """Drops outcomes that were acknowledged so long ago that a restarting store cannot have lost them."""
        now = self._monotonic()
        while self._sent and now - self._sent[0][0] > RESEND_WINDOW_S:
            self._sent.popleft()

    def recently_finished(self) -> list[tuple[str, str]]:
        """Takes the (id, status) of jobs that ended since the last call."""
        finished = list(self._finished)
        self._finished.clear()
        return finished
