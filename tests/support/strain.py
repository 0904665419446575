"""What a fault costs this process: its CPU, its event loop's pulse, and lines in the log."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from crmd.telemetry.events import Events, log_subscriber

WINDOW_S = 0.05
SAMPLE_S = 0.01


@dataclass
class Strain:
    """Measured over one `async with`."""

    seconds: float = 0.0
    cpu: float = 0.0
    """Share of one core."""
    pulse: float = 0.0
    """Share of the windows of 50 ms in which the event loop showed life."""
    lag: float = 0.0
    """The longest that the loop stood still, in seconds."""
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
async def strain(events: Events) -> AsyncIterator[Strain]:
    """Measures what goes on inside; its fields are set at the end."""
    found = Strain()
    logger, handler = logging.getLogger("crmd"), _Lines(found.lines)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    unsubscribe = events.subscribe(log_subscriber(logger))
    windows: set[int] = set()
    began, cpu = time.monotonic(), time.process_time()
    sampling = asyncio.create_task(_sample(found, began, windows))
    try:
        yield found
    finally:
        found.seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        sampling.cancel()
        unsubscribe()
        logger.removeHandler(handler)
        logger.setLevel(level)
        found.cpu = cpu / found.seconds
        found.pulse = len(windows) / max(1, int(found.seconds / WINDOW_S))


async def _sample(found: Strain, began: float, windows: set[int]) -> None:
    last = time.monotonic()
    while True:
        await asyncio.sleep(SAMPLE_S)
        now = time.monotonic()
        windows.add(int((now - began) / WINDOW_S))
        found.lag = max(found.lag, now - last - SAMPLE_S)
        last = now
