"""When a worker claims again: as soon as somebody asks, when something is due, or at once while jobs wait."""

from __future__ import annotations

from collections.abc import Callable

from crmd.engine.store.limit_clock import CORRECTED, UNSURE
from crmd.engine.store.replies import Claimed

FOREVER = float("inf")


class NextClaim:
    """For one worker."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._at = FOREVER
        self.now = True
        """Whether to claim at once."""
        self.more = False
        """Whether the last claim left jobs that could start."""
        self.asked = 0
        """How often somebody asked: who asks while a claim is under way may have come too late for it."""

    @property
    def due(self) -> bool:
        """Whether to claim with the next trip."""
        return self.now or self._monotonic() >= self._at

    @property
    def delay(self) -> float | None:
        """Seconds until it is due; None where nothing is known to come."""
        return None if self._at == FOREVER else max(0.0, self._at - self._monotonic())

    def ask(self) -> None:
        """Claim at once."""
        self.asked += 1
        self.now = True

    def ask_in(self, seconds: float) -> bool:
        """Claim at the latest in so many seconds; False where it is due sooner anyway."""
        at = self._monotonic() + seconds
        if at >= self._at:
            return False
        self._at = at
        return True

    def begun(self) -> None:
        """A claim is under way: it does what was due."""
        if self._at <= self._monotonic():
            self._at = FOREVER

    def plan(self, claimed: Claimed, asked: int) -> float | None:
        """Takes in what a claim brought, begun at that count of `asked`; seconds until another may bring more."""
        self.more = claimed.reason == "ok"
        self.now = self.more or claimed.reason in (UNSURE, CORRECTED) or self.asked != asked
        return min((ms / 1000 for ms in (claimed.wait_ms, claimed.due_ms) if ms >= 0), default=None)
