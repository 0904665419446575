"""Runs the jobs of one worker: from their JSON to their outcomes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from crmd.queues import aftermath, executor
from crmd.queues.codec import Unreadable, decode
from crmd.queues.ending import Ending, cancelled, not_known, raised, returned
from crmd.queues.outcomes import outcome_of
from crmd.queues.run import CancelReason, Run, attempts_allowed, attempts_so_far, timeout_of
from crmd.store.replies import Claimed, Kind

if TYPE_CHECKING:
    from crmd.queues.worker import CrmWorker


class Runner:
    """One for each worker. It puts what became of a job into the worker's outbox."""

    def __init__(self, worker: CrmWorker) -> None:
        self._worker = worker
        self._prefix_length = len(worker.scripts.keys.job_prefix)
        self._completed: list[tuple[str, str, int, float]] = []
        self.runs: dict[str, Run] = {}
        """The jobs that run now, by id."""

    def begin(self, token: str, claimed: Claimed) -> list[Run]:
        """Begins what a claim brought; what cannot be read is set aside."""
        engine = self._worker.engine
        now_ms, monotonic = int(engine.now() * 1000), engine.monotonic()
        begun = [self._begin(token, *job, now_ms, monotonic) for job in claimed.jobs]
        self._worker.watch.wake()
        return [run for run in begun if run]

    def _begin(
        self, token: str, job_id: str, document: bytes, deaths: int, now_ms: int, monotonic: float
    ) -> Run | None:
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
            now_ms,
            monotonic,
        )
        self.runs[job_id] = run
        # Not by create_task, which names a task in a second, slower step.
        run.task = asyncio.Task(self._execute(run), loop=asyncio.get_running_loop(), name=run.key)
        return run

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
            return
        if ending.pause is not None or ending.slow_down is not None:
            await aftermath.act_on_queue(worker, run, ending)
        if ending.kind is Kind.ABORTED:
            ending = replace(ending, error=await aftermath.why_aborted(worker, run) or ending.error)
        if not run.ended:
            self._conclude(run, ending)

    def _not_known(self, run: Run) -> Ending:
        engine, settings = self._worker.engine, self._worker.settings
        names = engine.catalog.names(settings.name)
        return not_known(run, settings, names, engine.now() - run.enqueued_at)

    def _conclude(self, run: Run, ending: Ending) -> None:
        run.ended = True
        self.runs.pop(run.job_id, None)
        self._worker.wake()
        if run.cancel_reason is CancelReason.LOST:
            return
        engine = self._worker.engine
        self._worker.outbox.add(outcome_of(run, ending, engine.now()))
        seconds = engine.monotonic() - run.started_at
        if ending.kind is Kind.COMPLETE:
            self._completed.append((run.key, run.name, run.attempt, seconds))
            return
        engine.events.emit(
            f"job.{ending.event}",
            queue=self._worker.settings.name,
            job=run.name,
            key=run.key,
            attempt=run.attempt,
            seconds=seconds,
            error=ending.error,
        )

    def tell_completed(self) -> None:
        """One event for the jobs of a trip: one for each would cost a good part of a short job."""
        if self._completed:
            completed, self._completed = self._completed, []
            self._worker.engine.events.emit("job.completed", queue=self._worker.settings.name, jobs=completed)

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
