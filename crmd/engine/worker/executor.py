"""Calls a job's handler. Only `ending` decides what becomes of the job."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from crmd.engine.saq.plain import saq_job
from crmd.engine.worker.execution import Run
from crmd.jobs import JobContext, JobSpec

if TYPE_CHECKING:
    from crmd.engine.worker.worker import CrmWorker


def call(worker: CrmWorker, run: Run, spec: JobSpec) -> Awaitable[Any]:
    """Validates the payload and begins the call; raises InvalidPayload."""
    if spec.plain:
        return _call_plain(worker, run, spec)
    if spec.check_in_thread:
        return _call_when_checked(worker, run, spec)
    return _call_with(worker, run, spec, spec.validate(run.kwargs))


async def _call_when_checked(worker: CrmWorker, run: Run, spec: JobSpec) -> Any:
    payload = await worker.engine.threads.call(lambda: spec.validate(run.kwargs), on_leak=lambda: None)
    return await _call_with(worker, run, spec, payload)


def _call_with(worker: CrmWorker, run: Run, spec: JobSpec, payload: Any) -> Awaitable[Any]:
    context = JobContext(run, worker.engine.resources)
    if spec.is_async:
        called: Awaitable[Any] = spec.function(context, payload)
        return called
    return _in_thread(worker, run, spec, context, (payload,), {})


def _call_plain(worker: CrmWorker, run: Run, spec: JobSpec) -> Awaitable[Any]:
    job = saq_job(worker.queue, run, worker.engine.epoch)
    context = {**worker.context, "job": job, "queue": worker.queue}
    if spec.is_async:
        called: Awaitable[Any] = spec.function(context, **run.kwargs)
        return called
    return _in_thread(worker, run, spec, context, (), run.kwargs)


async def _in_thread(
    worker: CrmWorker,
    run: Run,
    spec: JobSpec,
    context: Any,
    positional: tuple[Any, ...],
    named: Mapping[str, Any],
) -> Any:
    variables = contextvars.copy_context()
    result = await worker.engine.threads.call(
        lambda: variables.run(_contained, spec, context, positional, named),
        on_leak=lambda: worker.runner.note_leak(run),
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
    except BaseException as error:  # handed over to the loop, where the ending is decided
        return _Raised(error)
