"""The one shape of what runs long: every kind of component bears double starts and stops in any order."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from crmd.component import BackgroundTask, Component, Periodic, PeriodicThread
from crmd.errors import StoreError, StoreUnavailable
from tests.support.wait import wait_until

EVERY_S = 0.01
_log = logging.getLogger(__name__)


class Waiting(BackgroundTask):
    """Counts how many of its task run."""

    def __init__(self) -> None:
        super().__init__("waiting")
        self.running = 0

    async def _run(self) -> None:
        self.running += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.running -= 1


class Stepping(Periodic):
    """Raises what it is given, and counts its steps."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__("stepping", EVERY_S, _log)
        self.steps = 0
        self.running = 0
        self._error = error

    async def run_once(self) -> None:
        self.steps += 1
        if self._error:
            raise self._error

    async def _run(self) -> None:
        self.running += 1
        try:
            await super()._run()
        finally:
            self.running -= 1


class Threaded(PeriodicThread):
    """Counts the threads that step."""

    def __init__(self) -> None:
        super().__init__("threaded", EVERY_S)
        self.steps = 0

    def run_once(self) -> None:
        self.steps += 1

    @property
    def running(self) -> int:
        return sum(thread.name == self.name for thread in threading.enumerate())


@pytest.mark.parametrize("kind", [Waiting, Stepping, Threaded])
async def test_a_component_bears_starts_and_stops_in_any_order(
    kind: type[Waiting] | type[Stepping] | type[Threaded],
) -> None:
    one = kind()
    assert isinstance(one, Component)
    await one.stop()
    for _ in range(3):
        await one.start()
        await one.start()
        await wait_until(lambda: one.running == 1)
        await one.stop()
        await one.stop()
        await wait_until(lambda: one.running == 0)


async def test_a_thread_takes_steps_while_the_loop_stands_still() -> None:
    one = Threaded()
    await one.start()
    before, moment = one.steps, threading.Event()
    for _ in range(1000):
        if one.steps > before + 1:
            break
        moment.wait(EVERY_S)
    assert one.steps > before + 1
    await one.stop()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (StoreError("a key is of the wrong type"), "stepping: a key is of the wrong type"),
        (ValueError("a bug"), "stepping failed, and goes on"),
        (StoreUnavailable("away"), None),
        (None, None),
    ],
    ids=str,
)
async def test_a_step_that_fails_is_said_once_and_followed_by_the_next(
    error: Exception | None, said: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    one = Stepping(error)
    await one.start()
    await wait_until(lambda: one.steps > 3)
    await one.stop()
    assert [record.getMessage() for record in caplog.records] == ([said] if said else [])
