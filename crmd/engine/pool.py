"""The workers of one daemon and their maintenance, started and stopped as one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crmd.engine.admin.control import Control
from crmd.engine.admin.views import DaemonInfo, QueueCounts
from crmd.engine.maintenance.heartbeat import LeaseKeeper, new_instance_id
from crmd.engine.maintenance.janitor import GRACE_S, Janitor
from crmd.engine.maintenance.recoverer import Recoverer
from crmd.engine.maintenance.tick import MaintenanceTick
from crmd.engine.maintenance.wake_listener import WakeListener
from crmd.engine.settings import SettingsRegistry
from crmd.engine.store.access import StoreAccess
from crmd.engine.store.client import Store
from crmd.engine.store.keys import QueueKeys
from crmd.engine.store.replies import Ack
from crmd.engine.worker import pending_acks
from crmd.engine.worker.context import WorkerContext, claim_tokens
from crmd.engine.worker.pending_acks import PrivateFiles
from crmd.engine.worker.threads import HandlerThreads
from crmd.engine.worker.worker import QueueWorker
from crmd.errors import CrmdError, StoreError
from crmd.jobs import Catalog
from crmd.version import __version__

GIVE_BACK_S = 0.3
"""What is cancelled at the end of a drain has this long to end."""
WRITE_S = 0.4
"""The last acks have this long to be written; then they are kept in the state folder."""
LEAVE_S = 0.2
"""Giving back orphaned leases and signing off may take this long. All three together stay within one second."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class DrainReport:
    """How many jobs a drain let finish, gave back and could not end, and how many acks it left unwritten."""

    finished: int = 0
    given_back: int = 0
    pending_acks: int = 0
    leaked: int = 0


@dataclass(slots=True)
class PoolParts:
    """What a pool is made of."""

    store: Store
    control: Control
    registry: SettingsRegistry
    catalog: Catalog
    host_id: str
    """Of the state folder: whatever an earlier daemon of it held is ours."""
    files: PrivateFiles
    make_worker: Callable[[str, WorkerContext, Catalog, Mapping[type, Any]], QueueWorker]
    """For the queue of that name; with the jobs and the clients of the moment."""
    resources: Mapping[type, Any] = field(default_factory=dict)
    only: Sequence[str] | None = None
    """Queues to run, of all that are known; None: all."""
    janitor_grace: float = GRACE_S


