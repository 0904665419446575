"""What a handler is, and what it sees: `@job`, `JobContext`, `Catalog`."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from pydantic import BaseModel, ValidationError

from crmd.errors import InvalidPayload, UnknownJob, mistakes_in

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

ENQUEUE_MAX = 500
"""Jobs that a handler may add in one trip."""

NewPayload = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A job's payload, and its options."""

_MARK = "__crmd_job__"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One kind of job: its name, its queue, its payload's model and the function that runs it."""

    name: str
    queue: str | None
    """The queue it is for; None for a plain SAQ function, which goes where it is configured."""
    function: Callable[..., Any]
    payload: type[BaseModel] | None = None
    plain: bool = False
    """True for a plain SAQ function `f(ctx, **kwargs)`."""
    is_async: bool = field(init=False)
    """Whether the function is a coroutine function; others run in a thread."""
    check_in_thread: bool = field(init=False)
    """Whether `validate` may take too long for the event loop, as the payload's model says."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "check_in_thread", getattr(self.payload, "CHECK_IN_THREAD", False))
        object.__setattr__(self, "is_async", inspect.iscoroutinefunction(self.function))

    def validate(self, payload: Mapping[str, Any]) -> BaseModel | dict[str, Any]:
        """The payload as its model; raises InvalidPayload that names each bad field."""
        if self.payload is None:
            return dict(payload)
        try:
            return self.payload.model_validate(payload)
        except ValidationError as error:
            raise InvalidPayload(_describe(self.name, error), _fields(error)) from None


def job(
    queue: str, payload: type[BaseModel] | None = None, name: str | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes `f(ctx, payload)` the handler of one kind of job.

    The function may be async, or sync: then it runs in a thread, and `ctx.blocking` has the methods of `ctx`.
    """

    def mark(function: Callable[P, R]) -> Callable[P, R]:
        spec = JobSpec(name or cast(Any, function).__name__, queue, function, payload)
        setattr(function, _MARK, spec)
        return function

    return mark


def spec_of(function: Callable[..., Any]) -> JobSpec | None:
    """The spec that `@job` left on a function, if any."""
    return getattr(function, _MARK, None)


class Catalog:
    """The jobs that each queue knows."""

    def __init__(self) -> None:
        self._by_queue: dict[str, dict[str, JobSpec | str]] = {}
        """The references of jobs that are not loaded yet."""

    def add(self, queue: str, spec: JobSpec) -> None:
        """Makes a job known to a queue; a later one with the same name replaces it."""
        self._by_queue.setdefault(queue, {})[spec.name] = spec

    def add_late(self, queue: str, reference: str) -> None:
        """Makes a job, `"package.module:function"` and named like it, known to a queue without importing it."""
        self._by_queue.setdefault(queue, {})[reference.partition(":")[2]] = reference

    def load(self, queue: str) -> None:
        """Imports the jobs that a queue knows, so that none is imported when it runs. Raises ValueError."""
        for name in self._by_queue.get(queue, {}):
            self.find(queue, name)

    def add_reference(self, queue: str, reference: str) -> None:
        """Adds the handlers that `"package.module"` or `"package.module:function"` names.

        Of a module all jobs are taken; one that is marked for another queue takes no name that is known already.
        Raises ValueError that says what is wrong with the reference.
        """
        for spec in load_specs(reference):
            if ":" in reference or spec.queue == queue or spec.name not in self._by_queue.get(queue, {}):
                self.add(queue, spec)

    def find(self, queue: str, name: str) -> JobSpec | None:
        """The job of that name in that queue, if known."""
        known = self._by_queue.get(queue, {})
        found = known.get(name)
        if isinstance(found, str):
            [found] = load_specs(found)
            known[name] = found
        return found

    def is_loaded(self, queue: str) -> bool:
        """Whether no job that a queue knows is yet to be imported."""
        return not any(isinstance(found, str) for found in self._by_queue.get(queue, {}).values())

    def is_imported(self, queue: str, name: str) -> bool:
        """Whether a job is known and its function has been imported."""
        return isinstance(self._by_queue.get(queue, {}).get(name), JobSpec)

    def get(self, queue: str, name: str) -> JobSpec:
        """Like `find`; raises UnknownJob that lists the known names."""
        spec = self.find(queue, name)
        if spec is None:
            known = ", ".join(self.names(queue)) or "none"
            raise UnknownJob(f"queue {queue} has no job {name!r}; it knows: {known}")
        return spec

    def names(self, queue: str) -> list[str]:
        """The names of the jobs a queue knows, sorted."""
        return sorted(self._by_queue.get(queue, {}))


def load_specs(reference: str) -> list[JobSpec]:
    """The jobs that `"package.module"` (all `@job` functions) or `"package.module:function"` names."""
    module_name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f'cannot import "{module_name}": {type(error).__name__}: {error}') from error
    if not attribute:
        specs = [spec for spec in map(spec_of, vars(module).values()) if spec]
        if not specs:
            raise ValueError(f'module "{module_name}" has no @job function; name one as "{module_name}:function"')
        return specs
    function = getattr(module, attribute, None)
    if not callable(function):
        raise ValueError(f'module "{module_name}" has no function "{attribute}"')
    return [spec_of(function) or JobSpec(attribute, None, function, plain=True)]


