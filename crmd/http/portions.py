"""Shares the event loop's time among connections whose bytes take long to parse.

Each chunk of a body costs aiohttp several microseconds, however short it is, and uvloop hands over 256 KiB at
once: 43,000 chunks of one byte. What has many lines is therefore parsed in portions, for a short time in each turn
of the loop, by turns among all connections. Where hundreds send large bodies, a turn takes a piece from a few.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")

PORTION_LINES = 64
"""Parsed at once: as much as a request with many headers, or 32 chunks."""
MOST_LINES = 1024
"""Parsed at once where the portions before were cheap."""
LINE_BYTES = 64
"""A portion has at most this many times its lines."""
CHEAP_SECONDS = 0.0001
"""Less than 32 chunks take."""
TURN_SECONDS = 0.0005
"""Parsed for this long in one turn of the loop, or one portion."""
PIECES = 4
"""Of large bodies, up to 256 KiB each, taken in one turn of the loop: they are copied in about as long."""


class Portioned(Protocol):
    """Something that has bytes to be parsed."""

    def feed_portion(self) -> bool:
        """Parses one portion; whether another can follow in the same turn."""


class _Line(ABC, Generic[T]):
    """Those who wait, some of whom each turn of the loop serves."""

    def __init__(self) -> None:
        self._waiting: deque[T] = deque()
        self._scheduled = False

    def add(self, one: T) -> None:
        """Puts one at the end of the line."""
        self._waiting.append(one)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._serve_some)

    def _serve_some(self) -> None:
        self._scheduled = False
        try:
            self._serve()
        finally:
            self._schedule()

    @abstractmethod
    def _serve(self) -> None:
        """Serves some of them."""


class Portions(_Line[Portioned]):
    """Those that have portions waiting, served in turn; none is in the line twice."""

    def __init__(self, turn_seconds: float = TURN_SECONDS) -> None:
        super().__init__()
        self._turn_seconds = turn_seconds

    def _serve(self) -> None:
        until = time.monotonic() + self._turn_seconds
        while self._waiting:
            one = self._waiting.popleft()
            if one.feed_portion():
                self._waiting.append(one)
            if time.monotonic() >= until:
                return


class Turns(_Line[Callable[[], object]]):
    """Calls back those who want another piece of a large body, PIECES in each turn of the loop, in order."""

    def _serve(self) -> None:
        for _ in range(min(PIECES, len(self._waiting))):
            self._waiting.popleft()()


def has_many_lines(data: bytes) -> bool:
    """Whether it takes more than one portion."""
    return data.count(b"\n") > PORTION_LINES


def portion_end(data: bytes, start: int, lines: int) -> int:
    """Where a portion ends that begins at an offset and has at most this many lines."""
    end = min(len(data), start + lines * LINE_BYTES)
    while data.count(b"\n", start, end) > lines:
        end = start + (end - start) // 2
    return end


def next_lines(lines: int, seconds: float) -> int:
    """How many lines the next portion may have after one that took so long: more where lines are cheap."""
    return min(lines * 2, MOST_LINES) if seconds < CHEAP_SECONDS else PORTION_LINES