class WorkerPool:
    """Runs a worker for each queue in one event loop."""

    def __init__(self, parts: PoolParts) -> None:
        self._parts = parts
        self._catalog, self._resources = parts.catalog, parts.resources
        queues = parts.registry.queues
        names = list(queues) if parts.only is None else list(parts.only)
        threads = sum(queues[name].concurrency for name in names)
        instance_id = new_instance_id(parts.host_id)
        self.context = WorkerContext(
            store=parts.store,
            control=parts.control,
            instance_id=instance_id,
            tokens=claim_tokens(instance_id),
            events=parts.store.events,
            threads=HandlerThreads(threads),
        )
        self.workers = {name: self._make_worker(name) for name in names}
        scripts = [worker.scripts for worker in self.workers.values()]
        self.keeper = LeaseKeeper(parts.store.target, parts.store.scripts["renew"], instance_id)
        self.recoverer = Recoverer(
            parts.store,
            instance_id,
            self.context.tokens,
            parts.host_id,
            scripts,
            parts.store.events,
            self.context.clock,
        )
        self.janitor = Janitor(parts.store, parts.control, scripts, grace=parts.janitor_grace)
        self.access = StoreAccess(parts.store, self._keys)
        self.tick = MaintenanceTick(
            parts.store,
            instance_id,
            self.workers,
            self.keeper,
            self.recoverer,
            self.janitor,
            self.access,
            describe=self.describe,
            known_jobs=self._known_jobs,
            clock=self.context.clock,
        )
        self.wake_listener = WakeListener(parts.store, parts.control, self.workers)
        self.draining = False
        self._started_at = time.time()
        self._started = False

    @property
    def active(self) -> int:
        """How many jobs run now, in all queues."""
        return sum(worker.active for worker in self.workers.values())

    @property
    def leaked(self) -> int:
        """Handlers that run although their jobs were given up."""
        return self.context.threads.leaked + sum(worker.executor.leaked for worker in self.workers.values())

    @property
    def degraded(self) -> dict[str, str]:
        """Queues that do not work now, and why."""
        return {name: worker.degraded for name, worker in self.workers.items() if worker.degraded}

    def describe(self) -> DaemonInfo:
        """This daemon, as others see it."""
        return DaemonInfo(
            id=self.context.instance_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            queues=list(self.workers),
            active=self.active,
            state="draining" if self.draining else "running",
            seen_at=time.time(),
        )

    def _known_jobs(self) -> dict[str, list[str]]:
        """The jobs that each queue of this daemon knows."""
        return {name: self._catalog.names(name) for name in self.workers}

    async def inspect(self) -> dict[str, QueueCounts]:
        """The counts of all queues."""
        return await self._parts.control.inspector.all_counts()

    async def start(self) -> None:
        """Writes the pending acks, takes back what a predecessor held, begins to work.

        May be called again after an error. Raises StoreUnusable where the store's user lacks permissions, and what
        the store answers to writes.
        """
        await self.access.require()
        await pending_acks.write(self._parts.files, self._parts.control.inspector.scripts)
        await self.tick.announce()
        await self.recoverer.run_once()
        await self.keeper.start()
        for worker in self.workers.values():
            await worker.start()
        await self.wake_listener.start()
        await self.tick.start()
        self._started = True

    async def configure(self, catalog: Catalog, resources: Mapping[type, Any]) -> None:
        """Applies the registry's settings, other jobs and other clients, and works on queues that are new.

        Jobs that run are not disturbed.
        """
        self._catalog, self._resources = catalog, resources
        added = []
        queues = self._parts.registry.queues
        for name in queues:
            if name in self.workers:
                self.workers[name].configure(catalog, resources)
            elif self._parts.only is None:
                added.append(self._add_worker(name))
        self.context.threads.resize(sum(queues[name].concurrency for name in self.workers))
        if self._started and not self.draining:
            for worker in added:
                await worker.start()

    def _keys(self) -> list[QueueKeys]:
        """The keys of all queues that are known, run here or not."""
        scripts = self._parts.control.inspector.scripts
        return [scripts[name].keys for name in self._parts.registry.queues]

    def _make_worker(self, name: str) -> QueueWorker:
        return self._parts.make_worker(name, self.context, self._catalog, self._resources)

    def _add_worker(self, name: str) -> QueueWorker:
        worker = self.workers[name] = self._make_worker(name)
        self.recoverer.add(worker.scripts)
        self.janitor.add(worker.scripts)
        self.tick.add(worker.scripts.keys)
        return worker

    async def stop(self, drain_timeout: float, hurry: asyncio.Event | None = None) -> DrainReport:
        """Drains and ends, within `drain_timeout` and one second more; idempotent, also before start."""
        report = await self.drain(drain_timeout, hurry)
        await self.finish(report)
        return report

    async def drain(self, drain_timeout: float, hurry: asyncio.Event | None = None) -> DrainReport:
        """Nothing starts any more; what runs may finish; the rest is cancelled. `hurry` cuts the wait short."""
        report = DrainReport()
        if not self._started:
            return report
        self.draining = True
        workers = list(self.workers.values())
        for worker in workers:
            worker.stop_taking()
        before = self.active
        await self.context.isolation.stop()
        await self._wait_for_jobs(drain_timeout, hurry)
        report.given_back = self.active
        report.finished = before - report.given_back
        for worker in workers:
            worker.give_back()
        await self._wait_for_jobs(GIVE_BACK_S, None)
        for worker in workers:
            worker.executor.abandon_all()
        report.leaked = self.leaked
        return report

    async def finish(self, report: DrainReport) -> None:
        """Writes what is left, or keeps it in the state folder where the store is unavailable, and signs off."""
        await self.wake_listener.stop()
        if not self._started:
            return
        self._started = False
        workers = list(self.workers.values())
        report.pending_acks = await self._write_rest(workers)
        await self.tick.stop()
        await self.keeper.stop()
        if not report.pending_acks and self._parts.store.connected:
            await self._sign_off(workers)
        await self._parts.control.stop()
        self.context.threads.shutdown()

    async def _wait_for_jobs(self, timeout: float, hurry: asyncio.Event | None) -> None:
        waits = [asyncio.create_task(worker.drain(timeout)) for worker in self.workers.values() if worker.active]
        if not waits:
            return
        everything = asyncio.ensure_future(asyncio.gather(*waits, return_exceptions=True))
        cut = asyncio.create_task(hurry.wait()) if hurry else None
        awaited: set[asyncio.Future[Any]] = {everything, cut} if cut else {everything}
        await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        if cut:
            cut.cancel()
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)

    async def _write_rest(self, workers: list[QueueWorker]) -> int:
        stops = [asyncio.create_task(worker.stop()) for worker in workers]
        _, late = await asyncio.wait(stops, timeout=WRITE_S)
        if late:
            for worker in workers:
                worker.cut()
            await asyncio.wait(late)
        unsettled = {worker.name: rest for worker in workers if (rest := worker.acks.unwritten())}
        count = sum(map(len, unsettled.values()))
        if count:
            self._keep(unsettled, count)
        return count

    def _keep(self, unsettled: dict[str, list[Ack]], count: int) -> None:
        try:
            pending_acks.save(self._parts.files, unsettled)
        except CrmdError as error:
            _log.error("%d outcomes are lost, these jobs run again: %s", count, error)
        else:
            _log.warning("%d outcomes are kept in the state folder and written at the next start", count)
            for name, acks in unsettled.items():
                self.workers[name].announce(acks)

    async def _sign_off(self, workers: list[QueueWorker]) -> None:
        """Gives back what a claim leased whose answer never came, and leaves the list of daemons."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(worker.reconcile() for worker in workers))
                await self.tick.leave()
        except (StoreError, TimeoutError):
            _log.debug("could not sign off; the entry expires by itself")
