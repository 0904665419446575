"""What a trial needs of a job system, and what all of them are given to do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

SAMPLE: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "sample.json").read_text(encoding="utf-8")
)
PAYLOAD, RESULT = SAMPLE["payload"], SAMPLE["result"]

Payload = dict[str, Any]
Handled = Callable[[Payload], None]
"""Told of each job that a handler gets."""


@dataclass(slots=True)
class Options:
    """What a trial is to do; each task reads what it needs."""

    jobs: int = 0
    warm: int = 0
    """Jobs before the measured ones."""
    concurrency: int = 10
    queues: int = 1
    chunk: int = 1000
    """Jobs in one call that adds many."""
    every: float = 0.0
    """Seconds between two jobs."""
    spread: float = 0.0
    """Delayed jobs are due within so many seconds, from half a second on."""
    waiting: int = 0
    """Jobs behind the measured ones."""
    delayed: int = 0
    """Jobs beside the measured ones that are not due for an hour."""
    due_in: float = 0.0
    """All jobs are due at once after so many seconds."""
    plain: bool = False
    """crmd: a plain SAQ function instead of a handler of its own."""
    paused: bool = False
    """crmd: the queue is paused first."""
    recipients: int = 1
    """How many values the payload's `to` has."""
    rate_limit: str | None = None
    limits: list[dict[str, Any]] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of the queues."""
        return ["bench", *(f"bench{number}" for number in range(2, self.queues + 1))]


class Peer(Protocol):
    """One job system."""

    async def open(self) -> None:
        """Connects."""

    async def close(self) -> None:
        """Ends what `work` began, and disconnects."""

    async def add(self, queue: str, payload: Payload, at: float | None = None) -> None:
        """Adds one job, due at once or at a time in epoch seconds."""

    async def add_many(self, queue: str, payloads: Sequence[Payload], at: float | None = None) -> None:
        """Adds many jobs in the way the system has for it."""

    async def work(self, handled: Handled) -> None:
        """Begins to process all queues of the options."""

    async def done(self) -> int:
        """How many jobs were completed, as the system itself counts it."""
