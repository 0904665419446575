"""Jobs whose outcome was unknown, settled once it is known: handlers know neither the queues nor the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a job after all: its result, or its error."""

    queue: str
    key: str
    enqueued_at: datetime
    """Together with the key: the job, as keys may be used again."""
    result: Any = None
    error: str | None = None
    """Why it failed; None where it completed."""
    by: str = "a status webhook"


class UnknownJobs:
    """A resource of handlers. `settle` raises what its writer raises."""

    def __init__(self, writer: Callable[[Settled], Awaitable[bool]]) -> None:
        self._writer = writer

    async def settle(self, settled: Settled) -> bool:
        """Ends an unknown job as completed or failed. False where there is none: it is gone, or not unknown."""
        return await self._writer(settled)
