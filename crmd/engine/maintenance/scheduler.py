"""Adds the jobs of schedules when they are due: one job for each time, however many daemons there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from crmd.component import BackgroundTask
from crmd.engine.admin.control import Control
from crmd.engine.admin.schedules import Schedule, schedule
from crmd.engine.settings import SettingsRegistry
from crmd.engine.store import schedules as stored
from crmd.engine.store.schedules import Claim, Position
from crmd.errors import CrmdError, StoreUnavailable
from crmd.telemetry.throttle import Throttle

LONGEST_SLEEP_S = 30.0
"""A schedule that was resumed, or a clock that was set, is noticed within this."""
RETRY_S = 1.0
"""After a pass that the store refused."""
LATE_MS = 60_000
"""With `missed = "skip"` a time older than this has passed; a restart takes less."""
_MARGIN_MS = 2
"""Sleeping ends a little after the due time, not a little before it."""

_log = logging.getLogger(__name__)


class Scheduler(BackgroundTask):
    """Sleeps until the next due time. The store's clock decides what is due, and its script who adds the job."""

    def __init__(self, control: Control, registry: SettingsRegistry) -> None:
        super().__init__("schedules")
        self._control = control
        self._store = control.store
        self._registry = registry
        self._errors = Throttle(60.0)
        self._wake = asyncio.Event()
        self.configure()

    def configure(self) -> None:
        """Applies the registry's settings; schedules whose times changed begin now, those that are gone end."""
        self._schedules = [schedule(each) for each in self._registry.schedules.values() if each.enabled]
        self._adopted: set[str] = set()
        self._wake.set()

    async def run_once(self) -> float:
        """Adds what is due; returns the seconds until something is due again, at most LONGEST_SLEEP_S.

        Raises StoreUnavailable; what else goes wrong with one schedule is logged and keeps no other from its work.
        """
        waits = await asyncio.gather(*(self._apart(one) for one in self._schedules))
        return min([LONGEST_SLEEP_S, *waits])

    async def _apart(self, one: Schedule) -> float:
        try:
            return await self._advance(one)
        except StoreUnavailable:
            raise
        except Exception as error:
            if self._errors.allow(one.name) is not None:
                expected = isinstance(error, CrmdError)
                _log.error("schedule %s: %s", one.name, error, exc_info=None if expected else error)
            return RETRY_S

    async def _advance(self, one: Schedule) -> float:
        where = await stored.position(self._store, one.name, "" if one.name in self._adopted else one.times)
        self._adopted.add(one.name)
        if where.clock_went_back:
            _log.warning("schedule %s: the store's clock went back; it goes on from the present", one.name)
        if where.paused:
            return LONGEST_SLEEP_S
        next_ms, now_ms = one.recurrence.next_after(where.position_ms), where.now_ms
        if next_ms <= now_ms:
            now_ms = await self._claim(one, where, next_ms)
            next_ms = one.recurrence.next_after(now_ms)
        return max(0, next_ms + _MARGIN_MS - now_ms) / 1000

    async def _claim(self, one: Schedule, where: Position, first_ms: int) -> int:
        """Claims the last time that is due, for itself and those missed before it; returns the store's time."""
        due_ms = max(first_ms, one.recurrence.last_at(where.now_ms))
        late_ms = where.now_ms - due_ms
        queue = self._control.inspector.queue(one.settings.queue).keys
        job = None
        if one.settings.missed == "once" or late_ms <= LATE_MS:
            [job] = self._control.documents(one.settings.queue, [one.job(due_ms)])
        what, now_ms = await stored.claim(self._store, one.name, queue, where.position_ms, due_ms, job)
        if what in (Claim.CLAIMED, Claim.PASSED_OVER):
            key = queue.key_of(job.job_id) if job else None
            self._store.events.emit(
                "schedule.ran" if job else "schedule.skipped",
                schedule=one.name,
                queue=one.settings.queue,
                key=key,
                late_seconds=late_ms / 1000,
            )
        return now_ms

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            await self._store.wait_connected()
            try:
                seconds = await self.run_once()
            except StoreUnavailable:
                seconds = RETRY_S  # said by the store itself
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