class JobExecution(Protocol):
    """What the engine knows of a running job, for `JobContext` to show."""

    @property
    def queue(self) -> str:
        """The queue's name."""

    @property
    def key(self) -> str:
        """The job's key."""

    @property
    def name(self) -> str:
        """The job's name."""

    @property
    def attempt(self) -> int:
        """This attempt, from 1."""

    @property
    def attempts(self) -> int:
        """Attempts in all."""

    @property
    def delivery(self) -> int:
        """1, or more if an earlier delivery was lost with its daemon."""

    @property
    def enqueued_at(self) -> float:
        """When the job was added, in epoch seconds."""

    @property
    def deadline(self) -> float | None:
        """When the attempt times out, on `time.monotonic()`; None if never."""

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that runs the job."""


E = TypeVar("E", bound=JobExecution, contravariant=True)


class JobServices(Protocol[E]):
    """What the engine does for a running job, at the request of `JobContext`."""

    def log(self, execution: E) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the job in each line."""

    async def progress(self, execution: E, fraction: float, note: str | None) -> None:
        """Stores the job's progress."""

    async def effect_begun(self, execution: E) -> None:
        """Stores that an effect that cannot be repeated is about to begin."""

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        """Adds jobs, each a payload and its options, and returns their keys."""


class JobContext:
    """What a handler sees of its job, and the services that it may use."""

    __slots__ = ("_execution", "_resources", "_services")

    def __init__(self, execution: E, services: JobServices[E], resources: Mapping[type, Any]) -> None:
        self._execution: JobExecution = execution
        self._services: JobServices[Any] = services
        self._resources = resources

    @property
    def queue(self) -> str:
        """The queue's name."""
        return self._execution.queue

    @property
    def key(self) -> str:
        """The job's key."""
        return self._execution.key

    @property
    def name(self) -> str:
        """The job's name."""
        return self._execution.name

    @property
    def attempt(self) -> int:
        """This attempt, from 1."""
        return self._execution.attempt

    @property
    def attempts(self) -> int:
        """Attempts in all."""
        return self._execution.attempts

    @property
    def delivery(self) -> int:
        """1, or more if an earlier delivery was lost with its daemon: effects may have happened."""
        return self._execution.delivery

    @property
    def enqueued_at(self) -> float:
        """When the job was added, in epoch seconds."""
        return self._execution.enqueued_at

    @property
    def deadline(self) -> float | None:
        """When the attempt times out, on `time.monotonic()`; None if never."""
        return self._execution.deadline

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that names the job in each line."""
        return self._services.log(self._execution)

    @property
    def remaining_seconds(self) -> float | None:
        """Seconds until the attempt times out, not below 0; None if never."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def get(self, kind: type[T]) -> T:
        """A shared client by its class, such as `ctx.get(WhatsAppClient)`; raises LookupError."""
        try:
            return cast(T, self._resources[kind])
        except KeyError:
            raise LookupError(f"this daemon has no {kind.__name__}") from None

    async def progress(self, fraction: float, note: str | None = None) -> None:
        """Reports the job's progress, 0.0 to 1.0; stored at most a few times a second."""
        await self._services.progress(self._execution, fraction, note)

    async def effect_begun(self) -> None:
        """From here on a job whose outcome is lost becomes *unknown* instead of being retried.

        Returns once the store has it: call it right before the effect.
        """
        await self._services.effect_begun(self._execution)

    async def enqueue(self, queue: str, name: str, payload: Mapping[str, Any] | BaseModel, **options: Any) -> str:
        """Adds a job and returns its key; a taken key adds nothing.

        Options: `delay` (s), `at` (aware datetime), `priority` (1 to 10), `key`, and `unique_for`: how many
        seconds the key stays taken once the job completed (by default the queue's; 0: not at all; up to 365 days).
        """
        [key] = await self._services.enqueue(queue, name, [(_plain(payload), options)])
        return key

    async def enqueue_many(
        self, queue: str, name: str, jobs: Sequence[tuple[Mapping[str, Any] | BaseModel, Mapping[str, Any]]]
    ) -> list[str]:
        """Adds many jobs of one kind in one trip, each a payload and options as for `enqueue`; returns their keys.

        All are stored or, if one is refused, none. At most 500 a call: more raise ValueError.
        """
        if len(jobs) > ENQUEUE_MAX:
            raise ValueError(f"{len(jobs)} jobs in one call; at most {ENQUEUE_MAX} are taken")
        return await self._services.enqueue(queue, name, [(_plain(payload), options) for payload, options in jobs])

    @property
    def blocking(self) -> BlockingContext:
        """The same methods for a sync handler, which runs in a thread."""
        return BlockingContext(self)


class BlockingContext:
    """`JobContext`'s async methods as blocking ones, for handlers that run in a thread."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    def _wait(self, call: Awaitable[T]) -> T:
        task = self._context._execution.task
        if task is None:
            raise RuntimeError("ctx.blocking works only inside a running job")
        return asyncio.run_coroutine_threadsafe(_as_coroutine(call), task.get_loop()).result()

    def progress(self, fraction: float, note: str | None = None) -> None:
        """As `JobContext.progress`."""
        self._wait(self._context.progress(fraction, note))

    def effect_begun(self) -> None:
        """As `JobContext.effect_begun`."""
        self._wait(self._context.effect_begun())

    def enqueue(self, queue: str, name: str, payload: Mapping[str, Any] | BaseModel, **options: Any) -> str:
        """As `JobContext.enqueue`."""
        return self._wait(self._context.enqueue(queue, name, payload, **options))


async def _as_coroutine(call: Awaitable[T]) -> T:
    return await call


def _plain(payload: Mapping[str, Any] | BaseModel) -> Mapping[str, Any]:
    return payload.model_dump(mode="json") if isinstance(payload, BaseModel) else payload


def _fields(error: ValidationError) -> list[dict[str, object]]:
    return [{"field": ".".join(map(str, entry["loc"])), "reason": entry["msg"]} for entry in mistakes_in(error)]


def _describe(name: str, error: ValidationError) -> str:
    parts: Iterable[str] = (f"{entry['field'] or 'payload'}: {entry['reason']}" for entry in _fields(error))
    return f"payload of {name} is invalid: " + "; ".join(parts)
