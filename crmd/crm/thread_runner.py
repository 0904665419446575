"""A thread for one job, for work that would block the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

GRACE_SECONDS = 0.7
"""What a call may take to end after its job was cancelled; the job itself has one second."""


class ThreadRunner:
    """Runs calls one after the other. A cancelled job interrupts its call and waits until that has ended."""

    def __init__(self) -> None:
        self.interrupt: Callable[[], None] = lambda: None
        """Called in the loop; makes a call under way end soon."""
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="job")

    async def run(self, call: Callable[[], T]) -> T:
        """What the call returns or raises."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, call)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            self.interrupt()
            future.add_done_callback(_look_at)
            await asyncio.wait([future], timeout=GRACE_SECONDS)
            raise

    def close(self, last: Callable[[], None] = lambda: None) -> None:
        """Runs one last call after those before it, waits for none, and takes no more; idempotent."""
        try:
            self._executor.submit(last)
        except RuntimeError:  # closed before
            return
        self._executor.shutdown(wait=False)


async def run_in_thread(call: Callable[[], T]) -> T:
    """What the call returns or raises. Its thread may wait: the few of asyncio look up names for everybody."""
    thread = ThreadRunner()
    try:
        return await thread.run(call)
    finally:
        thread.close()


def _look_at(future: asyncio.Future[T]) -> None:
    # nobody awaits it any more, and an error that nobody has seen would be logged
    if not future.cancelled():
        future.exception()
