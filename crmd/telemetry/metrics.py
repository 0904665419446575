"""What Prometheus sees: counters of this process, and gauges of the store that are the same on all daemons."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

HTTP_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

STATES = ("waiting", "active", "delayed", "completed", "failed", "cancelled", "unknown")

_ENDINGS = frozenset(
    {"completed", "failed", "cancelled", "unknown", "retried", "snoozed", "given_back", "rate_limited", "lost"}
)


_SCHEDULE_ENDINGS = frozenset({"ran", "skipped"})


class Metrics:
    """One process's metrics, on a registry of their own."""

    CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self, version: str) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._store = _StoreCollector()
        registry.register(self._store)
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=registry)
        Gauge("crmd_info", "Version of this daemon.", ["version"], registry=registry).labels(version).set(1)
        self._attempts = Attempts()
        registry.register(self._attempts)
        self._events = Counter(
            "crmd_events", "Events here, except those that end attempts.", ["event"], registry=registry
        )
        self._schedules = Counter(
            "crmd_schedule_times",
            "Due times of schedules handled here, by what was done.",
            ["schedule", "what"],
            registry=registry,
        )
        self._requests = Counter(
            "crmd_http_requests", "HTTP requests.", ["method", "route", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "crmd_http_request_seconds", "Time to answer.", ["route"], buckets=HTTP_BUCKETS, registry=registry
        )
        self._refused = Counter("crmd_auth_refused", "Refused logins, by reason.", ["reason"], registry=registry)
        self._loop_lag = Gauge("crmd_loop_lag_seconds", "Last measured lag of the event loop.", registry=registry)

    def observe(self, name: str, fields: Mapping[str, Any], /) -> None:
        """A subscriber for `Events`: counts what it hears."""
        kind, _, ending = name.partition(".")
        if kind == "job" and ending in _ENDINGS:
            jobs, seconds = fields.get("jobs"), fields.get("seconds")
            if jobs is not None:
                self._attempts.count(fields["queue"], ending, len(jobs), (job[3] for job in jobs))
            else:
                took = () if seconds is None else (float(seconds),)
                self._attempts.count(str(fields.get("queue", "")), ending, fields.get("count", 1), took)
        elif kind == "schedule" and ending in _SCHEDULE_ENDINGS:
            self._schedules.labels(str(fields.get("schedule", "")), ending).inc()
        else:
            self._events.labels(name).inc()

    def request_done(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one HTTP answer; `route` is the path's pattern, so that labels stay few."""
        self._requests.labels(method, route, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def auth_refused(self, reason: str) -> None:
        """Counts a refused login: wrong or throttled."""
        self._refused.labels(reason).inc()

    def loop_lag(self, seconds: float) -> None:
        """Notes how late the event loop was."""
        self._loop_lag.set(seconds)

    def set_store(
        self,
        *,
        connected: bool,
        writable: bool = False,
        latency_seconds: float | None = None,
        memory_ratio: float | None = None,
        queues: Mapping[str, Mapping[str, float | None]] | None = None,
        totals: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        """What the store holds now, by queue; without the store only that it is unavailable is told."""
        self._store.set(connected, writable, latency_seconds, memory_ratio, queues or {}, totals or {})

    def render(self) -> bytes:
        """All metrics as Prometheus text."""
        return generate_latest(self._registry)


class _StoreCollector(Collector):
    """Gauges made from what was last seen of the store; nothing is kept of queues that are gone."""

    def __init__(self) -> None:
        self.set(False, False, None, None, {}, {})

    def set(
        self,
        connected: bool,
        writable: bool,
        latency_seconds: float | None,
        memory_ratio: float | None,
        queues: Mapping[str, Mapping[str, float | None]],
        totals: Mapping[str, Mapping[str, int]],
    ) -> None:
        self._connected, self._writable = connected, writable
        self._plain = (
            ("crmd_store_latency_seconds", "Time of one round trip to the store.", latency_seconds),
            ("crmd_store_memory_ratio", "Share of the store's memory limit in use.", memory_ratio),
        )
        self._queues = queues
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("crmd_store_connected", "Whether the store answers.", value=self._connected)
        yield GaugeMetricFamily("crmd_store_writable", "Whether the store takes writes.", value=self._writable)
        for name, text, value in self._plain:
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)
        yield self._jobs()
        for field, name, text in (
            ("paused", "crmd_queue_paused", "Whether the queue is paused."),
            ("oldest_waiting_seconds", "crmd_queue_oldest_waiting_seconds", "Age of the oldest waiting job."),
            ("rate_left", "crmd_queue_rate_left", "Starts that the rate limit still allows."),
            ("last_start_at", "crmd_queue_last_start_timestamp_seconds", "When a job last started."),
        ):
            yield self._gauge(field, name, text)
        yield self._counted()

    def _jobs(self) -> Metric:
        family = GaugeMetricFamily("crmd_queue_jobs", "Jobs in the store, by state.", labels=["queue", "state"])
        for queue, values in self._queues.items():
            for state in STATES:
                family.add_metric([queue, state], values.get(state) or 0)
        return family

    def _gauge(self, field: str, name: str, text: str) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["queue"])
        known: Iterable[tuple[str, float | None]] = ((queue, v.get(field)) for queue, v in self._queues.items())
        for queue, value in known:
            if value is not None:
                family.add_metric([queue], value)
        return family

    def _counted(self) -> Metric:
        family = CounterMetricFamily(
            "crmd_queue_jobs_all", "Jobs of all time, by what became of them.", labels=["queue", "what"]
        )
        for queue, values in self._totals.items():
            for what, count in values.items():
                family.add_metric([queue, what], count)
        return family


# Counts attempts in plain sums: a job may take less time than a lock of the metrics library


RUN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds; jobs take from milliseconds to an hour."""


class Attempts(Collector):
    """How many attempts ended how, by queue, and how long they ran. Written and read on the event loop only."""

    def __init__(self) -> None:
        self._endings: dict[tuple[str, str], int] = {}
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def count(self, queue: str, ending: str, number: int, seconds: Iterable[float]) -> None:
        """So many attempts ended so; `seconds` are the run times of those that ran."""
        self._endings[queue, ending] = self._endings.get((queue, ending), 0) + number
        buckets = self._buckets.get(queue)
        if buckets is None:
            buckets = self._buckets[queue] = [0] * (len(RUN_BUCKETS) + 1)
        total = 0.0
        for one in seconds:
            buckets[bisect_left(RUN_BUCKETS, one)] += 1
            total += one
        self._seconds[queue] = self._seconds.get(queue, 0.0) + total

    def collect(self) -> Iterator[Metric]:
        """The two families, as the library writes them."""
        endings = CounterMetricFamily(
            "crmd_attempts", "Attempts that ended here, by how they ended.", labels=["queue", "ending"]
        )
        for (queue, ending), number in self._endings.items():
            endings.add_metric([queue, ending], number)
        yield endings
        times = HistogramMetricFamily("crmd_attempt_seconds", "Run time of attempts here.", labels=["queue"])
        bounds = [*map(floatToGoString, RUN_BUCKETS), "+Inf"]
        for queue, buckets in self._buckets.items():
            cumulated = list(zip(bounds, map(float, accumulate(buckets)), strict=True))
            times.add_metric([queue], cumulated, sum_value=self._seconds[queue])
        yield times
