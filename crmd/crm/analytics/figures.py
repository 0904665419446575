"""What the queues do, as handlers may ask for it: they know neither the queues nor the store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

COUNTED = ("completed", "failed", "cancelled", "retried")
"""What is counted from one snapshot to the next."""


@dataclass(frozen=True, slots=True)
class QueueFigure:
    """One queue now. The counts are of all time."""

    completed: int
    failed: int
    cancelled: int
    retried: int
    waiting: int
    active: int
    delayed: int
    oldest_waiting_seconds: float | None
    wait_ms: Mapping[str, float | None]
    """p50, p95, p99 from added (or due) to started, of the latest completed jobs."""
    run_ms: Mapping[str, float | None]
    """p50, p95, p99 from started to ended, of the latest completed jobs."""


_NEW: Mapping[str, Any] = {"totals": dict.fromkeys(COUNTED, 0)}


class QueueFigures:
    """A resource of handlers: reads what all queues do. `read` raises what its reader raises."""

    def __init__(self, reader: Callable[[], Awaitable[Mapping[str, QueueFigure]]]) -> None:
        self._reader = reader

    async def read(self) -> Mapping[str, QueueFigure]:
        """Each queue by its name."""
        return await self._reader()


def queue_part(
    figures: Mapping[str, QueueFigure], earlier: Mapping[str, Any] | None, taken_at: datetime
) -> dict[str, Any]:
    """The queues' part of a snapshot: how they stand, and what they did since the earlier snapshot with this data.

    Counts are None where there is no earlier one.
    """
    part: Mapping[str, Any] = (earlier or {}).get("queues") or {}
    before = part.get("by_name", {})
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "since": part.get("taken_at"),
        "by_name": {
            name: _one(figure, before.get(name, _NEW) if before else None) for name, figure in figures.items()
        },
    }


def _one(figure: QueueFigure, before: Mapping[str, Any] | None) -> dict[str, Any]:
    now = asdict(figure)
    totals = {name: now.pop(name) for name in COUNTED}
    # A store that was replaced counts from 0 again.
    counted = {name: _more(totals[name], before["totals"][name]) if before else None for name in COUNTED}
    return {**counted, **now, "totals": totals}


def _more(now: int, before: int) -> int:
    return now - before if now >= before else now
