"""Notices an event loop that stands still, and says where."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable

from crmd.telemetry.stacks import thread_stack

BEAT_S = 0.25
BLOCKED_AFTER_S = 1.0
"""A loop that is late by so much is told of, with the stack of what holds it."""

_log = logging.getLogger(__name__)


class LoopWatch:
    """Measures the loop's lag from inside, and watches it from a thread."""

    def __init__(self, on_lag: Callable[[float], None]) -> None:
        self._on_lag = on_lag
        self._beat_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stop = threading.Event()
        self._loop_thread = 0

    def start(self) -> None:
        """Begins, in the loop's own thread."""
        if self._task is None:
            self._beat_at = time.monotonic()
            self._loop_thread = threading.get_ident()
            self._stop.clear()
            self._task = asyncio.create_task(self._beat(), name="loop lag")
            threading.Thread(target=self._watch, name="crmd loop watch", daemon=True).start()

    async def stop(self) -> None:
        """Ends both. Fine twice, or before start."""
        self._stop.set()
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _beat(self) -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(BEAT_S)
            self._beat_at = time.monotonic()
            self._on_lag(max(0.0, self._beat_at - began - BEAT_S))

    def _watch(self) -> None:
        told = False
        while not self._stop.wait(BEAT_S):
            late = time.monotonic() - self._beat_at - BEAT_S
            if late < BLOCKED_AFTER_S:
                if told:
                    _log.warning("the event loop goes on")
                told = False
            elif not told:
                told = True
                stack = thread_stack(self._loop_thread)
                _log.error("the event loop has stood still for %.1f s; a handler blocks it at:\n%s", late, stack)
