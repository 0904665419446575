"""The workers of one daemon, and what looks after them: started and stopped as one."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crmd.engine.admin.control import Control
from crmd.engine.admin.views import DaemonInfo, QueueCounts
from crmd.engine.maintenance.heartbeat import LeaseKeeper, new_epoch
from crmd.engine.maintenance.janitor import GRACE_S, Janitor
from crmd.engine.maintenance.recoverer import Recovery
from crmd.engine.maintenance.tick import Upkeep
from crmd.engine.maintenance.wake_listener import WakeListener
from crmd.engine.saq.queue import CrmQueue
from crmd.engine.settings import QueueSettings
from crmd.engine.store.access import StoreAccess
from crmd.engine.store.client import Store
from crmd.engine.store.replies import Ack
from crmd.engine.worker import pending_acks as spool
from crmd.engine.worker.context import Engine
from crmd.engine.worker.pending_acks import PrivateFiles
from crmd.engine.worker.threads import HandlerThreads
from crmd.engine.worker.worker import CrmWorker
from crmd.errors import CrmdError, StoreError
from crmd.jobs import Catalog
from crmd.telemetry.events import Events
from crmd.version import __version__

GIVE_BACK_S = 0.3
"""What is cancelled at the end of a drain has so long to end."""
WRITE_S = 0.4
"""The last outcomes have so long to be written; then they are spooled."""
LEAVE_S = 0.2
"""Giving back strays and signing off may take so long. All three together stay inside one second."""

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class DrainReport:
    """How a drain went."""

    finished: int = 0
    given_back: int = 0
    spooled: int = 0
    leaked: int = 0


@dataclass(slots=True)
class FleetParts:
    """What a fleet is made of."""

    store: Store
    control: Control
    queues: Mapping[str, QueueSettings]
    catalog: Catalog
    identity: str
    files: PrivateFiles
    events: Events = field(default_factory=Events)
    resources: Mapping[type, Any] = field(default_factory=dict)
    only: Sequence[str] | None = None
    """Queues to run, of all that are known; None: all."""
    janitor_grace: float = GRACE_S


class Fleet:
    """Runs a worker for each queue in one event loop."""

    def __init__(self, parts: FleetParts) -> None:
        self._parts = parts
        names = list(parts.queues) if parts.only is None else list(parts.only)
        threads = sum(parts.queues[name].concurrency for name in names)
        self.engine = Engine(
            store=parts.store,
            control=parts.control,
            epoch=new_epoch(parts.identity),
            identity=parts.identity,
            catalog=parts.catalog,
            events=parts.events,
            threads=HandlerThreads(threads),
            resources=parts.resources,
        )
        self.queues = {name: CrmQueue(settings, parts.control) for name, settings in parts.queues.items()}
        self.workers = {name: CrmWorker(self.queues[name], self.engine) for name in names}
        scripts = [worker.scripts for worker in self.workers.values()]
        self.keeper = LeaseKeeper(parts.store.target, self.engine.epoch)
        self.recovery = Recovery(self.engine, scripts)
        self.janitor = Janitor(parts.store, parts.control, scripts, grace=parts.janitor_grace)
        self.access = StoreAccess(parts.store, lambda: [queue.scripts.keys for queue in self.queues.values()])
        self.upkeep = Upkeep(
            self.engine, self.workers, self.keeper, self.recovery, self.janitor, self.access, self.describe
        )
        self.wake = WakeListener(parts.store, parts.control, self.workers)
        self.draining = False
        self._started_at = time.time()
        self._started = False

    @property
    def active(self) -> int:
        """Jobs that run now."""
        return sum(worker.active for worker in self.workers.values())

    @property
    def degraded(self) -> dict[str, str]:
        """Queues that do not work now, and why."""
        return {name: worker.degraded for name, worker in self.workers.items() if worker.degraded}

    def describe(self) -> DaemonInfo:
        """This daemon, as others see it."""
        return DaemonInfo(
            id=self.engine.epoch,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=self._started_at,
            queues=list(self.workers),
            active=self.active,
            state="draining" if self.draining else "running",
            seen_at=time.time(),
        )

    async def inspect(self) -> dict[str, QueueCounts]:
        """The counts of all queues."""
        return await self._parts.control.inspector.all_counts()

    async def start(self) -> None:
        """Writes what was spooled, takes back what a predecessor held, begins to work. Fine again after an error.

        Raises StoreUnusable where the store's user lacks permissions, and what the store answers to writes.
        """
        await self.access.require()
        await spool.write(self._parts.files, {name: queue.scripts for name, queue in self.queues.items()})
        await self.upkeep.announce()
        await self.recovery.run_once()
        self.keeper.start()
        for worker in self.workers.values():
            await worker.start()
        self.wake.start()
        self.upkeep.start()
        self._started = True

    async def configure(
        self, queues: Mapping[str, QueueSettings], catalog: Catalog, resources: Mapping[type, Any]
    ) -> None:
        """Applies other settings, and works on queues that are new. Jobs that run are not disturbed."""
        self.engine.catalog, self.engine.resources = catalog, resources
        added = []
        for name, settings in queues.items():
            self._parts.control.inspector.add_queue(settings)
            if name not in self.queues:
                self.queues[name] = CrmQueue(settings, self._parts.control)
                if self._parts.only is None:
                    added.append(self._add_worker(name))
            self.queues[name].settings = settings
            if name in self.workers:
                self.workers[name].configure(settings)
        self.engine.threads.resize(sum(worker.settings.concurrency for worker in self.workers.values()))
        if self._started and not self.draining:
            for worker in added:
                await worker.start()

    def _add_worker(self, name: str) -> CrmWorker:
        worker = self.workers[name] = CrmWorker(self.queues[name], self.engine)
        self.recovery.add(worker.scripts)
        self.janitor.add(worker.scripts)
        self.upkeep.add(worker.scripts.keys)
        return worker

    async def stop(self, drain_timeout: float, hurry: asyncio.Event | None = None) -> DrainReport:
        """Drains and ends, within `drain_timeout` and one second more. Fine twice, or before start."""
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
        await self.engine.gate.stop()
        await self._wait_for_jobs(drain_timeout, hurry)
        report.given_back = self.active
        report.finished = before - report.given_back
        for worker in workers:
            worker.give_back()
        await self._wait_for_jobs(GIVE_BACK_S, None)
        for worker in workers:
            worker.abandon_all()
        report.leaked = self.engine.leaked + self.engine.threads.leaked
        return report

    async def finish(self, report: DrainReport) -> None:
        """Writes what is left, or spools it where the store is away, and signs off."""
        await self.wake.stop()
        if not self._started:
            return
        self._started = False
        workers = list(self.workers.values())
        report.spooled = await self._write_rest(workers)
        await self.upkeep.stop()
        self.keeper.stop()
        if not report.spooled and self._parts.store.connected:
            await self._sign_off(workers)
        await self._parts.control.stop()
        self.engine.threads.shutdown()

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

    async def _write_rest(self, workers: list[CrmWorker]) -> int:
        stops = [asyncio.create_task(worker.stop()) for worker in workers]
        _, late = await asyncio.wait(stops, timeout=WRITE_S)
        if late:
            for worker in workers:
                worker.cut()
            await asyncio.wait(late)
        unsettled = {worker.settings.name: rest for worker in workers if (rest := worker.unsettled())}
        count = sum(map(len, unsettled.values()))
        if count:
            self._spool(unsettled, count)
        return count

    def _spool(self, unsettled: dict[str, list[Ack]], count: int) -> None:
        try:
            spool.save(self._parts.files, unsettled)
        except CrmdError as error:
            _log.error("%d outcomes are lost, these jobs run again: %s", count, error)
        else:
            _log.warning("%d outcomes are kept in the state folder and written at the next start", count)
            for name, outcomes in unsettled.items():
                self.workers[name].tell(outcomes)

    async def _sign_off(self, workers: list[CrmWorker]) -> None:
        """Gives back what a claim leased whose answer never came, and leaves the list of daemons."""
        try:
            async with asyncio.timeout(LEAVE_S):
                await asyncio.gather(*(worker.reconcile() for worker in workers))
                await self.upkeep.leave()
        except (StoreError, TimeoutError):
            _log.debug("could not sign off; the entry expires by itself")
