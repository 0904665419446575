"""What a fault costs this process: its CPU, its event loop's pulse, and lines in the log."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from crmd.telemetry.events import Events, log_subscriber

WINDOW_S = 0.05
SAMPLE_S = 0.01


@dataclass
class FaultCost:
    """Measured over one `async with`."""

    seconds: float = 0.0
    cpu: float = 0.0
    """Share of one core."""
    pulse: float = 0.0
    """Share of the time in which the event loop did not stand still for 50 ms or more."""
    lag: float = 0.0
    """The longest that the loop stood still, in seconds, though its process was given time: see `_Watch`."""
    lines: list[str] = field(default_factory=list)
    """Log lines of crmd from INFO on."""

    @property
    def lines_per_second(self) -> float:
        """Log lines a second."""
        return len(self.lines) / self.seconds


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.name}: {record.getMessage()}")


@asynccontextmanager
async def fault_cost(events: Events) -> AsyncIterator[FaultCost]:
    """Measures what goes on inside; its fields are set at the end."""
    found = FaultCost()
    logger, handler = logging.getLogger("crmd"), _Lines(found.lines)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    unsubscribe = events.subscribe(log_subscriber(logger))
    began, cpu = time.monotonic(), time.process_time()
    stood: list[float] = []
    watch = _Watch()
    sampling = asyncio.create_task(_sample(watch, stood))
    try:
        yield found
    finally:
        watch.stop()
        found.seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        sampling.cancel()
        unsubscribe()
        logger.removeHandler(handler)
        logger.setLevel(level)
        found.cpu = cpu / found.seconds
        found.lag = max(stood, default=0.0)
        found.pulse = 1 - sum(seconds for seconds in stood if seconds >= WINDOW_S) / found.seconds


class _Watch:
    """Tells a loop that stands still from a machine that is busy, which gives all threads of a process no time.

    A loop stands still for as long as it computes, which is time of its thread, or as another thread that sleeps
    like the loop's sampler goes on meanwhile.
    """

    def __init__(self) -> None:
        self._ticks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="fault cost", daemon=True)
        self._thread.start()

    def look(self) -> tuple[float, float]:
        """Seconds that the other thread has counted, and that this one has computed."""
        return self._ticks * SAMPLE_S, time.thread_time()

    def stop(self) -> None:
        """Ends the other thread."""
        self._over.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._ticks += 1


async def _sample(watch: _Watch, stood: list[float]) -> None:
    ticked, computed = watch.look()
    while True:
        await asyncio.sleep(SAMPLE_S)
        ticks, computes = watch.look()
        stood.append(max(ticks - ticked - SAMPLE_S, computes - computed))
        ticked, computed = ticks, computes
