"""Probes and summaries: `/health`, `/livez`, `/readyz`, `/metrics` and the three of `/api/v1/queues`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from aiohttp import web

from crmd.console.life import Life
from crmd.engine.admin.queue_health import HealthReport, QueueHealth
from crmd.engine.admin.views import QueueCounts, QueueMetrics, QueueTotals, instant
from crmd.engine.store.client import Store
from crmd.errors import StoreError
from crmd.http.routes import Access, Route, Success
from crmd.telemetry.metrics import Metrics

_ANSWERS = "crmd.console.answers"

_SUMMED = ("waiting", "active", "delayed", "completed", "failed")
_SUMMARY_ERRORS = (503,)
_NOT_WELL = "It is not healthy; `reason` says why."


class HealthApi:
    """Answers probes and summaries; none of them waits for a store that is unavailable."""

    def __init__(self, life: Life, health: QueueHealth, store: Store, metrics: Metrics) -> None:
        self._life = life
        self._health = health
        self._store = store
        self._metrics = metrics

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            Route(
                *("GET", "/health", self.health, Access.OPEN, "Health of the daemon"),
                answers={
                    200: Success("All is well.", f"{_ANSWERS}:HealthAnswer"),
                    503: Success(_NOT_WELL, f"{_ANSWERS}:HealthAnswer"),
                },
                probe=True,
            ),
            Route(
                *("GET", "/livez", self.livez, Access.OPEN, "Whether the process is alive"),
                answers={200: f"{_ANSWERS}:ProbeAnswer"},
                probe=True,
            ),
            Route(
                *("GET", "/readyz", self.readyz, Access.OPEN, "Whether it is ready to serve"),
                answers={
                    200: Success("It serves.", f"{_ANSWERS}:ProbeAnswer"),
                    503: Success(_NOT_WELL, f"{_ANSWERS}:ProbeAnswer"),
                },
                probe=True,
            ),
            Route(
                *("GET", "/metrics", self.prometheus, Access.SUMMARY, "Metrics as Prometheus text"),
                answers={200: Success("The metrics.", media_type="text/plain")},
                probe=True,
            ),
            Route(
                "GET",
                "/api/v1/queues/health",
                self.queues_health,
                Access.SUMMARY,
                "Counts and status of each queue",
                answers={
                    200: f"{_ANSWERS}:QueuesHealthAnswer",
                    503: Success("The store is unavailable.", f"{_ANSWERS}:QueuesHealthAnswer"),
                },
            ),
            Route(
                "GET",
                "/api/v1/queues/metrics",
                self.queues_metrics,
                Access.SUMMARY,
                "Rates, times and limits of each queue",
                answers={200: f"{_ANSWERS}:QueuesMetricsAnswer"},
                errors=_SUMMARY_ERRORS,
            ),
            Route(
                "GET",
                "/api/v1/queues/statistics",
                self.queues_statistics,
                Access.SUMMARY,
                "Totals of all time",
                answers={200: f"{_ANSWERS}:QueuesStatisticsAnswer"},
                errors=_SUMMARY_ERRORS,
            ),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """200 while jobs are processed, else 503 with a reason."""
        report, life = await self._health.report(), self._life
        reason = self._reason(report)
        body: dict[str, Any] = {
            "status": "draining" if life.state == "draining" else "error" if reason else "ok",
            "redis": {"connected": report.connected},
            "queues": report.status,
            "timestamp": instant(time.time()),
            "uptime_seconds": round(life.uptime_seconds(), 3),
            "version": life.version,
        }
        if reason:
            body["reason"] = reason
        return web.json_response(body, status=503 if reason else 200)

    async def livez(self, request: web.Request) -> web.Response:
        """200 while the event loop runs."""
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        """200 while the daemon takes jobs and the store accepts writes, else 503 with a reason."""
        report = await self._health.report()
        reason = self._phase() or report.error or report.refusal
        body = {"status": "error", "reason": reason} if reason else {"status": "ok"}
        return web.json_response(body, status=503 if reason else 200)

    async def prometheus(self, request: web.Request) -> web.Response:
        """Metrics of the process, and of the store while it answers."""
        metrics, store = self._metrics, self._store
        try:
            queues = await self._health.observations()
        except StoreError:
            metrics.set_store(connected=False)
        else:
            metrics.set_store(
                connected=True,
                writable=store.refusal is None,
                latency_seconds=None if store.latency_ms is None else store.latency_ms / 1000,
                memory_ratio=store.memory_ratio,
                queues={name: _gauges(seen.counts) for name, seen in queues.items()},
                totals={name: _totals(seen.totals) for name, seen in queues.items()},
            )
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def queues_health(self, request: web.Request) -> web.Response:
        """Counts and status of each queue; 503 in the same shape without the store."""
        report = await self._health.report()
        body: dict[str, Any] = {
            "status": report.status,
            "redis": {"connected": report.connected, "latency_ms": self._store.latency_ms},
            "queues": {name: _health_of(report, seen.counts) for name, seen in report.queues.items()},
            "totals": _sums([seen.counts for seen in report.queues.values()]),
        }
        if reason := report.error or report.refusal:
            body["reason"] = reason
        return web.json_response(body, status=200 if report.connected else 503)

    async def queues_metrics(self, request: web.Request) -> web.Response:
        """Counts, rates, times and limits of each queue."""
        found = await self._health.metrics()
        queues = {name: metrics_json(metrics) for name, metrics in found.items()}
        return web.json_response({"queues": queues, "timestamp": instant(time.time())})

    async def queues_statistics(self, request: web.Request) -> web.Response:
        """Totals and success rates of all time."""
        found = {name: seen.totals for name, seen in (await self._health.observations()).items()}
        queues = {name: _statistics(totals) for name, totals in found.items()}
        return web.json_response({"totals": _statistics(_sum_totals(list(found.values()))), "queues": queues})

    def _reason(self, report: HealthReport) -> str | None:
        return self._phase() or report.error or report.refusal or "; ".join(report.stalls.values()) or None

    def _phase(self) -> str | None:
        life = self._life
        if life.state == "running":
            return None
        return life.reason or life.state


def counts_json(counts: QueueCounts) -> dict[str, Any]:
    """How many jobs of a queue are in each state."""
    states = ("waiting", "active", "delayed", "completed", "failed", "cancelled", "unknown")
    return {name: getattr(counts, name) for name in states}


def limit_json(counts: QueueCounts) -> dict[str, Any]:
    """The rate limit that applies, and what is left of it."""
    return {
        "rate": counts.rate_limit,
        "left": counts.rate_left,
        "override_until": instant(counts.rate_override_until),
        "blocked_until": instant(counts.blocked_until),
    }


def metrics_json(metrics: QueueMetrics) -> dict[str, Any]:
    """Rates and times of one queue."""
    counts = metrics.counts
    return {
        **counts_json(counts),
        "success_rate": metrics.totals.success_rate,
        "paused": counts.paused,
        "limit": limit_json(counts),
        "throughput_per_minute": metrics.throughput_per_minute,
        "wait_ms": metrics.wait_ms,
        "run_ms": metrics.run_ms,
        "oldest_waiting_seconds": counts.oldest_waiting_seconds,
        "last_start_at": instant(counts.last_start_at),
    }


def _health_of(report: HealthReport, counts: QueueCounts) -> dict[str, Any]:
    numbers = {name: getattr(counts, name) for name in _SUMMED}
    found = {"status": report.status_of(counts.name), **numbers, "paused": counts.paused}
    reason = report.stalls.get(counts.name) or report.degraded.get(counts.name)
    return {**found, "reason": reason} if reason else found


def _sums(queues: Sequence[QueueCounts]) -> dict[str, int]:
    sums = {name: sum(getattr(counts, name) for counts in queues) for name in _SUMMED}
    return {**sums, "paused": sum(counts.paused for counts in queues)}


def _totals(totals: QueueTotals) -> dict[str, int]:
    fields = asdict(totals)
    del fields["name"]
    return fields


def _statistics(totals: QueueTotals) -> dict[str, Any]:
    return {**_totals(totals), "success_rate": totals.success_rate}


def _sum_totals(all_totals: list[QueueTotals]) -> QueueTotals:
    fields = [_totals(totals) for totals in all_totals]
    return QueueTotals("", **{name: sum(one[name] for one in fields) for name in _totals(QueueTotals(""))})


def _gauges(counts: QueueCounts) -> dict[str, float | None]:
    return {
        **counts_json(counts),
        "paused": float(counts.paused),
        "oldest_waiting_seconds": counts.oldest_waiting_seconds,
        "rate_left": counts.rate_left,
        "last_start_at": counts.last_start_at,
    }
