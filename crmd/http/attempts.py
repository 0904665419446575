"""Slows down clients that guess passwords."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FAILURES = 5
REFILL_SECONDS = 12.0
"""Five failures a minute."""
ADDRESSES_KEPT = 10_000
"""Beyond that the least recently used address is forgotten."""


@dataclass(slots=True)
class _Bucket:
    left: float
    filled_at: float
    reported: bool = False


class FailedAttempts:
    """Counts failed attempts per client: five in a row are allowed, then one every twelve seconds."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def blocked_seconds(self, client: str) -> int:
        """Seconds until a client may try again, rounded up; 0 if it may try now."""
        bucket = self._buckets.get(client)
        if bucket is None:
            return 0
        self._refill(bucket)
        if bucket.left >= 1:
            return 0
        return max(1, math.ceil((1 - bucket.left) * REFILL_SECONDS))

    def fail(self, client: str) -> bool:
        """Counts a failure; True if this one starts a block."""
        bucket = self._buckets.setdefault(client, _Bucket(FAILURES, self._monotonic()))
        self._buckets.move_to_end(client)
        if len(self._buckets) > ADDRESSES_KEPT:
            self._buckets.popitem(last=False)
        self._refill(bucket)
        bucket.left = max(0.0, bucket.left - 1)
        begins = bucket.left < 1 and not bucket.reported
        bucket.reported = bucket.reported or begins
        return begins

    def _refill(self, bucket: _Bucket) -> None:
        now = self._monotonic()
        bucket.left = min(FAILURES, bucket.left + (now - bucket.filled_at) / REFILL_SECONDS)
        bucket.filled_at = now
        if bucket.left == FAILURES:
            bucket.reported = False
