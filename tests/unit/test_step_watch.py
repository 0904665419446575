"""The watch for steps of the store's clock."""

from __future__ import annotations

import pytest

from crmd.engine.store.limit_clock import StepWatch


class Clocks:
    """Our own clock, and the store's, which a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.ahead_ms = 5_000_000
        self.watch = StepWatch(lambda: self.now)

    def look(self, *, there_s: float = 0.001, back_s: float = 0.001) -> float:
        """A trip, a second after the last; what it noticed, in ms."""
        self.now += 1.0
        sent_ms = self.watch.sent_ms()
        self.now += there_s
        clock_ms = round(self.now * 1000) + self.ahead_ms
        self.now += back_s
        return self.watch.see(sent_ms, clock_ms)


@pytest.mark.parametrize("step_ms", [3_600_000, 40_000, -40_000, -3_600_000])
def test_a_step_is_noticed_once(step_ms: int) -> None:
    clocks = Clocks()
    assert [clocks.look() for _ in range(3)] == [0.0, 0.0, 0.0]
    clocks.ahead_ms += step_ms
    assert clocks.look() == pytest.approx(step_ms, abs=10)
    assert clocks.look() == 0.0


def test_slow_trips_and_small_steps_are_none() -> None:
    clocks = Clocks()
    seen = [clocks.look(), clocks.look(there_s=3.0), clocks.look(), clocks.look(back_s=3.0), clocks.look()]
    clocks.ahead_ms += 90
    assert [*seen, clocks.look()] == [0.0] * 6
