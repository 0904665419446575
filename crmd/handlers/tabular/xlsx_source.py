"""Reads XLSX through a process of its own; see `xlsx_read_child`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import orjson

from crmd.handlers.tabular import xlsx_read_child
from crmd.handlers.tabular.rows import Row, UnreadableFile

END_SECONDS = 5.0


class XlsxSource:
    """The rows of one sheet."""

    def __init__(self, path: Path, sheet: str | None) -> None:
        """`sheet` is its name; None for the first visible one that has cells."""
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
        if self._child.wait(END_SECONDS):
            raise UnreadableFile(self._why_it_ended())

    def fraction(self) -> float:
        """How much of it was read, 0 to 1."""
        return self._number / self._rows if self._rows else 0.0

    def interrupt(self) -> None:
        """Ends the process, and with it an iteration under way."""
        self._child.kill()

    def close(self) -> None:
        """Ends the process. Fine twice."""
        self._child.kill()
        self._output.close()
        self._child.wait(END_SECONDS)

    def _begin(self, line: bytes) -> None:
        try:
            head = orjson.loads(line)
        except ValueError:
            raise UnreadableFile(self._why_it_ended()) from None
        if "error" in head:
            raise UnreadableFile(head["error"])
        self._rows = head["rows"]
        self.description["sheet"] = head["sheet"]

    def _why_it_ended(self) -> str:
        limit_gib = xlsx_read_child.MAX_MEMORY_BYTES // 1024**3
        return (
            f"reading it failed (exit {self._child.wait(END_SECONDS)}): it is damaged, or takes more than "
            f"{limit_gib} GiB of memory; save it as CSV"
        )
