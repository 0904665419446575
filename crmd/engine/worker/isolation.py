"""Lets a job whose daemon died twice with it run alone, so that its third death can be blamed on nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from crmd.errors import StoreError

WAIT_FOR_IDLE_S = 30.0
"""How long the other jobs are held back for it."""
BUSY_PAUSE_S = 10 * WAIT_FOR_IDLE_S
"""Where one of them runs for longer, the others go on for so long before the next try."""
PAUSE_S = 5.0
"""Until the next try where the queue was paused or limited meanwhile."""


class Soloist(Protocol):
    """A worker that can run one suspect alone."""

    @property
    def idle(self) -> bool:
        """Whether nothing runs, and no claim is under way that may bring something to run."""

    def look(self) -> None:
        """Claim again now."""

    async def run_alone(self) -> bool:
        """Claims one suspect and runs it to its end; False when none could start."""


class SoloGate:
    """While it is closed no worker of the daemon claims."""

    def __init__(self) -> None:
        self.closed = False
        self._workers: list[Soloist] = []
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[Soloist] = []

    def add(self, worker: Soloist) -> None:
        """Makes a worker known."""
        self._workers.append(worker)

    def request(self, worker: Soloist) -> None:
        """A worker saw that suspects wait in its queue."""
        if worker not in self._waiting:
            self._waiting.append(worker)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="suspects")

    async def stop(self) -> None:
        """Gives up waiting; a suspect that runs is its worker's."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self.closed = False

    async def _run(self) -> None:
        while self._waiting:
            worker = self._waiting.pop(0)
            self.closed = True
            try:
                pause = await self._alone(worker)
            except StoreError:
                pause = PAUSE_S  # its worker says why; what it had leased comes back by reconciling
            finally:
                self.closed = False
                for other in self._workers:
                    other.look()
            if pause:
                await asyncio.sleep(pause)
                worker.look()

    async def _alone(self, worker: Soloist) -> float:
        """Runs one suspect; seconds until it is worth another try."""
        if not await _until(lambda: all(other.idle for other in self._workers), WAIT_FOR_IDLE_S):
            return BUSY_PAUSE_S
        return 0.0 if await worker.run_alone() else PAUSE_S


async def _until(condition: Callable[[], bool], timeout: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while not condition():
        if loop.time() >= deadline:
            return False
        await asyncio.sleep(0.05)
    return True
