"""Stock SAQ: a queue and a worker for each name, as its documentation shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import saq
from saq.queue.redis import RedisQueue

from bench.trials.peer import RESULT, Handled, Options, Payload

TASKS = 10
"""SAQ adds one job at a time; so many tasks do it side by side."""


class SaqPeer:
    """Producer and worker."""

    def __init__(self, url: str, options: Options) -> None:
        self._concurrency = options.concurrency
        self._queues = {name: RedisQueue.from_url(url, name=name) for name in options.names}
        self._running: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Connects."""
        for queue in self._queues.values():
            await queue.connect()

    async def close(self) -> None:
        """Ends with the process: SAQ's own stop waits for its polls."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def add(self, queue: str, payload: Payload, at: float | None = None) -> None:
        """Adds one job."""
        await self._queues[queue].enqueue("work", scheduled=at or 0, **payload)

    async def add_many(self, queue: str, payloads: Sequence[Payload], at: float | None = None) -> None:
        """Adds many jobs one by one, as SAQ has no other way."""

        async def add_part(part: Sequence[Payload]) -> None:
            for payload in part:
                await self.add(queue, payload, at)

        await asyncio.gather(*(add_part(payloads[start::TASKS]) for start in range(TASKS)))

    async def work(self, handled: Handled) -> None:
        """Starts a worker for each queue."""

        async def work(_context: Any, **payload: Any) -> dict[str, Any]:
            handled(payload)
            return RESULT

        for queue in self._queues.values():
            worker: saq.Worker[Any] = saq.Worker(queue, [("work", work)], concurrency=self._concurrency)
            worker.SIGNALS = []
            self._running.append(asyncio.create_task(worker.start()))

    async def done(self) -> int:
        """Completed jobs, as the queues count them."""
        return sum(queue.complete for queue in self._queues.values())
