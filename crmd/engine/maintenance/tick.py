"""One trip to the store a second maintains all queues of the daemon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

import orjson

from crmd.component import Periodic
from crmd.engine.admin.views import DaemonInfo
from crmd.engine.maintenance.external_workers import ExternalWorkers
from crmd.engine.maintenance.heartbeat import LEASE_S, LeaseKeeper
from crmd.engine.maintenance.janitor import Janitor
from crmd.engine.maintenance.recoverer import Recoverer
from crmd.engine.store import keys
from crmd.engine.store.access import StoreAccess
from crmd.engine.store.client import Store
from crmd.engine.store.keys import QueueKeys
from crmd.engine.store.limit_clock import StepWatch
from crmd.engine.store.replies import Tick
from crmd.engine.store.scripts import echo, renew, tick
from crmd.engine.worker.context import Clock
from crmd.engine.worker.worker import QueueWorker
from crmd.errors import StoreError, StoreUnavailable

EVERY_S = 1.0
INFO_EVERY_TICKS = 5
INFO_TTL_S = 20
RECONCILE_EVERY_TICKS = 60
EXPIRE_EVERY_TICKS = 30
"""Between full looks for leases whose daemon is not even listed."""
EXTERNAL_EVERY_TICKS = 30

_log = logging.getLogger(__name__)


class MaintenanceTick(Periodic):
    """Due jobs, trimming, recovery, aborts and the daemon's own entry, once a second."""

    def __init__(
        self,
        store: Store,
        instance_id: str,
        workers: Mapping[str, QueueWorker],
        keeper: LeaseKeeper,
        recoverer: Recoverer,
        janitor: Janitor,
        access: StoreAccess,
        *,
        describe: Callable[[], DaemonInfo],
        known_jobs: Callable[[], Mapping[str, list[str]]],
        clock: Clock,
    ) -> None:
        super().__init__("maintenance", EVERY_S, _log)
        self._store = store
        self._instance_id = instance_id
        self._workers = workers
        self._keeper = keeper
        self._recoverer = recoverer
        self._janitor = janitor
        self._access = access
        self._external_workers = ExternalWorkers(
            store, [worker.scripts.keys for worker in workers.values()], now=clock.now
        )
        self._describe = describe
        self._known_jobs = known_jobs
        self._steps = StepWatch(lambda: store.monotonic())
        self._ticks = 0

    def add(self, queue: QueueKeys) -> None:
        """Looks for SAQ workers on one more queue; all else it sees by the workers."""
        self._external_workers.add(queue)

    async def leave(self) -> None:
        """Takes the daemon off the list: its leases are all given back."""
        instance_id = self._instance_id
        await self._store.command("ZREM", keys.DAEMONS, instance_id)
        await self._store.command("DEL", keys.daemon_info(instance_id), keys.daemon_jobs(instance_id))

    async def run_once(self) -> Tick:
        """One tick. A part that the store refuses is logged, and keeps no other part from its work.

        Raises StoreUnavailable.
        """
        self._keeper.loop_is_alive()
        if not self._store.connected:
            raise StoreUnavailable(self._store.trouble)
        store, workers = self._store, list(self._workers.values())
        number, self._ticks = self._ticks, self._ticks + 1
        calls: list[Awaitable[Any]] = [self._access.run_once()]
        calls += [worker.executor.check() for worker in workers if worker.active]
        for worker in workers:
            worker.acks.forget_sent()
        finished = [pair for worker in workers for pair in worker.acks.recently_finished()]
        if finished:
            calls.append(echo(store, finished[-2000:]))
        if number % INFO_EVERY_TICKS == 0:
            calls += [self.announce(), store.probe()]
        if number % EXTERNAL_EVERY_TICKS == 0:
            calls.append(self._external_workers.run_once())
        self._recoverer.observer.ask(store.connected_since)
        sent_ms = self._steps.sent_ms()
        seen, _ = await asyncio.gather(
            tick(store, [worker.scripts for worker in workers]),
            asyncio.gather(*map(self._apart, calls)),
        )
        for worker, due_ms, untrimmed in zip(workers, seen.due_ms, seen.untrimmed, strict=True):
            if due_ms >= 0:
                worker.claim_within(due_ms / 1000)
            if due_ms == 0:
                await self._apart(worker.promote_due())
            if untrimmed:
                await self._apart(worker.scripts.trim())
        self._recoverer.observer.listed(seen.daemons)
        if step_ms := self._steps.see(sent_ms, seen.now_ms):
            self._store.events.emit("store.clock_set", seconds=round(step_ms / 1000, 1))
            await self._apart(self.announce())  # a step forward ended the entry's time to live
        await self._apart(self._expire_leases(number))
        await self._apart(self._janitor.run_once())
        if number % RECONCILE_EVERY_TICKS == RECONCILE_EVERY_TICKS - 1:
            for worker in workers:
                worker.reconcile_soon()
        return seen

    async def announce(self) -> None:
        """Writes the daemon's entry, its place in the list, which jobs it knows, and what adders need to know."""
        document = orjson.dumps(asdict(self._describe()))
        queues = [worker.scripts.settings for worker in self._workers.values()]
        known = orjson.dumps(self._known_jobs())
        try:
            await renew(self._store, self._instance_id, round(LEASE_S * 1000), document, INFO_TTL_S, known, queues)
        except StoreError:
            self._recoverer.observer.restart()  # nobody else may have been able to renew either
            raise

    async def _expire_leases(self, number: int) -> None:
        """Takes over from the dead, and now and then looks for leases whose daemon is not even listed."""
        dead = self._recoverer.observer.dead()
        dead.pop(self._instance_id, None)
        if dead or number % EXPIRE_EVERY_TICKS == EXPIRE_EVERY_TICKS - 1:
            await self._recoverer.run_once(dead)
        if dead:
            await self._recoverer.forget(dead)

    async def _apart(self, call: Awaitable[Any]) -> None:
        try:
            await call
        except StoreUnavailable:
            raise
        except StoreError as error:
            self._note(error)
