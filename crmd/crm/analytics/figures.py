"""The queues' part of a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from crmd.engine.admin.views import QueueMetrics

COUNTED = ("completed", "failed", "cancelled", "retried")
"""What is counted from one snapshot to the next."""


_NEW: Mapping[str, Any] = {"totals": dict.fromkeys(COUNTED, 0)}


def queue_part(
    metrics: Mapping[str, QueueMetrics], earlier: Mapping[str, Any] | None, taken_at: datetime
) -> dict[str, Any]:
    """The queues' part of a snapshot: how they stand, and what they did since the earlier snapshot with this data.

    Counts are None where there is no earlier one.
    """
    part: Mapping[str, Any] = (earlier or {}).get("queues") or {}
    before = part.get("by_name", {})
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "since": part.get("taken_at"),
        "by_name": {name: _one(one, before.get(name, _NEW) if before else None) for name, one in metrics.items()},
    }


def _one(metrics: QueueMetrics, before: Mapping[str, Any] | None) -> dict[str, Any]:
    counts = metrics.counts
    totals = {name: getattr(metrics.totals, name) for name in COUNTED}
    # A store that was replaced counts from 0 again.
    counted = {name: _more(totals[name], before["totals"][name]) if before else None for name in COUNTED}
    return {
        **counted,
        "waiting": counts.waiting,
        "active": counts.active,
        "delayed": counts.delayed,
        "oldest_waiting_seconds": counts.oldest_waiting_seconds,
        "wait_ms": metrics.wait_ms,
        "run_ms": metrics.run_ms,
        "totals": totals,
    }


def _more(now: int, before: int) -> int:
    return now - before if now >= before else now
