"""What one daemon remembers about a service that it calls: what waits, how long, and whether the service is up."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

SERVICE = "service"
# So many failures in a row are no accident: sending stops for a while instead of using up every job's attempts.
BREAKER_FAILURES = 5


@dataclass(frozen=True, slots=True)
class Wait:
    """A wait that grows: `first_seconds * factor ** n`, at most `max_seconds`."""

    first_seconds: float
    factor: float
    max_seconds: float

    def nth(self, count: int) -> float:
        """Seconds to wait after `count` earlier waits in a row."""
        # the exponent is bounded, as a float overflows long before a count does
        return min(self.max_seconds, self.first_seconds * self.factor ** min(count, 64))


SERVICE_WAIT = Wait(2, 2, 300)
MINUTE_WAIT = Wait(60, 2, 3600)


@dataclass(slots=True)
class Park:
    """One thing that waits."""

    count: int
    """Waits in a row."""
    first_at: float
    until: float
    seconds: float
    """Length of the present wait."""


class AdaptiveRate:
    """Growing waits by name, bounded in number, and a count of failures in a row.

    It may be lost at any time: a restart only begins the waits from their first length again.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, capacity: int = 10_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._parks: OrderedDict[str, Park] = OrderedDict()
        self._failures_in_row = 0

    def park(self, name: str, wait: Wait) -> Park:
        """Lets `name` wait; longer than the last time, unless that wait is long over or still on.

        Failures that come in while a wait is on were under way before it, so they do not lengthen it.
        """
        now = self._clock()
        park = self._parks.pop(name, None)
        if park is None or now - park.until > wait.max_seconds:
            park = Park(0, now, now, 0.0)
        if now >= park.until:
            park.seconds = wait.nth(park.count)
            park.until = now + park.seconds
            park.count += 1
        self._parks[name] = park
        if len(self._parks) > self._capacity:
            self._parks.popitem(last=False)
        return park

    def remaining_seconds(self, name: str) -> float:
        """Seconds that `name` still has to wait."""
        park = self._parks.get(name)
        return max(0.0, park.until - self._clock()) if park else 0.0

    def free(self, name: str) -> None:
        """Forgets the waits of `name`."""
        self._parks.pop(name, None)

    def answered(self) -> None:
        """The service is up: it answered."""
        self._failures_in_row = 0
        self.free(SERVICE)

    def failed(self) -> float | None:
        """The service failed; seconds to stop sending where it did so too often in a row."""
        self._failures_in_row += 1
        if self._failures_in_row < BREAKER_FAILURES:
            return None
        return self.park(SERVICE, SERVICE_WAIT).seconds
