"""The clock by which limits count: the store's, without the jumps when somebody sets it."""

from __future__ import annotations

from collections.abc import Callable

UNSURE, CORRECTED = "unsure", "corrected"
"""Why a claim started nothing: the clock may have been set forward, or was found to have been set."""
DRIFT = 0.001
"""How much faster one clock may run than the other."""
NOTICED_MS = 100.0
"""Smaller steps are none."""


class StepWatch:
    """Notices that the store's clock was set, for those who want to know."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._bounds: tuple[float, float] | None = None
        """Of the store's clock less our own, in ms."""

    def sent_ms(self) -> float:
        """When a trip is sent that is to bring the store's time."""
        return self._monotonic() * 1000

    def see(self, sent_ms: float, clock_ms: int) -> float:
        """What such a trip brought; returns by how many ms the clock was set since the last: 0 as a rule."""
        low, high = clock_ms - self._monotonic() * 1000, clock_ms - sent_ms
        before, self._bounds = self._bounds, (low, high)
        if before and low > before[1] + NOTICED_MS:
            return low - before[1]
        if before and high < before[0] - NOTICED_MS:
            return high - before[0]
        return 0.0


class LimitClock:
    """What one daemon knows of the clock of one queue: between which readings it stands, by our monotonic clock.

    The store keeps a correction for each queue; its time and the correction make the clock. Each trip says between
    which times it must run. A clock that is behind was set back, and the script corrects it. One that is ahead was
    set forward, or the trip was slow: the script starts nothing, and the answer tells which, as no answer comes
    before it was written.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._correction: int | None = None
        self._low = self._high = 0.0
        """Bounds of the clock less our own, in ms, when it was last seen."""
        self._seen_ms = 0.0
        self._clock_ms = 0
        """What it showed then."""
        self._set_forward = False

    def ask(self) -> tuple[float, tuple[int | str, ...]]:
        """When a trip is sent, in ms, and what its script is told, as _limit_clock.lua has it."""
        sent_ms = self._monotonic() * 1000
        if self._correction is None:
            return sent_ms, (0, 0, "", 0, 0)
        earliest, latest = round(sent_ms + self._low), round(sent_ms + self._high)
        return sent_ms, (earliest, latest, self._correction, int(self._set_forward), self._clock_ms)

    def meet(self, sent_ms: float, clock_ms: int, correction: int) -> None:
        """What a trip brought that did not check the clock: of use only before the first that did."""
        if self._correction is None:
            self.see(sent_ms, "", clock_ms, correction)

    def see(self, sent_ms: float, reason: str, clock_ms: int, correction: int) -> None:
        """What a trip brought that was sent then, and that checked the clock."""
        received_ms = self._monotonic() * 1000
        low, high = clock_ms - received_ms, clock_ms - sent_ms
        drift = (received_ms - self._seen_ms) * DRIFT
        if reason == UNSURE:
            self._set_forward = low > self._high + drift
            if not self._set_forward:
                self._high = max(self._high, high)
            return
        if correction == self._correction and low <= self._high + drift and high >= self._low - drift:
            low, high = max(low, self._low - drift), min(high, self._high + drift)
        self._low, self._high = low, high
        self._correction, self._seen_ms, self._clock_ms = correction, received_ms, clock_ms
        self._set_forward = False
