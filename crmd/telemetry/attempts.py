"""Counts attempts in plain sums: a job may take less time than a lock of the metrics library."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

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
            "crmd_attempts", "Attempts that ended here, by how.", labels=["queue", "ending"]
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
