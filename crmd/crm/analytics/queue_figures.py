"""What the queues do, for handlers."""

from __future__ import annotations

from collections.abc import Mapping

from crmd.crm.analytics.figures import QueueFigure, QueueFigures
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.views import QueueMetrics


def queue_figures(inspector: Inspector) -> QueueFigures:
    """The resource that reads them from the store; its `read` raises StoreUnavailable."""

    async def read() -> Mapping[str, QueueFigure]:
        return {name: _figure(metrics) for name, metrics in (await inspector.metrics()).items()}

    return QueueFigures(read)


def _figure(metrics: QueueMetrics) -> QueueFigure:
    counts, totals = metrics.counts, metrics.totals
    return QueueFigure(
        completed=totals.completed,
        failed=totals.failed,
        cancelled=totals.cancelled,
        retried=totals.retried,
        waiting=counts.waiting,
        active=counts.active,
        delayed=counts.delayed,
        oldest_waiting_seconds=counts.oldest_waiting_seconds,
        wait_ms=metrics.wait_ms,
        run_ms=metrics.run_ms,
    )
