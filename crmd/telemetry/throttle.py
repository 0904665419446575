"""Limits log lines for each cause, so that an outage does not fill the log."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float
    suppressed: int = 0


class Throttle:
    """Lets the first `burst` lines of a cause through, then one every `interval_seconds`."""

    CAUSES_KEPT = 256
    """Causes remembered; the one unused for longest is forgotten first."""

    def __init__(
        self, interval_seconds: float, *, burst: int = 1, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_seconds = interval_seconds
        self._burst = burst
        self._monotonic = monotonic
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def allow(self, cause: Hashable) -> int | None:
        """None where this line is to be kept back, else how many were since the last one of that cause."""
        now = self._monotonic()
        bucket = self._bucket(cause, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.filled_at) / self._interval_seconds)
        bucket.filled_at = now
        if bucket.tokens < 1:
            bucket.suppressed += 1
            return None
        bucket.tokens -= 1
        suppressed, bucket.suppressed = bucket.suppressed, 0
        return suppressed

    def forget(self, cause: Hashable) -> int:
        """Starts over for a cause that has ended; returns how many lines were kept back."""
        bucket = self._buckets.pop(cause, None)
        return bucket.suppressed if bucket else 0

    def _bucket(self, cause: Hashable, now: float) -> _Bucket:
        bucket = self._buckets.get(cause)
        if bucket is None:
            bucket = self._buckets[cause] = _Bucket(tokens=self._burst, filled_at=now)
            if len(self._buckets) > self.CAUSES_KEPT:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(cause)
        return bucket
