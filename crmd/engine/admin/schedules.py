"""The configured schedules: listed, run by hand, paused."""

from __future__ import annotations

import asyncio
import difflib
import uuid
from dataclasses import dataclass
from typing import Any

from crmd.engine.admin.control import Control
from crmd.engine.admin.views import Added, NewJob, instant
from crmd.engine.cron import Recurrence, recurrence
from crmd.engine.durations import format_duration
from crmd.engine.settings import ScheduleSettings, SettingsRegistry
from crmd.engine.store import schedules as stored
from crmd.engine.store.schedules import ScheduleRecord
from crmd.errors import JobNotFound, UnknownQueue, UnknownSchedule

UNIQUE_S = 3600.0
"""The key of a due time stays taken this long, for clocks that are set back and records that are lost."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The settings of a schedule, and the recurrence that they describe."""

    name: str
    settings: ScheduleSettings
    times: str
    """When it comes, as text; another text starts it over."""
    recurrence: Recurrence

    def job(self, due_ms: int) -> NewJob:
        """The job of one due time; its key names the time, so that there is no second one."""
        key = f"schedule:{self.name}:{due_ms // 1000}"
        return NewJob(self.settings.job, self.settings.payload, key=key, unique_for=UNIQUE_S)


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """One schedule, as the outside sees it. Instants are epoch seconds here and RFC 3339 in `to_json()`."""

    name: str
    queue: str
    job: str
    times: str
    missed: str
    enabled: bool
    paused_at: float | None
    paused_by: str | None
    paused_reason: str | None
    next_run_at: float | None
    """None while it is paused or switched off."""
    last_run_at: float | None
    last_due_at: float | None
    """None where a person asked for the last run."""
    last_queue: str | None
    last_key: str | None
    last_state: str | None
    """The state of the last run's job; None where it is no longer kept."""

    def to_json(self) -> dict[str, Any]:
        """The schedule as HTTP and `--json` show it."""
        data = {name: getattr(self, name) for name in self.__slots__}
        for name in ("paused_at", "next_run_at", "last_run_at", "last_due_at"):
            data[name] = instant(data[name])
        return {**data, "paused": self.paused_at is not None}


class Schedules:
    """Looks at schedules and steers them, on all daemons. Raises UnknownSchedule and StoreUnavailable."""

    def __init__(self, control: Control, registry: SettingsRegistry) -> None:
        self._control = control
        self._registry = registry

    def settings(self, name: str) -> ScheduleSettings:
        """The settings of one schedule; raises UnknownSchedule that suggests a name."""
        try:
            return self._registry.schedules[name]
        except KeyError:
            near = difflib.get_close_matches(name, self._registry.schedules, n=1)
            known = ", ".join(sorted(self._registry.schedules)) or "none"
            hint = f"did you mean {near[0]}?" if near else f"there are: {known}"
            raise UnknownSchedule(f"no schedule is named {name!r}; {hint}") from None

    async def all(self) -> list[ScheduleView]:
        """Every schedule of the configuration, sorted by name."""
        return list(await asyncio.gather(*(self.get(name) for name in sorted(self._registry.schedules))))

    async def get(self, name: str) -> ScheduleView:
        """One schedule as it stands now; raises UnknownSchedule."""
        settings, store = self.settings(name), self._control.store
        where, [record] = await asyncio.gather(
            stored.position(store, name), stored.stored_schedules(store, [name])
        )
        goes_on = settings.enabled and record.paused_at is None
        made = schedule(settings)
        return ScheduleView(
            name=name,
            queue=settings.queue,
            job=settings.job,
            times=made.times,
            missed=settings.missed,
            enabled=settings.enabled,
            paused_at=record.paused_at,
            paused_by=record.paused_by,
            paused_reason=record.paused_reason,
            next_run_at=made.recurrence.next_after(where.now_ms) / 1000 if goes_on else None,
            last_run_at=record.ran_at,
            last_due_at=record.due_at,
            last_queue=record.queue,
            last_key=record.key,
            last_state=await self._state(record),
        )

    async def run(self, name: str) -> Added:
        """Adds the schedule's job now, beside its due times."""
        settings = self.settings(name)
        key = f"schedule:{name}:by-hand-{uuid.uuid4().hex[:8]}"
        [added] = await self._control.enqueue(settings.queue, [NewJob(settings.job, settings.payload, key=key)])
        await stored.note_run(self._control.store, name, settings.queue, added.key)
        return added

    async def pause(self, name: str, *, by: str | None = None, reason: str | None = None) -> None:
        """Pauses a schedule until it is resumed; restarts do not end that."""
        self.settings(name)
        await stored.pause(self._control.store, name, by, reason)
        self._control.store.events.emit("schedule.paused", schedule=name, by=by, reason=reason)

    async def resume(self, name: str) -> None:
        """Lets a paused schedule go on; what came due in the pause is not caught up."""
        self.settings(name)
        await stored.resume(self._control.store, name)
        self._control.store.events.emit("schedule.resumed", schedule=name)

    async def _state(self, record: ScheduleRecord) -> str | None:
        if record.queue is None or record.key is None:
            return None
        try:
            return (await self._control.inspector.job(record.queue, record.key)).state
        except (JobNotFound, UnknownQueue):
            return None


def schedule(settings: ScheduleSettings) -> Schedule:
    """The schedule that the settings describe."""
    cron, every_s, timezone = settings.cron, settings.every_seconds, settings.timezone
    times = f"every {format_duration(every_s)}" if cron is None else f"{cron} {timezone}"
    return Schedule(settings.name, settings, times, recurrence(cron, every_s, timezone))
