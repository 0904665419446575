"""When a schedule comes due. Pure: the same answer on every daemon, whatever its clock and its own time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

NEAR = timedelta(hours=3)
"""How far from a change of the clocks its effects reach: clocks change by two hours at most."""
_NEAR_MS = round(NEAR.total_seconds() * 1000)
_A_MOMENT = timedelta(seconds=1)


class Recurrence(Protocol):
    """The due times of one schedule, in epoch milliseconds."""

    def next_after(self, at_ms: int) -> int:
        """The first due time after an instant, both epoch ms; raises ValueError where there is none."""

    def last_at(self, at_ms: int) -> int:
        """The last due time up to and with an instant, both epoch ms; raises ValueError where there is none."""


class Interval:
    """Every so often, counted from 1970: daemons that start at different times agree."""

    def __init__(self, seconds: float) -> None:
        self._ms = round(seconds * 1000)

    def next_after(self, at_ms: int) -> int:
        """The first due time after an instant."""
        return (at_ms // self._ms + 1) * self._ms

    def last_at(self, at_ms: int) -> int:
        """The last due time up to and with an instant."""
        return at_ms // self._ms * self._ms


class CronTable:
    """A cron expression in a time zone, also where clocks change.

    A time that the clocks leave out comes as much later as they jump, once. A time that comes twice is due the
    first time only; with a minute or an hour that begins with `*` it is due both times, as the clock shows it.
    """

    def __init__(self, cron: str, timezone: str) -> None:
        # Imported where it is needed: it costs a command line that has no schedules 30 ms.
        from croniter import croniter

        self._croniter = croniter
        self._cron = cron
        self._zone = ZoneInfo(timezone)
        minute, hour, *_ = ["*", "*"] if cron == "@hourly" else (cron + " 0").split()
        self._by_the_clock = minute.startswith("*") or hour.startswith("*")

    def next_after(self, at_ms: int) -> int:
        """The first due time after an instant."""
        start, margin = self._local(at_ms), self._margin(at_ms)
        best: int | None = None
        for local in self._walk(start - margin, "get_next"):
            for due in self._instants(local):
                if due > at_ms and (best is None or due < best):
                    best = due
            # Near a change a time that the clocks show later may come earlier.
            if best is not None and local >= self._local(best) + margin:
                return best
        raise ValueError(f"{self._cron} has no next time")

    def last_at(self, at_ms: int) -> int:
        """The last due time up to and with an instant."""
        start, margin = self._local(at_ms), self._margin(at_ms)
        best: int | None = None
        for local in self._walk(start + margin + _A_MOMENT, "get_prev"):
            for due in self._instants(local):
                if due <= at_ms and (best is None or due > best):
                    best = due
            if best is not None and local <= self._local(best) - margin:
                return best
        raise ValueError(f"{self._cron} has no last time")

    def _walk(self, start: datetime, step: str) -> Iterator[datetime]:
        """The times that the expression names, without a zone, away from a start that is not among them."""
        times = self._croniter(self._cron, start)
        while True:
            yield getattr(times, step)(datetime)

    def _instants(self, local: datetime) -> list[int]:
        first, second = (round(local.replace(tzinfo=self._zone, fold=fold).timestamp() * 1000) for fold in (0, 1))
        # In a gap the first is the later one, and that time as many minutes after the jump.
        return [first, second] if first < second and self._by_the_clock else [first]

    def _margin(self, at_ms: int) -> timedelta:
        around = (at_ms - _NEAR_MS, at_ms + _NEAR_MS)
        before, after = (datetime.fromtimestamp(ms / 1000, self._zone).utcoffset() for ms in around)
        return NEAR if before != after else timedelta()

    def _local(self, at_ms: int) -> datetime:
        return datetime.fromtimestamp(at_ms / 1000, self._zone).replace(tzinfo=None, fold=0)


def recurrence(cron: str | None, every: float | None, timezone: str) -> Recurrence:
    """The recurrence of a schedule: of its cron expression, or of its interval in seconds.

    Raises ValueError where it has neither.
    """
    if cron is not None:
        return CronTable(cron, timezone)
    if every is not None:
        return Interval(every)
    raise ValueError("a schedule has a cron expression or an interval")
