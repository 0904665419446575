"""Runs one job from its JSON to its ending. Only `ending` decides what becomes of it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from crmd.errors import IllegalTransition
from crmd.jobs import JobContext, JobSpec, NewPayload
from crmd.queues import ending
from crmd.queues.ending import Ending
from crmd.queues.plain import saq_job
from crmd.queues.run import Run, queued_at
from crmd.queues.views import NewJob

if TYPE_CHECKING:
    from crmd.queues.worker import CrmWorker

PROGRESS_EVERY_S = 0.2
"""Progress is stored at most so often: each time rewrites the job."""


async def execute(worker: CrmWorker, run: Run) -> Ending:
    """Finds the handler, validates, calls it, and says how it ended. Raises nothing, whatever the handler does."""
    engine, settings = worker.engine, worker.settings
    try:
        spec = engine.catalog.find(settings.name, run.name)
        if spec is None:
            waited = engine.now() - queued_at(run.data)
            return ending.not_known(run, settings, engine.catalog.names(settings.name), waited)
        result = await _call(worker, run, spec)
    except BaseException as error:  # SystemExit, KeyboardInterrupt, CancelledError and GeneratorExit included
        return ending.raised(error, run, settings, engine.now())
    return ending.returned(result)


async def _call(worker: CrmWorker, run: Run, spec: JobSpec) -> Any:
    kwargs = run.kwargs
    if spec.plain:
        context = {**worker.context, "job": saq_job(worker.queue, run, worker.engine.epoch), "queue": worker.queue}
        if spec.is_async:
            return await spec.function(context, **kwargs)
        return await _in_thread(worker, run, spec, context, kwargs)
    payload = spec.validate(kwargs)
    context_object = _context(worker, run)
    if spec.is_async:
        return await spec.function(context_object, payload)
    return await _in_thread(worker, run, spec, context_object, {"payload": payload})


async def _in_thread(worker: CrmWorker, run: Run, spec: JobSpec, context: Any, kwargs: Mapping[str, Any]) -> Any:
    variables = contextvars.copy_context()
    positional = (kwargs["payload"],) if not spec.plain else ()
    named = kwargs if spec.plain else {}
    result = await worker.engine.threads.call(
        lambda: variables.run(_contained, spec, context, positional, named),
        on_leak=lambda: worker.note_leak(run),
    )
    if isinstance(result, _Raised):
        raise result.error
    return result


class _Raised:
    """What a thread raised. As a value, so that SystemExit and StopIteration cross into the loop unharmed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _contained(spec: JobSpec, context: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    try:
        return spec.function(context, *positional, **named)
    except BaseException as error:  # handed over to execute(), which decides
        return _Raised(error)


def _context(worker: CrmWorker, run: Run) -> JobContext:
    engine = worker.engine
    return JobContext(
        queue=worker.settings.name,
        key=run.key,
        name=run.name,
        attempt=run.attempt,
        attempts=run.attempts,
        delivery=run.delivery,
        enqueued_at=queued_at(run.data),
        deadline=run.deadline,
        log=_JobLog(engine.log, {"queue": worker.settings.name, "job": run.name, "key": run.key}),
        _run=_RunningJob(worker, run),
        _resources=engine.resources,
        _loop=asyncio.get_running_loop(),
    )


class _JobLog(logging.LoggerAdapter[logging.Logger]):
    """Puts queue, job and key into each record's fields."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = dict(kwargs.get("extra") or {})
        extra["fields"] = {**(self.extra or {}), **extra.get("fields", {})}
        return msg, {**kwargs, "extra": extra}


class _RunningJob:
    """The engine's side of a job's context."""

    def __init__(self, worker: CrmWorker, run: Run) -> None:
        self._worker = worker
        self._run = run

    async def progress(self, fraction: float, note: str | None) -> None:
        run, now = self._run, self._worker.engine.monotonic()
        run.data["progress"] = min(max(0.0, float(fraction)), 1.0)  # in this order NaN is 0
        if note is not None:
            meta = run.data.get("meta")
            run.data["meta"] = {**(meta if isinstance(meta, dict) else {}), "progress_note": str(note)[:500]}
        if now - run.progress_at >= PROGRESS_EVERY_S:
            run.progress_at = now
            await self._worker.watch.mark([run])

    async def effect_begun(self) -> None:
        run = self._run
        if not await self._worker.scripts.begin_effect(run.job_id, run.token):
            raise IllegalTransition(
                f"job {run.key} was cancelled, or is no longer this daemon's: its effect is not begun"
            )
        run.begun = True

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        new = [NewJob(job=name, payload=dict(payload), **_times(options)) for payload, options in jobs]
        return [added.key for added in await self._worker.engine.control.enqueue(queue, new)]


def _times(options: Mapping[str, Any]) -> dict[str, Any]:
    at = options.get("at")
    return {**options, "at": at.timestamp()} if isinstance(at, datetime) else dict(options)
