"""Reads XLSX through a separate process; see `xlsx_read_child`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

import orjson

from crmd.crm.tabular import xlsx_read_child
from crmd.crm.tabular.rows import Row, UnreadableFile

END_SECONDS = 5.0
MAX_CHILDREN = 2
"""At a time, so that they take 4 GiB of memory at most."""


class TooManyReaders(Exception):
    """As many XLSX files as may be are being read; later there may be a place."""


class XlsxReaders:
    """The XLSX files that are read at a time: one for the whole process, as it bounds their memory."""

    def __init__(self) -> None:
        self._places = threading.BoundedSemaphore(MAX_CHILDREN)

    def open(self, path: Path, sheet: str | None) -> XlsxSource:
        """Reads one more file. `sheet` is its name; None for the first visible one that has cells.

        Raises TooManyReaders.
        """
        if not self._places.acquire(blocking=False):
            raise TooManyReaders(f"{MAX_CHILDREN} XLSX files are being read; this one waits")
        try:
            return XlsxSource(path, sheet, self._places.release)
        except OSError:
            self._places.release()
            raise


class XlsxSource:
    """The rows of one sheet."""

    def __init__(self, path: Path, sheet: str | None, ended: Callable[[], None]) -> None:
        """`ended` is called once, when its process has ended. Raises OSError."""
        self._ended: Callable[[], None] | None = ended
        self.description = {"format": "xlsx"}
        self._rows = 0
        self._number = 0
        command = [sys.executable, "-I", str(xlsx_read_child.__file__), str(path)]
        self._child = subprocess.Popen(  # noqa: S603 - our own program; the path is an argument of it
            command if sheet is None else [*command, sheet],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._output = cast(IO[bytes], self._child.stdout)

    def __iter__(self) -> Iterator[Row]:
        """All rows. Raises UnreadableFile."""
        self._begin(next(self._output, b""))
        for line in self._output:
            try:
                number, cells = orjson.loads(line)
            except ValueError:
                raise UnreadableFile(self._why_it_ended()) from None
            self._number = number
            yield Row(number, tuple(cells))
        if self._wait():
            raise UnreadableFile(self._why_it_ended())

    def fraction(self) -> float:
        """How much of it was read, 0 to 1."""
        return self._number / self._rows if self._rows else 0.0

    def interrupt(self) -> None:
        """Ends the process, and with it an iteration under way."""
        self._child.kill()

    def close(self) -> None:
        """Ends the process. Idempotent."""
        self._child.kill()
        self._output.close()
        self._wait()

    def _wait(self) -> int:
        code = self._child.wait(END_SECONDS)
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()
        return code

    def _begin(self, line: bytes) -> None:
        try:
            head = orjson.loads(line)
        except ValueError:
            raise UnreadableFile(self._why_it_ended()) from None
        if "error" in head:
            self._wait()
            raise UnreadableFile(head["error"])
        self._rows = head["rows"]
        self.description["sheet"] = head["sheet"]

    def _why_it_ended(self) -> str:
        limit_gib = xlsx_read_child.MAX_MEMORY_BYTES // 1024**3
        return (
            f"reading it failed (exit {self._wait()}): it is damaged, or takes more than "
            f"{limit_gib} GiB of memory; save it as CSV"
        )
