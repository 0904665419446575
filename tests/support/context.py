"""A real JobContext for handlers, with an engine's side that only notes what it is told."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crmd.jobs import JobContext, NewPayload


@dataclass
class RecordedRun:
    """A job's own facts, and what its handler told the engine."""

    queue: str = "message"
    key: str = "job-1"
    name: str = "send_message"
    attempt: int = 1
    attempts: int = 3
    delivery: int = 1
    enqueued_at: float = 1_700_000_000.0
    deadline: float | None = None
    log: logging.LoggerAdapter[logging.Logger] = field(
        default_factory=lambda: _Log(logging.getLogger("crmd.tests.job"), {})
    )
    task: asyncio.Task[None] | None = None
    effects_begun: int = 0
    progress_notes: list[tuple[float, str | None]] = field(default_factory=list)
    enqueued: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    async def progress(self, fraction: float, note: str | None) -> None:
        """Notes the progress."""
        self.progress_notes.append((fraction, note))

    async def effect_begun(self) -> None:
        """Counts the call."""
        self.effects_begun += 1

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        """Notes the jobs."""
        before = len(self.enqueued)
        self.enqueued += [(queue, name, dict(payload), dict(options)) for payload, options in jobs]
        return [f"job-{number + 1}" for number in range(before, len(self.enqueued))]


def make_context(
    *resources: object,
    queue: str = "message",
    name: str = "send_message",
    key: str = "job-1",
    attempt: int = 1,
    attempts: int = 3,
    enqueued_at: float = 1_700_000_000.0,
    timeout_seconds: float | None = 60.0,
    run: RecordedRun | None = None,
) -> JobContext:
    """A context whose `get` finds the given clients by their class, or by one that it inherits from."""
    given = run or RecordedRun()
    given.queue, given.name, given.key = queue, name, key
    given.attempt, given.attempts, given.enqueued_at = attempt, attempts, enqueued_at
    given.deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    found = {kind: resource for resource in resources for kind in type(resource).__mro__[:-1]}
    return JobContext(given, _Services(given), found)


class _Services:
    """The engine's side of the context: it passes on to the recorded run what a handler asks for."""

    def __init__(self, run: RecordedRun) -> None:
        self._run = run

    def log(self, execution: RecordedRun) -> logging.LoggerAdapter[logging.Logger]:
        return execution.log

    async def progress(self, execution: RecordedRun, fraction: float, note: str | None) -> None:
        await execution.progress(fraction, note)

    async def effect_begun(self, execution: RecordedRun) -> None:
        await execution.effect_begun()

    async def enqueue(self, queue: str, name: str, jobs: Sequence[NewPayload]) -> list[str]:
        return await self._run.enqueue(queue, name, jobs)


class _Log(logging.LoggerAdapter[logging.Logger]):
    """Lets the caller's `extra` through, which LoggerAdapter drops."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, kwargs
