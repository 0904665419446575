"""Handles signals: they only set a state, and the supervisor acts on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

from crmd.telemetry.stacks import all_stacks

_log = logging.getLogger(__name__)

HURRY_AFTER_SECONDS = 1.0
"""A second stop signal that comes sooner is the same wish: a terminal and `make` both send one on Ctrl-C."""

_Handler = Callable[[int, FrameType | None], Any] | int | signal.Handlers | None


class StopRequest:
    """Whether the daemon was asked to stop, and to stop at once."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.stop = asyncio.Event()
        """Drain and leave."""
        self.hurry = asyncio.Event()
        """Cut the drain short."""
        self._monotonic = monotonic
        self._asked_at: float | None = None

    def ask(self) -> None:
        """One more stop signal came."""
        now = self._monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self.stop.set()
        elif now - self._asked_at > HURRY_AFTER_SECONDS:
            self.hurry.set()


@contextlib.contextmanager
def capture(
    loop: asyncio.AbstractEventLoop,
    request: StopRequest,
    reload: Callable[[], None],
    *,
    on_terminal: bool,
    last: bool = False,
) -> Iterator[None]:
    """Installs the daemon's signal handlers, and on leaving puts back what was there.

    SIGTERM and SIGINT stop, SIGHUP calls `reload` (on a terminal it stops), SIGUSR1 logs all stacks. With `last`
    the process ends afterwards: what still comes does nothing, so that it cannot spoil the exit code. Works in the
    main thread only.
    """
    hangup_ignored = (
        signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    )  # nohup: the terminal's end is no wish to stop
    hangup = request.ask if on_terminal and not hangup_ignored else reload
    actions = {signal.SIGTERM: request.ask, signal.SIGINT: request.ask, signal.SIGHUP: hangup}
    before: dict[signal.Signals, _Handler] = {
        number: signal.getsignal(number) for number in (*actions, signal.SIGUSR1)
    }
    try:
        for number, action in actions.items():
            signal.signal(number, _on_loop(loop, action))
        signal.signal(signal.SIGUSR1, lambda _number, _frame: _log_stacks(loop))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, _do_nothing if last else signal.SIG_DFL if handler is None else handler)


def is_on_terminal(stdin: TextIO | None, stderr: TextIO | None) -> bool:
    """Whether a person runs the daemon by hand."""
    return any(stream is not None and not stream.closed and stream.isatty() for stream in (stdin, stderr))


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    # Not SIG_IGN: Python complains of a signal that another thread noted a moment before it was ignored.
    return


def _on_loop(loop: asyncio.AbstractEventLoop, action: Callable[[], None]) -> _Handler:
    # Not by loop.add_signal_handler: what removes such a handler lets the default one in, which ends the process.
    def handle(_number: int, _frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(action)

    return handle


def _log_stacks(loop: asyncio.AbstractEventLoop) -> None:
    # Not on the loop, which may be what stands still; and not in the handler, which may have interrupted logging.
    threading.Thread(
        target=lambda: _log.warning("stacks:\n%s", all_stacks(loop)), name="stacks", daemon=True
    ).start()
