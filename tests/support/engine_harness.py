"""A pool on a real store, built in a line, for tests of the engine."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest

from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.views import JobView, NewJob, State
from crmd.engine.maintenance.heartbeat import LEASE_S
from crmd.engine.pool import PoolParts, WorkerPool
from crmd.engine.saq.queue import SaqQueue
from crmd.engine.saq.worker import SaqWorker
from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.worker.pending_acks import MemoryFiles
from crmd.jobs import Catalog, JobSpec, spec_of
from crmd.telemetry.events import Events
from tests.support.wait import BUSY

F = TypeVar("F", bound=Callable[..., Any])


class EngineHarness:
    """Store, control and inspector of a test, and the pools that it starts."""

    def __init__(self, store: Store, queues: dict[str, QueueSettings]) -> None:
        self.store = store
        self.registry = SettingsRegistry(queues)
        self.inspector = Inspector(store, self.registry)
        self.control = Control(store, self.inspector)
        self.catalog = Catalog()
        self.events: list[tuple[str, dict[str, Any]]] = []
        store.events.subscribe(lambda name, fields: self.events.append((name, dict(fields))))
        self._pools: list[WorkerPool] = []

    def handle(self, queue: str, name: str, function: Callable[..., Any]) -> None:
        """Makes `function(ctx, **kwargs)`, a plain SAQ function, the handler of a job."""
        self.catalog.add(queue, JobSpec(name, None, function, plain=True))

    def handler(self, queue: str, name: str | None = None) -> Callable[[F], F]:
        """Decorates the handler of a job: a plain SAQ function, by its own name unless another is given."""

        def decorate(function: F) -> F:
            self.handle(queue, name or function.__name__, function)
            return function

        return decorate

    def handle_jobs(self, *functions: Callable[..., Any]) -> None:
        """Makes functions that `@job` marks the handlers of their jobs."""
        for function in functions:
            spec = spec_of(function)
            assert spec is not None
            assert spec.queue is not None
            self.catalog.add(spec.queue, spec)

    def handle_spec(self, queue: str, spec: JobSpec) -> None:
        """Adds a handler by its spec."""
        self.catalog.add(queue, spec)

    async def start_pool(self, identity: str | None = None, **parts: Any) -> WorkerPool:
        """Starts a pool; each without a given identity is a daemon of its own."""
        pool = self.new_pool(identity, **parts)
        await pool.start()
        return pool

    def new_pool(self, identity: str | None = None, **parts: Any) -> WorkerPool:
        """A pool that is not started yet."""
        control = Control(self.store, self.inspector)
        pool = WorkerPool(
            PoolParts(
                store=self.store,
                control=control,
                registry=self.registry,
                catalog=self.catalog,
                host_id=identity or uuid.uuid4().hex,
                files=parts.pop("files", MemoryFiles()),
                make_worker=SaqWorker,
                **parts,
            )
        )
        self._pools.append(pool)
        return pool

    async def add(self, queue: str, name: str, /, **payload: Any) -> str:
        """Adds one job and returns its key."""
        [added] = await self.control.enqueue(queue, [NewJob(name, payload)])
        return added.key

    async def finished(self, queue: str, key: str, timeout: float = 10.0) -> JobView:
        """The job once it is over."""
        return await self.control.wait(queue, key, timeout * BUSY)

    async def completed(self, queue: str, *keys: str) -> None:
        """Waits until these jobs are over: each has completed."""
        for key in keys:
            view = await self.finished(queue, key)
            assert view.state is State.COMPLETED, view.error

    async def idle(self, queue: str) -> bool:
        """Whether no job of the queue waits, is delayed or runs."""
        counts = await self.inspector.counts(queue)
        return (counts.waiting, counts.active, counts.delayed) == (0, 0, 0)

    async def close(self) -> None:
        """Stops everything."""
        for pool in self._pools:
            await pool.stop(0.0)
        await self.control.stop()
        await self.store.stop()


@asynccontextmanager
async def engine_harness(url: str, *settings: QueueSettings) -> AsyncIterator[EngineHarness]:
    """A harness with the given queues on the store at `url`."""
    store = Store(StoreTarget(url), Events())
    await store.start(wait=False)
    made = EngineHarness(store, {one.name: one for one in settings})
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[EngineHarness]:
    """A harness with queue `q`, or with those of the mark `queues`; on `own_store` where the test has one."""
    mark = request.node.get_closest_marker("queues")
    own = "own_store" in request.fixturenames
    url = request.getfixturevalue("own_store").url if own else request.getfixturevalue("store_url")
    async with engine_harness(url, *(mark.args if mark else [QueueSettings("q")])) as made:
        yield made


def saq_worker(pool: WorkerPool, name: str) -> SaqWorker:
    """A queue's worker as SAQ sees it."""
    worker = pool.workers[name]
    assert isinstance(worker, SaqWorker)
    return worker


def saq_queue(pool: WorkerPool, name: str) -> SaqQueue:
    """A queue as plain functions see it."""
    return saq_worker(pool, name).queue


async def watch_for_a_lease(watcher: WorkerPool, living: Iterable[WorkerPool] = ()) -> None:
    """Lets a daemon watch the others for a whole lease, in which the living ones renew."""
    await watcher.tick.stop()  # it is not to look between a renewal and the lease's end
    await watcher.tick.run_once()
    for pool in living:
        await pool.tick.announce()
    watcher.recoverer.observer._watched_s += LEASE_S
    await watcher.tick.start()


async def kill(pool: WorkerPool) -> None:
    """What kill -9 leaves behind: nothing is given back, nothing is written, nothing is renewed."""
    await pool.keeper.stop()
    await pool.tick.stop()
    await pool.wake_listener.stop()
    for worker in pool.workers.values():
        worker.cut()
        for execution in worker.executor.executions.values():
            execution.ended = True
            if execution.task:
                execution.task.cancel()
        worker.executor.executions.clear()
        worker.executor._fetched.clear()
        await worker.stop()
        worker.acks.clear()
    pool._started = False
    await asyncio.sleep(0)
