"""Notices when the event loop is blocked, and reports where."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from crmd.component import BackgroundTask, PeriodicThread
from crmd.telemetry.stacks import thread_stack

BEAT_S = 0.25
BLOCKED_AFTER_S = 1.0
"""A loop that is late by this much is reported, with the stack of what blocks it."""

_log = logging.getLogger(__name__)


class LoopWatch(BackgroundTask):
    """Measures the loop's lag from inside, and watches it from a thread."""

    def __init__(self, on_lag: Callable[[float], None]) -> None:
        super().__init__("loop lag")
        self._on_lag = on_lag
        self._observer = _Observer()

    async def start(self) -> None:
        """Begins, in the loop's own thread."""
        self._observer.beat()
        await super().start()
        await self._observer.start()

    async def stop(self) -> None:
        """Ends both."""
        await self._observer.stop()
        await super().stop()

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(BEAT_S)
            self._on_lag(max(0.0, self._observer.beat() - began - BEAT_S))


class _Observer(PeriodicThread):
    """Tells of a loop whose beats stay away."""

    def __init__(self) -> None:
        super().__init__("crmd loop watch", BEAT_S)
        self._beat_at = 0.0
        self._loop_thread = 0
        self._reported = False

    def beat(self) -> float:
        """The loop runs, in this thread; returns the time, on `time.monotonic()`."""
        self._loop_thread = threading.get_ident()
        self._beat_at = time.monotonic()
        return self._beat_at

    def run_once(self) -> None:
        late_s = time.monotonic() - self._beat_at - BEAT_S
        if late_s < BLOCKED_AFTER_S:
            if self._reported:
                _log.warning("the event loop goes on")
            self._reported = False
        elif not self._reported:
            self._reported = True
            stack = thread_stack(self._loop_thread)
            _log.error("the event loop has stood still for %.1f s; a handler blocks it at:\n%s", late_s, stack)
