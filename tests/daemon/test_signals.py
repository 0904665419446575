"""Signals set a state, and what was installed before comes back."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import pty
import signal
import threading
from collections.abc import Iterator

import pytest

from crmd.daemon.signals import HURRY_AFTER_SECONDS, StopRequest, capture, is_on_terminal


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def reloads() -> list[str]:
    return []


@pytest.fixture(autouse=True)
def handlers_come_back() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


async def until(event: asyncio.Event) -> None:
    await asyncio.wait_for(event.wait(), 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_stops_and_a_late_second_hurries(number: int, reloads: list[str]) -> None:
    clock = Clock()
    request = StopRequest(monotonic=clock)
    with capture(asyncio.get_running_loop(), request, lambda: reloads.append("x"), on_terminal=False):
        os.kill(os.getpid(), number)
        await until(request.stop)
        request.ask()
        assert not request.hurry.is_set()
        clock.now += HURRY_AFTER_SECONDS + 0.1
        os.kill(os.getpid(), number)
        await until(request.hurry)
    assert reloads == []


async def test_hangup_reloads() -> None:
    reload, request = asyncio.Event(), StopRequest()
    with capture(asyncio.get_running_loop(), request, reload.set, on_terminal=False):
        os.kill(os.getpid(), signal.SIGHUP)
        await until(reload)
    assert not request.stop.is_set()


async def test_hangup_on_a_terminal_stops(reloads: list[str]) -> None:
    request = StopRequest()
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests may ignore it
    try:
        with capture(asyncio.get_running_loop(), request, lambda: reloads.append("x"), on_terminal=True):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(request.stop)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert reloads == []


async def test_hangup_under_nohup_does_not_stop() -> None:
    reload, request = asyncio.Event(), StopRequest()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with capture(asyncio.get_running_loop(), request, reload.set, on_terminal=True):
            os.kill(os.getpid(), signal.SIGHUP)
            await until(reload)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not request.stop.is_set()


class Heard(logging.Handler):
    """Waits for a log line, in any thread."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.arrived = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
        self.arrived.set()


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, logger = Heard(), logging.getLogger("crmd.daemon.signals")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


async def test_usr1_shows_tasks_and_threads(heard: Heard) -> None:
    sleeper = asyncio.create_task(asyncio.Event().wait(), name="sleeper of the test")
    with capture(asyncio.get_running_loop(), StopRequest(), lambda: None, on_terminal=False):
        os.kill(os.getpid(), signal.SIGUSR1)
        assert await asyncio.to_thread(heard.arrived.wait, 5)
    sleeper.cancel()
    assert "task sleeper of the test" in heard.text
    assert "thread MainThread" in heard.text


async def test_usr1_works_while_the_loop_stands_still(heard: Heard) -> None:
    with capture(asyncio.get_running_loop(), StopRequest(), lambda: None, on_terminal=False):
        # A moment later, so that the loop stands where it says when the stacks are taken.
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert heard.arrived.wait(5)  # this line holds the loop
    assert "this line holds the loop" in heard.text


def test_a_terminal_is_told_from_files() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(leader, "rb"), os.fdopen(follower, "w") as terminal:
        assert is_on_terminal(None, terminal)
        assert is_on_terminal(terminal, io.StringIO())
    assert not is_on_terminal(None, io.StringIO())
    assert not is_on_terminal(terminal, None)
