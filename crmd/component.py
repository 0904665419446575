"""The one shape of whatever runs long: started, stopped, and, where it repeats a step, run one step at a time."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from crmd.errors import CrmdError, StoreUnavailable
from crmd.telemetry.throttle import Throttle

TOLD_EVERY_S = 30.0
"""A step that fails again for the same cause is logged so often."""


@runtime_checkable
class Component(Protocol):
    """What is started and stopped. Both are idempotent; `stop` may come first, and `start` again after it."""

    async def start(self) -> None:
        """Begins."""

    async def stop(self) -> None:
        """Ends."""


class BackgroundTask(ABC):
    """A component that is one task."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Ends, and returns once the task is over."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    @abstractmethod
    async def _run(self) -> None:
        """Runs until it is cancelled."""


class Periodic(BackgroundTask):
    """Begins a step every `every_s` seconds. A step that fails is logged, and the next comes."""

    def __init__(self, name: str, every_s: float, log: logging.Logger) -> None:
        super().__init__(name)
        self._every_s = every_s
        self._log = log
        self._failures = Throttle(TOLD_EVERY_S)

    @abstractmethod
    async def run_once(self) -> object:
        """One step."""

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            try:
                await self.run_once()
            except Exception as error:
                self._note(error)
            await asyncio.sleep(max(0.0, self._every_s - (time.monotonic() - began)))

    def _note(self, error: Exception) -> None:
        """Logs what a step ended with, unless the store is unavailable, which the store says itself."""
        if isinstance(error, StoreUnavailable):
            return
        if isinstance(error, CrmdError):
            if self._failures.allow(str(error)) is not None:
                self._log.error("%s: %s", self.name, error)
        elif self._failures.allow(type(error).__name__) is not None:
            self._log.error("%s failed, and goes on", self.name, exc_info=error)


class PeriodicThread(ABC):
    """A component whose steps run in a thread, so that they go on while the event loop stands still."""

    def __init__(self, name: str, every_s: float) -> None:
        self.name = name
        self._every_s = every_s
        self._ended: threading.Event | None = None

    async def start(self) -> None:
        """Begins; the first step comes after `every_s` seconds."""
        if self._ended is None:
            self._ended = threading.Event()
            threading.Thread(target=self._run, args=(self._ended,), name=self.name, daemon=True).start()

    async def stop(self) -> None:
        """Ends; does not wait for a step under way."""
        if self._ended:
            self._ended.set()
            self._ended = None

    @abstractmethod
    def run_once(self) -> object:
        """One step. Handles its own errors."""

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(self._every_s):
            self.run_once()
