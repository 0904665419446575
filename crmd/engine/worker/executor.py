"""Runs the jobs of one queue: from what a claim brought to the ack of what became of each job."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from crmd.engine.admin.control import Control
from crmd.engine.admin.views import NewJob
from crmd.engine.codec import Unreadable, attempts_allowed, attempts_so_far, decode, encode, timeout_of
from crmd.engine.settings import QueueSettings
from crmd.engine.store.limits import limit_keys
from crmd.engine.store.replies import Ack, AckKind, Claimed
from crmd.engine.store.scripts import MAX_JOBS_PER_CALL, QueueScripts
from crmd.engine.worker.acks import AckBuffer, ack_of
from crmd.engine.worker.background import BackgroundTasks
from crmd.engine.worker.context import Clock
from crmd.engine.worker.execution import (
    CancelReason,
    Execution,
    Outcome,
    as_stored,
    cancelled,
    error_in,
    not_known,
    raised,
    returned,
)
from crmd.engine.worker.threads import HandlerThreads
from crmd.errors import IllegalTransition, RequestError, StoreError
from crmd.jobs import Catalog, JobContext, JobSpec, NewPayload
from crmd.telemetry.events import Events

SHORT_S = 0.005
SHORT_IN_A_ROW = 50
"""After this many jobs that each ended within SHORT_S, jobs are fetched ahead."""
FETCHED = 100
"""Jobs that run or were fetched ahead, where a queue has fewer slots: a trip costs as much as several jobs."""
FETCHED_FOR_S = 0.05
"""What was fetched ahead and could not begin within this time goes back: another daemon may have a slot."""
ACTIVE_AFTER_S = 0.05
"""A job that ends sooner never shows as active: that saves it a write."""
WATCH_EVERY_S = 0.025
CANCEL_GRACE_S = 1.0
"""A handler that is cancelled has this long to end; then its slot is freed and it is counted as leaked."""
PROGRESS_EVERY_S = 0.2
"""Progress is stored at most so often: each time rewrites the job."""
ADVANCE = 0.01
"""By this much a job must get further than any delivery that was lost, so that its crashes count no more."""


@dataclass(frozen=True, slots=True)
class ExecutorParts:
    """What an executor is given to run jobs with."""

    scripts: QueueScripts
    control: Control
    """Adds, pauses and cancels for handlers and clients."""
    clock: Clock
    events: Events
    acks: AckBuffer
    """Takes what became of each job."""
    threads: HandlerThreads
    """Runs sync handlers."""
    background: BackgroundTasks
    plain_context: Callable[[Execution], dict[str, Any]]
    """The first argument of a plain SAQ function."""
    ended: asyncio.Event
    """Set whenever a job ended: there is an ack to write, and a slot to fill."""
    report: Callable[[str], None]
    """Hears why the queue could not be paused or slowed."""
    instance_id: str
    log: logging.Logger


class Executor:
    """Holds what claims brought, runs it, and puts an ack of what became of it into the buffer.

    Where jobs are short it also holds some that were fetched ahead: they are leased like those that run, and begin
    as soon as a slot is free.
    """

    def __init__(
        self, settings: QueueSettings, catalog: Catalog, resources: Mapping[type, Any], parts: ExecutorParts
    ) -> None:
        self.configure(settings, catalog, resources)
        self._parts = parts
        self._scripts, self._clock, self._acks = parts.scripts, parts.clock, parts.acks
        self._prefix_length = len(parts.scripts.keys.job_prefix)
        self._fetched: deque[Execution] = deque()
        self._short = 0
        self.executions: dict[str, Execution] = {}
        """The jobs that run now or were fetched ahead, by id."""
        self.leaked = 0
        """Async handlers that ignored being cancelled and still run."""

    def configure(self, settings: QueueSettings, catalog: Catalog, resources: Mapping[type, Any]) -> None:
        """Applies other settings, jobs and clients; attempts that run keep their time limit and clients."""
        self._settings, self._catalog, self._resources = settings, catalog, resources

    @property
    def active(self) -> int:
        """How many jobs run now; those that are fetched ahead do not count."""
        return len(self.executions) - len(self._fetched)

    @property
    def capacity(self) -> int:
        """How many jobs it may hold."""
        settings = self._settings
        if self._short < SHORT_IN_A_ROW or settings.rate_limit or settings.limits:
            return settings.concurrency  # a limit takes the claim for the start
        return max(settings.concurrency, FETCHED)

    # From a claim to a task

    def begin(self, token: str, claimed: Claimed) -> list[Execution]:
        """Holds what a claim brought and begins what there is a slot for; sets aside what cannot be read."""
        if claimed.reason in ("limited", "blocked"):
            self._short = 0
        now = self._clock.monotonic()
        held = [execution for job in claimed.jobs if (execution := self._admit(token, *job, now))]
        self._fetched += held
        self._fill()
        return held

    def set_aside_invalid(self, token: str, claimed: Claimed) -> None:
        """Quarantines what a claim brought under an id that is not text."""
        for raw_id, document in claimed.invalid_ids:
            self._parts.background.start(self._quarantine(token, raw_id, document, "its id is not UTF-8"))

    def _admit(
        self, token: str, job_id: str, document: bytes, crash_count: int, monotonic: float
    ) -> Execution | None:
        try:
            data = decode(document)
            name = data.get("function")
            if not isinstance(name, str) or not isinstance(data.get("kwargs"), dict | None):
                raise Unreadable("has no function name, or arguments that are not an object")
        except Unreadable as error:
            self._parts.background.start(self._quarantine(token, job_id, document, str(error)))
            return None
        settings = self._settings
        execution = Execution(
            settings.name,
            job_id,
            job_id[self._prefix_length :],
            token,
            document,
            data,
            name,
            attempts_so_far(data) + 1,
            attempts_allowed(data, settings),
            crash_count,
            timeout_of(data, settings),
            0,
            monotonic,
        )
        self.executions[job_id] = execution
        return execution

    async def _quarantine(self, token: str, job_id: str | bytes, document: bytes, reason: str) -> None:
        """Sets an entry aside that cannot be read."""
        shown = job_id if isinstance(job_id, str) else job_id.decode("utf-8", "backslashreplace")
        entry = {
            "at": round(self._clock.now(), 3),
            "id": shown,
            "reason": reason,
            "raw": document[:10_000].decode("utf-8", "backslashreplace"),
        }
        with contextlib.suppress(StoreError):  # the lease stays, and is given back by reconciling
            if await self._scripts.quarantine(job_id, token, orjson.dumps(entry)):
                key = self._scripts.keys.key_of(shown)
                self._parts.events.emit("job.quarantined", queue=self._settings.name, key=key, reason=reason)

    def _fill(self) -> None:
        """Begins what was fetched, in the slots that are free."""
        free = self._settings.concurrency - self.active
        if free <= 0 or not self._fetched:
            return
        loop = asyncio.get_running_loop()
        now_ms, monotonic = int(self._clock.now() * 1000), self._clock.monotonic()
        for _ in range(min(free, len(self._fetched))):
            execution = self._fetched.popleft()
            execution.started_ms, execution.started_at = now_ms, monotonic
            # Not by create_task, which names a task in a second, slower step.
            execution.task = asyncio.Task(self._execute(execution), loop=loop, name=execution.key)

    # The life of one job

    async def _execute(self, execution: Execution) -> None:
        """Runs a job to its end, whatever its handler does."""
        try:
            spec = self._catalog.find(self._settings.name, execution.name)
            outcome = self._not_known(execution) if spec is None else returned(await self._call(execution, spec))
        except BaseException as error:  # SystemExit, KeyboardInterrupt, CancelledError and GeneratorExit included
            outcome = raised(error, execution, self._settings, self._clock.now())
        if execution.ended:
            self.leaked -= 1
        else:
            await self._end(execution, outcome)

    def _not_known(self, execution: Execution) -> Outcome:
        names = self._catalog.names(self._settings.name)
        return not_known(execution, self._settings, names, self._clock.now() - execution.enqueued_at)

    def _call(self, execution: Execution, spec: JobSpec) -> Awaitable[Any]:
        """Validates the payload and begins the handler; raises InvalidPayload."""
        if spec.plain:
            return self._call_plain(execution, spec)
        if spec.check_in_thread:
            return self._call_when_checked(execution, spec)
        return self._call_with(execution, spec, spec.validate(execution.kwargs))

    async def _call_when_checked(self, execution: Execution, spec: JobSpec) -> Any:
        payload = await self._parts.threads.call(lambda: spec.validate(execution.kwargs), on_leak=lambda: None)
        return await self._call_with(execution, spec, payload)

    def _call_with(self, execution: Execution, spec: JobSpec, payload: Any) -> Awaitable[Any]:
        context = JobContext(execution, self, self._resources)
        if spec.is_async:
            called: Awaitable[Any] = spec.function(context, payload)
            return called
        return self._call_in_thread(execution, spec, context, (payload,), {})

    def _call_plain(self, execution: Execution, spec: JobSpec) -> Awaitable[Any]:
        context = self._parts.plain_context(execution)
        if spec.is_async:
            called: Awaitable[Any] = spec.function(context, **execution.kwargs)
            return called
        return self._call_in_thread(execution, spec, context, (), execution.kwargs)

    async def _call_in_thread(
        self,
        execution: Execution,
        spec: JobSpec,
        context: Any,
        positional: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> Any:
        variables = contextvars.copy_context()
        result = await self._parts.threads.call(
            lambda: variables.run(_contained, spec, context, positional, named),
            on_leak=lambda: self._note_leak(execution),
        )
        if isinstance(result, _Raised):
            raise result.error
        return result

    async def _end(self, execution: Execution, outcome: Outcome) -> None:
        """Does what the outcome asks for besides its ack, and concludes."""
        if outcome.pause is not None or outcome.slow_down is not None:
            await self._hold_back_queue(execution, outcome)
        if outcome.kind is AckKind.ABORTED:
            outcome = as_stored(outcome, await self._stored(execution))
        if not execution.ended:
            self._conclude(execution, outcome)

    async def _hold_back_queue(self, execution: Execution, outcome: Outcome) -> None:
        """Pauses or slows the queue, or the job's limit keys, as the handler asked."""
        settings = self._settings
        try:
            if outcome.pause is not None:
                await self._parts.control.pause(settings.name, reason=outcome.pause, by="crmd")
            if outcome.slow_down is not None:
                after, scope = outcome.slow_down
                held = limit_keys(settings, execution.kwargs) if scope == "key" else ()
                await self._scripts.slow_down(after, held)
        except (StoreError, asyncio.CancelledError) as error:
            self._parts.report(f"could not slow down or pause: {error}")

    async def _stored(self, execution: Execution) -> dict[str, Any]:
        """The job's JSON as it is in the store; empty where it cannot be read."""
        try:
            return decode(await self._scripts.store.command("GET", execution.job_id) or b"null")
        except (StoreError, Unreadable, asyncio.CancelledError):
            return {}

    def _conclude(self, execution: Execution, outcome: Outcome) -> None:
        """Frees the slot and hands over the ack."""
        execution.ended = True
        self.executions.pop(execution.job_id, None)
        self._fill()
        self._parts.ended.set()
        if execution.cancel_reason is CancelReason.LOST:
            return
        ack = ack_of(execution, outcome, self._clock.now())
        seconds = self._clock.monotonic() - execution.started_at
        self._short = self._short + 1 if seconds < SHORT_S else 0
        if outcome.kind is AckKind.COMPLETE:
            ack.event = (execution.key, execution.name, execution.attempt, seconds)
        else:
            ack.event = (f"job.{outcome.event}", self._event_fields(execution, outcome, seconds))
        self._acks.add(ack)

    def _event_fields(self, execution: Execution, outcome: Outcome, seconds: float) -> dict[str, Any]:
        return {
            "queue": self._settings.name,
            "job": execution.name,
            "key": execution.key,
            "attempt": execution.attempt,
            "seconds": seconds,
            "error": outcome.error,
        }

    # Ending a job early

    def cancel(self, execution: Execution, reason: CancelReason, detail: str | None = None) -> None:
        """Asks a handler to stop; the first reason stands."""
        if execution.cancel_reason is None and not execution.ended:
            execution.cancel_reason, execution.cancel_detail = reason, detail
            execution.abandon_at = self._clock.monotonic() + CANCEL_GRACE_S
            if execution.task:
                execution.task.cancel()
            else:
                self._withdraw(execution)

    def cancel_all(self, reason: CancelReason) -> None:
        """Asks all handlers to stop."""
        for execution in list(self.executions.values()):
            self.cancel(execution, reason)

    def give_back_fetched(self, waited: float = 0.0) -> None:
        """Gives back what was fetched ahead where the first of it has waited this many seconds for a slot."""
        if not self._fetched or self._clock.monotonic() - self._fetched[0].started_at < waited:
            return
        self._short = 0
        for execution in list(self._fetched):
            self.cancel(execution, CancelReason.DRAIN)

    def _withdraw(self, execution: Execution) -> None:
        """Ends or gives back a cancelled job that has not begun."""
        self._fetched.remove(execution)
        if execution.cancel_reason is CancelReason.DRAIN:
            execution.ended = True
            del self.executions[execution.job_id]
            self._acks.add(Ack(execution.job_id, execution.token, AckKind.RETURN))
            self._parts.ended.set()
        else:
            outcome = cancelled(execution, self._settings)
            execution.task = asyncio.create_task(self._end(execution, outcome), name=execution.key)

    def abandon(self, execution: Execution) -> None:
        """Frees the slot of a job whose handler did not end when cancelled."""
        if not execution.ended:
            self.leaked += 1
            self._note_leak(execution)
            self._conclude(execution, cancelled(execution, self._settings))

    def abandon_all(self) -> None:
        """Cancels and concludes all that is held, whatever the handlers do."""
        for execution in list(self.executions.values()):
            self.cancel(execution, CancelReason.DRAIN)
            self.abandon(execution)

    def _note_leak(self, execution: Execution) -> None:
        """Says that a handler goes on although its job was given up."""
        self._parts.events.emit(
            "job.slot_leaked", queue=self._settings.name, key=execution.key, job=execution.name
        )

    # What a handler may ask for while it runs (crmd.jobs.JobServices)

    def log(self, execution: Execution) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the job in each line."""
        fields = {"queue": execution.queue, "job": execution.name, "key": execution.key}
        return _JobLog(self._parts.log, fields)

    async def progress(self, execution: Execution, fraction: float, note: str | None) -> None:
        """Notes how far the job is, and stores it where that was not done a moment ago."""
        now, data = self._clock.monotonic(), execution.data
        share = min(max(0.0, float(fraction)), 1.0)  # in this order NaN is 0
        at_once = execution.crash_count > 0 and _passes_earlier(execution, share)
        data["progress"] = max(share, execution.reached or 0.0)
        if note is not None:
            meta = data.get("meta")
            data["meta"] = {**(meta if isinstance(meta, dict) else {}), "progress_note": str(note)[:500]}
        if at_once or now - execution.progress_at >= PROGRESS_EVERY_S:
            execution.progress_at = now
            await self.mark([execution])

    async def effect_begun(self, execution: Execution) -> None:
        """Stores that an effect begins; raises IllegalTransition where the job is no longer ours."""
        if not await self._scripts.begin_effect(execution.job_id, execution.token):
            raise IllegalTransition(
                f"job {execution.key} was cancelled, or is no longer this daemon's: its effect is not begun"
            )
        execution.side_effect_started = True

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        """Adds jobs, each a payload and its options, and returns their keys."""
        new = [NewJob(job=name, payload=dict(payload), **_times(options)) for payload, options in jobs]
        return [added.key for added in await self._parts.control.enqueue(queue, new)]

    # What the store shows of running jobs, and what clients want of them

    async def mark(self, executions: Iterable[Execution]) -> None:
        """Shows running jobs as active in the store."""
        batch = [execution for execution in executions if not execution.ended][:MAX_JOBS_PER_CALL]
        if not batch:
            return
        documents = []
        for execution in batch:
            execution.data.update(
                status="active",
                attempts=execution.attempt,
                started=execution.started_ms,
                touched=int(self._clock.now() * 1000),
                worker_id=self._parts.instance_id,
            )
            document = encode(execution.data)
            documents.append((execution.job_id, execution.token, document, not execution.marked))
            execution.marked = True
        try:
            advanced = {execution.job_id for execution in batch if execution.advanced}
            answers = await self._scripts.mark(documents, advanced)
        except StoreError:
            return  # the ack will say more than this would have
        self._obey(batch, answers)

    async def check(self) -> None:
        """Cancels what was aborted, or taken from us, while it runs."""
        running = [execution for execution in self.executions.values() if execution.cancel_reason is None]
        for start in range(0, len(running), MAX_JOBS_PER_CALL):
            batch = running[start : start + MAX_JOBS_PER_CALL]
            held = ((execution.job_id, execution.token) for execution in batch)
            self._obey(batch, await self._scripts.running(held))

    def stop_lost(self, leases: Mapping[str, str]) -> None:
        """Cancels what is held and not leased to us; `leases` are ids and tokens."""
        for execution in list(self.executions.values()):
            if leases.get(execution.job_id) != execution.token:
                self.cancel(execution, CancelReason.LOST)

    def _obey(self, executions: list[Execution], answers: list[int]) -> None:
        """Cancels what the store says is aborted (-1, -2) or no longer ours (0)."""
        for execution, answer in zip(executions, answers, strict=True):
            if execution.ended or answer == 1:
                continue
            if answer == -2:
                self._parts.background.start(self._abort(execution))
            else:
                self.cancel(execution, CancelReason.LOST if answer == 0 else CancelReason.ABORT)

    async def _abort(self, execution: Execution) -> None:
        """Cancels a job as a SAQ client asked by job.update(status=ABORTING), which leaves its id incomplete."""
        stored = await self._stored(execution)
        reason = error_in(stored) if stored.get("status") in ("aborting", "aborted") else None
        with contextlib.suppress(StoreError, RequestError):  # the next check finds it again
            await self._parts.control.cancel(execution.queue, execution.key, reason or "cancelled")
            self.cancel(execution, CancelReason.ABORT, reason)


class ExecutionMonitor:
    """One timer for all jobs of an executor, while it holds any.

    It shows them as active, ends their time, and frees the slots of those that do not end.
    """

    def __init__(self, executor: Executor, clock: Clock, background: BackgroundTasks) -> None:
        self._executor = executor
        self._clock = clock
        self._background = background
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """Starts the timer, unless it runs: the executor holds a job."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WATCH_EVERY_S, self.run_once)

    def stop(self) -> None:
        """Watches no more; idempotent."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def run_once(self) -> None:
        """Looks at every running job."""
        self._timer = None
        executor, now, unmarked = self._executor, self._clock.monotonic(), []
        for execution in list(executor.executions.values()):
            if execution.task is None:
                continue  # fetched ahead: it has not begun
            if not execution.marked and now - execution.started_at >= ACTIVE_AFTER_S:
                unmarked.append(execution)
            deadline = execution.deadline
            if deadline is not None and now >= deadline:
                executor.cancel(execution, CancelReason.TIMEOUT)
            if execution.cancel_reason is not None and now >= execution.abandon_at:
                executor.abandon(execution)
        executor.give_back_fetched(FETCHED_FOR_S)
        if unmarked:
            self._background.start(executor.mark(unmarked))
        if executor.executions:
            self.wake()


class _Raised:
    """What a thread raised. As a value, so that SystemExit and StopIteration cross into the loop unharmed."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class _JobLog(logging.LoggerAdapter[logging.Logger]):
    """Puts queue, job and key into each record's fields."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        extra = dict(kwargs.get("extra") or {})
        extra["fields"] = {**(self.extra or {}), **extra.get("fields", {})}
        return msg, {**kwargs, "extra": extra}


def _contained(spec: JobSpec, context: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Any:
    try:
        return spec.function(context, *positional, **named)
    except BaseException as error:  # handed over to the loop, where the outcome is decided
        return _Raised(error)


def _passes_earlier(execution: Execution, share: float) -> bool:
    """Whether the job gets further with this than any delivery that was lost, or than it was told of last."""
    if execution.reached is None:
        known = execution.data.get("progress")
        execution.reached = min(max(0.0, known), 1.0) if isinstance(known, int | float) else 0.0
    if share < execution.reached + ADVANCE:
        return False
    execution.reached, execution.advanced = share, True
    return True


def _times(options: Mapping[str, Any]) -> dict[str, Any]:
    at = options.get("at")
    return {**options, "at": at.timestamp()} if isinstance(at, datetime) else dict(options)
