"""Watches the jobs that run: shows them as active, ends their time, frees the slots of what does not end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from crmd.engine.codec import encode
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL, QueueScripts
from crmd.engine.worker import aftermath
from crmd.engine.worker.context import Engine
from crmd.engine.worker.execution import CancelReason, Run
from crmd.errors import RequestError, StoreError

if TYPE_CHECKING:
    from crmd.engine.worker.runner import Runner

ACTIVE_AFTER_S = 0.05
"""A job that ends sooner never shows as active: that saves it a write."""
WATCH_EVERY_S = 0.025
FETCHED_FOR_S = 0.05
"""What was fetched ahead and could not begin within this time goes back: another daemon may have a slot."""


class RunWatch:
    """One timer for all jobs of a worker, while any runs."""

    def __init__(
        self,
        engine: Engine,
        scripts: QueueScripts,
        runner: Runner,
        in_background: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._engine = engine
        self._scripts = scripts
        self._runner = runner
        self._runs = runner.runs
        self._in_background = in_background
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Something runs: watch it."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self.run_once)

    def stop(self) -> None:
        """Watches no more. Fine twice."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def run_once(self) -> None:
        """Looks at every running job."""
        self._timer = None
        now, unmarked = self._engine.monotonic(), []
        for run in list(self._runs.values()):
            if run.task is None:
                continue  # fetched ahead: it has not begun
            if not run.marked and now - run.started_at >= ACTIVE_AFTER_S:
                unmarked.append(run)
            deadline = run.deadline
            if deadline is not None and now >= deadline:
                run.cancel(CancelReason.TIMEOUT, now)
            if run.cancel_reason is not None and now >= run.abandon_at:
                self._runner.abandon(run)
        self._runner.give_back_fetched(FETCHED_FOR_S)
        if unmarked:
            self._in_background(self.mark(unmarked))
        if self._runs:
            self.wake()

    async def mark(self, runs: Iterable[Run]) -> None:
        """Writes the state of running jobs to the store."""
        batch = [run for run in runs if not run.ended][:MAX_JOBS_PER_CALL]
        if not batch:
            return
        documents = []
        for run in batch:
            run.data.update(
                status="active",
                attempts=run.attempt,
                started=run.started_ms,
                touched=int(self._engine.now() * 1000),
                worker_id=self._engine.epoch,
            )
            documents.append((run.job_id, run.token, encode(run.data), not run.marked))
            run.marked = True
        try:
            verdicts = await self._scripts.mark(documents, {run.job_id for run in batch if run.advanced})
        except StoreError:
            return  # the outcome will say more than the mark would have
        self._apply(batch, verdicts)

    async def check(self) -> None:
        """Cancels what was aborted, or taken from us, while it runs."""
        runs = [run for run in self._runs.values() if run.cancel_reason is None]
        for start in range(0, len(runs), MAX_JOBS_PER_CALL):
            batch = runs[start : start + MAX_JOBS_PER_CALL]
            verdicts = await self._scripts.running((run.job_id, run.token) for run in batch)
            self._apply(batch, verdicts)

    def _apply(self, runs: list[Run], verdicts: list[int]) -> None:
        now = self._engine.monotonic()
        for run, verdict in zip(runs, verdicts, strict=True):
            if run.ended or verdict == 1:
                continue
            if verdict == -2:
                self._in_background(self._abort(run))
            else:
                run.cancel(CancelReason.LOST if verdict == 0 else CancelReason.ABORT, now)

    async def _abort(self, run: Run) -> None:
        """Cancels a job as a SAQ client asked by job.update(status=ABORTING), which leaves its id incomplete."""
        reason = await aftermath.why_aborted(run.worker, run)
        with contextlib.suppress(StoreError, RequestError):  # the next look finds it again
            await self._engine.control.cancel(run.queue, run.key, reason or "cancelled")
            run.cancel(CancelReason.ABORT, self._engine.monotonic(), reason)
