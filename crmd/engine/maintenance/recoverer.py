"""Gives back what dead daemons held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from crmd.engine.codec import Unreadable, decode, ended_document, timeline_entry
from crmd.engine.maintenance.lease_observer import LeaseObserver
from crmd.engine.store import keys
from crmd.engine.store.keys import QueueKeys
from crmd.engine.store.replies import Ack, AckKind
from crmd.engine.store.scripts import POISON_AFTER_CRASHES, QueueScripts
from crmd.engine.worker.context import Engine
from crmd.errors import StoreError, StoreUnavailable
from crmd.telemetry.throttle import Throttle

DEGRADED_TOLD_EVERY_S = 30.0

_EVENTS = {"unknown": "job.unknown", "poison": "job.poisoned", "aborted": "job.cancelled"}

_FATES = {
    "unknown": (AckKind.UNKNOWN, "failed", "outcome unknown: its daemon died after the effect had begun"),
    "poison": (AckKind.FAILED, "failed", f"poison: its daemon died {POISON_AFTER_CRASHES} times while it ran"),
    "aborted": (AckKind.ABORTED, "aborted", "cancelled"),
}


class Recovery:
    """Finds jobs whose daemon is gone and queues them again, or settles what must not run again."""

    def __init__(self, engine: Engine, queues: Iterable[QueueScripts]) -> None:
        self._engine = engine
        self._queues = list(queues)
        self.observer = LeaseObserver(engine.monotonic)
        self._told = Throttle(DEGRADED_TOLD_EVERY_S, monotonic=engine.monotonic)

    def add(self, queue: QueueScripts) -> None:
        """Looks after one more queue."""
        self._queues.append(queue)

    async def run_once(self, dead: Mapping[str, str] = MappingProxyType({})) -> int:
        """Recovers the jobs of our predecessors, and of `dead`: epochs, and their entries in the list.

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
                if self._told.allow((name, reason)) is not None:
                    self._engine.events.emit("queue.degraded", queue=name, reason=reason)
        return total

    async def forget(self, epochs: Iterable[str]) -> None:
        """Takes daemons off the list once nothing is leased to them."""
        gone = set(epochs)
        for queue in self._queues:
            try:
                gone -= {token.rpartition(":")[0] for token in (await queue.leases()).values()}
            except StoreUnavailable:
                raise
            except StoreError:  # whatever is leased there shows as leased by nobody that is listed
                continue
        if gone:
            await self._engine.store.command("ZREM", keys.DAEMONS, *gone)
            entries = (name(epoch) for epoch in gone for name in (keys.daemon_info, keys.daemon_jobs))
            await self._engine.store.command("DEL", *entries)
            self.observer.forget(gone)

    async def _recover(self, queue: QueueScripts, dead: Mapping[str, str]) -> int:
        engine, cursor, total = self._engine, "0", 0
        while True:
            token = engine.next_token()
            step = await queue.recover(engine.epoch, engine.identity_prefix, token, dead=dead, cursor=cursor)
            self.observer.found_unlisted(step.unlisted)
            if step.ended:
                await self._settle(queue, token, step.ended)
            total += step.returned + len(step.ended)
            cursor = step.cursor
            if cursor == "0":
                break
        if total:
            engine.events.emit("job.lost", queue=queue.keys.name, count=total)
        return total

    async def _settle(self, queue: QueueScripts, token: str, fates: Iterable[tuple[str, bytes, str]]) -> None:
        now = self._engine.now()
        outcomes = [outcome_of_fate(queue.keys, job_id, token, doc, fate, now) for job_id, doc, fate in fates]
        stale, _ = await queue.settle(outcomes)
        for outcome in outcomes:
            if outcome.job_id not in stale:
                event, fields = outcome.event
                self._engine.events.emit(event, **fields)


def outcome_of_fate(k: QueueKeys, job_id: str, token: str, document: bytes, fate: str, now: float) -> Ack:
    """What settle writes for a job that must not run again: fate is unknown, poison or aborted."""
    kind, status, error = _FATES[fate]
    event = (_EVENTS[fate], {"queue": k.name, "key": k.key_of(job_id), "error": error})
    try:
        data = decode(document)
    except Unreadable:
        return Ack(job_id, token, kind, b"", 0, timeline_entry(now, fate, 0, 0, error), event=event)
    if fate == "aborted":
        error = data.get("error") or error
    attempt = data.get("attempts") or 0
    ended = ended_document(data, status, error, now)
    return Ack(job_id, token, kind, ended, 0, timeline_entry(now, fate, attempt, 0, error), event=event)
