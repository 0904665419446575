"""Finds SAQ workers on our queues: they take jobs without a lease and sweep ours, so they are not supported."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from crmd.engine.store.client import Store
from crmd.engine.store.keys import QueueKeys
from crmd.errors import StoreError, StoreUnavailable

SHOWN = 20
"""Workers looked at in one queue."""
REMEMBERED = 1_000


class ExternalWorkers:
    """Says once of each SAQ worker that it works on a queue of ours, by the event `queue.foreign_worker`."""

    def __init__(self, store: Store, queues: Iterable[QueueKeys], *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._queues = list(queues)
        self._now = now
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def add(self, queue: QueueKeys) -> None:
        """Looks at one more queue."""
        self._queues.append(queue)

    async def run_once(self) -> int:
        """One look at all queues, in one trip; returns how many new workers it found."""
        queues = list(self._queues)
        found = await asyncio.gather(*map(self._workers, queues))
        live = [(queue.name, worker) for queue, names in zip(queues, found, strict=True) for worker in names]
        return sum(self._report(queue, worker) for queue, worker in live)

    async def _workers(self, queue: QueueKeys) -> list[str]:
        alive_ms = round(self._now() * 1000)
        look = ("ZRANGEBYSCORE", queue.stats, alive_ms, "+inf", "LIMIT", 0, SHOWN)
        try:
            entries = await self._store.command(*look)
        except StoreUnavailable:
            raise
        except StoreError:
            return []  # of the wrong type: no worker keeps it
        return [entry.decode("utf-8", "replace").rpartition(":")[2] for entry in entries]

    def _report(self, queue: str, worker: str) -> bool:
        if (queue, worker) in self._seen:
            return False
        self._seen[queue, worker] = None
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        self._store.events.emit("queue.foreign_worker", queue=queue, worker=worker)
        return True
