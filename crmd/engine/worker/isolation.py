"""Runs a job that crashed its daemons alone, so that nothing else can be to blame for the next crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from crmd.errors import StoreError

WAIT_FOR_IDLE_S = 30.0
"""How long the other jobs are held back for it."""
BUSY_PAUSE_S = 10 * WAIT_FOR_IDLE_S
"""Where one of them runs for longer, the others go on for this long before the next try."""
PAUSE_S = 5.0
"""Until the next try where the queue was paused or limited meanwhile."""


class IsolatingWorker(Protocol):
    """A worker that can run one job in isolation."""

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and no claim is under way that may bring something to run."""

    def claim_now(self) -> None:
        """Has it claim at once, whatever its last claim said."""

    async def run_isolated(self) -> bool:
        """Claims one job that crashed its daemons and runs it to its end; False when none could start."""


class CrashLoopIsolation:
    """While it is active no worker of the daemon claims."""

    def __init__(self) -> None:
        self.active = False
        self._workers: list[IsolatingWorker] = []
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[IsolatingWorker] = []

    def add(self, worker: IsolatingWorker) -> None:
        """Adds a worker that has to be idle before another one runs a job in isolation."""
        self._workers.append(worker)

    def request(self, worker: IsolatingWorker) -> None:
        """A worker saw that its queue holds jobs that crashed their daemons."""
        if worker not in self._waiting:
            self._waiting.append(worker)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="crash-loop isolation")

    async def stop(self) -> None:
        """Gives up waiting; a job that runs is its worker's."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self.active = False

    async def _run(self) -> None:
        while self._waiting:
            worker = self._waiting.pop(0)
            self.active = True
            try:
                pause = await self._isolate(worker)
            except StoreError:
                pause = PAUSE_S  # its worker says why; what it had leased comes back by reconciling
            finally:
                self.active = False
                for other in self._workers:
                    other.claim_now()
            if pause:
                await asyncio.sleep(pause)
                worker.claim_now()

    async def _isolate(self, worker: IsolatingWorker) -> float:
        """Runs one job; seconds until it is worth another try."""
        if not await _until(lambda: all(other.idle for other in self._workers), WAIT_FOR_IDLE_S):
            return BUSY_PAUSE_S
        return 0.0 if await worker.run_isolated() else PAUSE_S


async def _until(condition: Callable[[], bool], timeout: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not condition():
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(0.05)
    return True
