"""Gives back the jobs that dead daemons held."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from crmd.engine.maintenance.heartbeat import host_prefix
from crmd.engine.maintenance.lease_observer import LeaseObserver
from crmd.engine.store import keys
from crmd.engine.store.client import Store
from crmd.engine.store.scripts import QueueScripts
from crmd.engine.worker.acks import ack_of_recovered
from crmd.engine.worker.context import Clock
from crmd.errors import StoreError, StoreUnavailable
from crmd.telemetry.events import Events
from crmd.telemetry.throttle import Throttle

DEGRADED_TOLD_EVERY_S = 30.0


class Recoverer:
    """Finds jobs whose daemon is gone and queues them again, or settles what must not run again."""

    def __init__(
        self,
        store: Store,
        instance_id: str,
        tokens: Iterator[str],
        host_id: str,
        queues: Iterable[QueueScripts],
        events: Events,
        clock: Clock,
    ) -> None:
        self._store = store
        self._instance_id = instance_id
        self._tokens = tokens
        self._host_prefix = host_prefix(host_id)
        self._queues = list(queues)
        self._events = events
        self._clock = clock
        self.observer = LeaseObserver(clock.monotonic)
        self._log_throttle = Throttle(DEGRADED_TOLD_EVERY_S, monotonic=clock.monotonic)

    def add(self, queue: QueueScripts) -> None:
        """Looks after one more queue."""
        self._queues.append(queue)

    async def run_once(self, dead: Mapping[str, str] = MappingProxyType({})) -> int:
        """Recovers the jobs of our predecessors, and of `dead`: instance ids, and their entries in the list.

        Returns how many.
        """
        total = 0
        for queue in self._queues:
            try:
                total += await self._recover(queue, dead)
            except StoreUnavailable:
                raise
            except StoreError as error:  # a fault in one queue stays there
                name, reason = queue.keys.name, str(error)
                if self._log_throttle.allow((name, reason)) is not None:
                    self._events.emit("queue.degraded", queue=name, reason=reason)
        return total

    async def forget(self, instance_ids: Iterable[str]) -> None:
        """Takes daemons off the list once nothing is leased to them."""
        gone = set(instance_ids)
        for queue in self._queues:
            try:
                gone -= {token.rpartition(":")[0] for token in (await queue.leases()).values()}
            except StoreUnavailable:
                raise
            except StoreError:  # whatever is leased there shows as leased by nobody that is listed
                continue
        if gone:
            await self._store.command("ZREM", keys.DAEMONS, *gone)
            entries = (name(instance_id) for instance_id in gone for name in (keys.daemon_info, keys.daemon_jobs))
            await self._store.command("DEL", *entries)
            self.observer.forget(gone)

    async def _recover(self, queue: QueueScripts, dead: Mapping[str, str]) -> int:
        cursor, total = "0", 0
        while True:
            token = next(self._tokens)
            step = await queue.recover(self._instance_id, self._host_prefix, token, dead=dead, cursor=cursor)
            self.observer.found_unlisted(step.unlisted)
            if step.ended:
                await self._settle(queue, token, step.ended)
            total += step.returned + len(step.ended)
            cursor = step.cursor
            if cursor == "0":
                break
        if total:
            self._events.emit("job.lost", queue=queue.keys.name, count=total)
        return total

    async def _settle(self, queue: QueueScripts, token: str, ended: Iterable[tuple[str, bytes, str]]) -> None:
        now = self._clock.now()
        acks = [ack_of_recovered(queue.keys, job_id, token, doc, end, now) for job_id, doc, end in ended]
        stale, _ = await queue.settle(acks)
        for ack in acks:
            if ack.job_id not in stale:
                event, fields = ack.event
                self._events.emit(event, **fields)
