"""Threads for sync handlers. They cannot be stopped: one that nobody waits for any longer counts as leaked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

MAX_THREADS = 128
"""At a time over all queues, leaked ones aside."""


class HandlerThreads:
    """A pool that leaked threads do not shrink: once they hold half of it, another takes its place."""

    def __init__(self, count: int) -> None:
        self._count = _bounded(count)
        self._lock = threading.Lock()
        self._leaked = 0
        self._leaked_here = 0
        self._pool = self._new_pool()

    @property
    def leaked(self) -> int:
        """Calls that run although who awaited them was cancelled."""
        return self._leaked

    def resize(self, count: int) -> None:
        """Makes room for this many calls at a time; those that run go on."""
        count = _bounded(count)
        if count != self._count:
            self._count = count
            self._renew_pool()

    async def call(self, function: Callable[[], T], on_leak: Callable[[], None]) -> T:
        """Runs the function in a thread; where the wait is cancelled and the thread runs on, calls `on_leak`."""
        future = self._pool.submit(function)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            if not future.cancel() and not future.done():
                self._note_leak(future)
                on_leak()
            raise

    def shutdown(self) -> None:
        """Takes no more calls and waits for none."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _note_leak(self, future: Future[T]) -> None:
        with self._lock:
            self._leaked += 1
        future.add_done_callback(self._came_back)
        self._leaked_here += 1
        if self._leaked_here * 2 >= self._count:
            self._renew_pool()

    def _came_back(self, _: Future[T]) -> None:
        with self._lock:
            self._leaked -= 1

    def _renew_pool(self) -> None:
        self._leaked_here = 0
        self._pool.shutdown(wait=False)  # what was given to it still runs
        self._pool = self._new_pool()

    def _new_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._count, thread_name_prefix="handler")


def _bounded(count: int) -> int:
    return max(2, min(MAX_THREADS, count))
