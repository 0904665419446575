"""Meta's rate limits, written from its documentation and not from what crmd does to keep them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol

MAX_PAIRS = 100_000
"""Recipients remembered; those who are free again are forgotten first."""


class Throughput(Protocol):
    """So many messages a second, in and out together, for a phone number. Meta does not say how it counts them."""

    def admits(self, now: float) -> bool:
        """Whether one more is within the rule."""

    def count(self, now: float) -> None:
        """Notes one message."""


class BucketRule:
    """A token bucket: `size` at once, refilled at the rate."""

    def __init__(self, per_second: int, size: int) -> None:
        self._per_second = per_second
        self._size = size
        self._tokens = float(size)
        self._filled_at = 0.0

    def admits(self, now: float) -> bool:
        """Whether one more is within the rule."""
        self._fill(now)
        return self._tokens >= 1

    def count(self, now: float) -> None:
        """Notes one message."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1)

    def _fill(self, now: float) -> None:
        self._tokens = min(self._size, self._tokens + (now - self._filled_at) * self._per_second)
        self._filled_at = now


class ThroughputRule:
    """A strict window: never more than the rate in any second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._last: deque[float] = deque(maxlen=per_second)

    def admits(self, now: float) -> bool:
        """Whether one more is within the rule."""
        return len(self._last) < self._per_second or now - self._last[0] >= 1.0

    def count(self, now: float) -> None:
        """Notes one message."""
        self._last.append(now)


def throughput(per_second: int, bucket: int) -> Throughput:
    """A bucket of that size, or with 0 a strict window."""
    return BucketRule(per_second, bucket) if bucket else ThroughputRule(per_second)


@dataclass(slots=True)
class _Pair:
    paid_until: float
    """All quota up to here is used up: one message uses `seconds` of it."""
    last_at: float
    count: int
    """Messages since the pair last had nothing to pay."""


class PairRule:
    """One message each `seconds` to a recipient. A burst borrows from the future: up to `burst` messages may come,
    none later than `seconds` after the one before, and then none until the time that they have used up is over.

    Meta asks for that rest after "a burst" and does not say where one begins: a handful of quick replies is none.
    """

    HANDFUL = 4

    def __init__(self, seconds: float, burst: int) -> None:
        self._seconds = seconds
        self._burst = burst
        self._pairs: dict[str, _Pair] = {}

    def admits(self, recipient: str, now: float) -> bool:
        """Whether one more message to the recipient is within the rule."""
        pair = self._pairs.get(recipient)
        if pair is None or now >= pair.paid_until:
            return True
        over_at = pair.last_at + self._seconds
        handful = pair.paid_until - over_at <= min(self.HANDFUL, self._burst / 10) * self._seconds
        return pair.count < self._burst and (now < over_at or handful)

    def count(self, recipient: str, now: float) -> None:
        """Notes one message that was within the rule."""
        pair = self._pairs.get(recipient)
        if pair is None or now >= pair.paid_until:
            self._forget_some(now)
            self._pairs[recipient] = _Pair(now + self._seconds, now, 1)
            return
        pair.last_at = now
        pair.count += 1
        pair.paid_until += self._seconds

    def _forget_some(self, now: float) -> None:
        if len(self._pairs) < MAX_PAIRS:
            return
        self._pairs = {name: pair for name, pair in self._pairs.items() if now < pair.paid_until}
        while len(self._pairs) >= MAX_PAIRS:
            del self._pairs[next(iter(self._pairs))]
