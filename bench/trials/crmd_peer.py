"""crmd: its public client adds, its fleet works, with the subscribers that a daemon has."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from bench.trials.peer import RESULT, Handled, Options, Payload
from crmd import AsyncClient, NewJob, __version__
from crmd.daemon.process import tune_collector
from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.durations import Rate
from crmd.engine.pool import PoolParts, WorkerPool
from crmd.engine.saq.worker import SaqWorker
from crmd.engine.settings import KeyedLimit, QueueSettings, SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget
from crmd.jobs import Catalog, JobSpec
from crmd.telemetry.events import Events, log_subscriber
from crmd.telemetry.metrics import Metrics


class NoFiles:
    """A state folder for a fleet that spools nothing."""

    def write_private(self, name: str, text: str) -> None:
        """Refuses."""
        raise RuntimeError(f"nothing is spooled in a benchmark: {name}")

    def read_private(self, name: str) -> str | None:
        """Nothing is spooled."""

    def read_private_bytes(self, name: str) -> bytes | None:
        """Nothing is spooled."""

    def delete_private(self, name: str) -> None:
        """Nothing is spooled."""

    def set_aside(self, name: str) -> str:
        """Nothing is spooled."""
        return name


class CrmdPeer:
    """Producer and worker, each with a connection of its own."""

    def __init__(self, url: str, options: Options) -> None:
        self._plain = options.plain
        self._registry = SettingsRegistry({name: _settings(name, options) for name in options.names})
        self._client = AsyncClient(url)
        events = Events()
        events.subscribe(log_subscriber(logging.getLogger("crmd")))
        events.subscribe(Metrics(__version__).observe)
        self._store = Store(StoreTarget(url), events)
        self._inspector = Inspector(self._store, self._registry)
        self.control = Control(self._store, self._inspector)
        self._pool: WorkerPool | None = None

    async def open(self) -> None:
        """Connects."""
        await self._client.__aenter__()
        await self._store.start(wait=False)

    async def close(self) -> None:
        """Stops the fleet, and disconnects."""
        if self._pool:
            await self._pool.stop(1.0)
        await self.control.stop()
        await self._store.stop()
        await self._client.__aexit__(None, None, None)

    async def add(self, queue: str, payload: Payload, at: float | None = None) -> None:
        """Adds one job."""
        await self._client.enqueue(queue, "work", payload, at=at)

    async def add_many(self, queue: str, payloads: Sequence[Payload], at: float | None = None) -> None:
        """Adds many jobs in one call."""
        await self._client.enqueue_many(queue, [NewJob("work", payload, at=at) for payload in payloads])

    async def work(self, handled: Handled) -> None:
        """Starts a fleet of all queues."""

        async def plain(_context: Any, **payload: Any) -> dict[str, Any]:
            handled(payload)
            return RESULT

        async def native(_context: Any, payload: Payload) -> dict[str, Any]:
            handled(payload)
            return RESULT

        catalog = Catalog()
        for name in self._registry.queues:
            catalog.add(name, JobSpec("work", None, plain if self._plain else native, plain=self._plain))
        store, control = self._store, self.control
        self._pool = WorkerPool(PoolParts(store, control, self._registry, catalog, "bench", NoFiles(), SaqWorker))
        await self._pool.start()
        tune_collector()  # as the daemon does

    async def done(self) -> int:
        """Completed jobs, as the store counts them."""
        return sum(totals.completed for totals in (await self._inspector.totals()).values())


def _settings(name: str, options: Options) -> QueueSettings:
    return QueueSettings(
        name,
        concurrency=options.concurrency,
        rate_limit=Rate.parse(options.rate_limit) if options.rate_limit else None,
        limits=tuple(KeyedLimit(one["by"], Rate.parse(one["rate"]), one["burst"]) for one in options.limits),
    )
