"""Runs the jobs of one worker: from their JSON to their outcomes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from crmd.engine.codec import Unreadable, attempts_allowed, attempts_so_far, decode, timeout_of
from crmd.engine.store.replies import Ack, AckKind, Claimed
from crmd.engine.worker import aftermath, executor
from crmd.engine.worker.ending import Ending, cancelled, not_known, raised, returned
from crmd.engine.worker.execution import CancelReason, Run
from crmd.engine.worker.outcomes import outcome_of

if TYPE_CHECKING:
    from crmd.engine.worker.worker import CrmWorker


SHORT_S = 0.005
SHORT_IN_A_ROW = 50
"""After so many jobs that each ended within SHORT_S, jobs are fetched ahead."""
FETCHED = 100
"""Jobs that run or were fetched ahead, where a queue has fewer slots: a trip costs as much as several jobs."""


class Runner:
    """One for each worker. It puts what became of a job into the worker's outbox.

    Where jobs are short it also holds some that were fetched ahead: they are leased like those that run, and begin
    as soon as a slot is free.
    """

    def __init__(self, worker: CrmWorker) -> None:
        self._worker = worker
        self._prefix_length = len(worker.scripts.keys.job_prefix)
        self._fetched: deque[Run] = deque()
        self._short = 0
        self.runs: dict[str, Run] = {}
        """The jobs that run now or were fetched ahead, by id."""

    @property
    def active(self) -> int:
        """Jobs that run now."""
        return len(self.runs) - len(self._fetched)

    @property
    def capacity(self) -> int:
        """How many jobs the worker may hold."""
        settings = self._worker.settings
        if self._short < SHORT_IN_A_ROW or settings.rate_limit or settings.limits:
            return settings.concurrency  # a limit takes the claim for the start
        return max(settings.concurrency, FETCHED)

    def begin(self, token: str, claimed: Claimed) -> list[Run]:
        """Holds what a claim brought and begins what there is a slot for; what cannot be read is set aside."""
        if claimed.reason in ("limited", "blocked"):
            self._short = 0
        now = self._worker.engine.monotonic()
        held = [run for job in claimed.jobs if (run := self._hold(token, *job, now))]
        self._fetched += held
        self._fill()
        self._worker.watch.wake()
        return held

    def give_back_fetched(self, waited: float = 0.0) -> None:
        """Gives back what was fetched ahead where the first of it has waited so many seconds for a slot."""
        now = self._worker.engine.monotonic()
        if not self._fetched or now - self._fetched[0].started_at < waited:
            return
        self._short = 0
        for run in list(self._fetched):
            run.cancel(CancelReason.DRAIN, now)

    def withdraw(self, run: Run) -> None:
        """Ends or gives back a cancelled job that has not begun."""
        self._fetched.remove(run)
        if run.cancel_reason is CancelReason.DRAIN:
            run.ended = True
            del self.runs[run.job_id]
            self._worker.outbox.add(Ack(run.job_id, run.token, AckKind.RETURN))
            self._worker.wake()
        else:
            run.task = asyncio.create_task(self._end(run, cancelled(run, self._worker.settings)), name=run.key)

    def _hold(self, token: str, job_id: str, document: bytes, deaths: int, monotonic: float) -> Run | None:
        try:
            data = decode(document)
            name = data.get("function")
            if not isinstance(name, str) or not isinstance(data.get("kwargs"), dict | None):
                raise Unreadable("has no function name, or arguments that are no object")
        except Unreadable as error:
            self._worker.chore(aftermath.quarantine(self._worker, token, job_id, document, str(error)))
            return None
        settings = self._worker.settings
        run = Run(
            self._worker,
            job_id,
            job_id[self._prefix_length :],
            token,
            document,
            data,
            name,
            attempts_so_far(data) + 1,
            attempts_allowed(data, settings),
            deaths,
            timeout_of(data, settings),
            0,
            monotonic,
        )
        self.runs[job_id] = run
        return run

    def _fill(self) -> None:
        """Begins what was fetched, in the slots that are free."""
        free = self._worker.settings.concurrency - self.active
        if free <= 0 or not self._fetched:
            return
        engine, loop = self._worker.engine, asyncio.get_running_loop()
        now_ms, monotonic = int(engine.now() * 1000), engine.monotonic()
        for _ in range(min(free, len(self._fetched))):
            run = self._fetched.popleft()
            run.started_ms, run.started_at = now_ms, monotonic
            # Not by create_task, which names a task in a second, slower step.
            run.task = asyncio.Task(self._execute(run), loop=loop, name=run.key)

    async def _execute(self, run: Run) -> None:
        """Runs a job to its end, whatever its handler does."""
        worker, engine = self._worker, self._worker.engine
        try:
            spec = engine.catalog.find(worker.settings.name, run.name)
            ending = self._not_known(run) if spec is None else returned(await executor.call(worker, run, spec))
        except BaseException as error:  # SystemExit, KeyboardInterrupt, CancelledError and GeneratorExit included
            ending = raised(error, run, worker.settings, engine.now())
        if run.ended:
            engine.leaked -= 1
        else:
            await self._end(run, ending)

    async def _end(self, run: Run, ending: Ending) -> None:
        worker = self._worker
        if ending.pause is not None or ending.slow_down is not None:
            await aftermath.act_on_queue(worker, run, ending)
        if ending.kind is AckKind.ABORTED:
            ending = await aftermath.taken_away(worker, run, ending)
        if not run.ended:
            self._conclude(run, ending)

    def _not_known(self, run: Run) -> Ending:
        engine, settings = self._worker.engine, self._worker.settings
        names = engine.catalog.names(settings.name)
        return not_known(run, settings, names, engine.now() - run.enqueued_at)

    def _conclude(self, run: Run, ending: Ending) -> None:
        run.ended = True
        self.runs.pop(run.job_id, None)
        self._fill()
        self._worker.wake()
        if run.cancel_reason is CancelReason.LOST:
            return
        engine = self._worker.engine
        outcome = outcome_of(run, ending, engine.now())
        seconds = engine.monotonic() - run.started_at
        self._short = self._short + 1 if seconds < SHORT_S else 0
        if ending.kind is AckKind.COMPLETE:
            outcome.event = (run.key, run.name, run.attempt, seconds)
        else:
            outcome.event = (f"job.{ending.event}", self._fields(run, ending, seconds))
        self._worker.outbox.add(outcome)

    def _fields(self, run: Run, ending: Ending, seconds: float) -> dict[str, Any]:
        return {
            "queue": self._worker.settings.name,
            "job": run.name,
            "key": run.key,
            "attempt": run.attempt,
            "seconds": seconds,
            "error": ending.error,
        }

    def abandon(self, run: Run) -> None:
        """Frees the slot of a job whose handler did not end when cancelled."""
        if not run.ended:
            self._worker.engine.leaked += 1
            self.note_leak(run)
            self._conclude(run, cancelled(run, self._worker.settings))

    def note_leak(self, run: Run) -> None:
        """Says that a handler goes on although its job was given up."""
        self._worker.engine.events.emit(
            "job.slot_leaked", queue=self._worker.settings.name, key=run.key, job=run.name
        )
