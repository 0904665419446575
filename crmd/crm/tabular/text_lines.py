"""Lines of a text file, each with its number; none is longer than a bound, and some may be put back."""

from __future__ import annotations

import io
from collections import deque
from pathlib import Path

MAX_LINE_CHARS = 1024 * 1024
"""A longer line is not read but skipped."""
_AHEAD_BYTES = 8192
"""So many are read at a time, of which some are not given yet."""


class LineTooLong(Exception):
    """A line over the bound; it was skipped."""


class TextLines:
    """An iterator of lines with their ends, as `csv.reader` wants them."""

    def __init__(self, path: Path, encoding: str) -> None:
        """Bytes that the encoding does not have become U+DC80 to U+DCFF in UTF-8, else U+FFFD."""
        self._size = path.stat().st_size
        self._raw = path.open("rb")
        errors = "surrogateescape" if encoding in ("utf-8", "utf-8-sig") else "replace"
        self._text = io.TextIOWrapper(self._raw, encoding, errors, newline="")
        self._letter_bytes = {"utf-16": 2, "utf-32": 4}.get(encoding[:6], 1)
        self._given_chars = 0
        self._back: deque[str | None] = deque()
        self.number = 0
        """Of the line that was given last; from 1."""

    def __iter__(self) -> TextLines:
        return self

    def __next__(self) -> str:
        """The next line; raises LineTooLong after skipping one."""
        line = self._back.popleft() if self._back else self._text.readline(MAX_LINE_CHARS)
        if line == "":
            raise StopIteration
        self.number += 1
        if line is None:
            raise LineTooLong
        self._given_chars += len(line)
        if len(line) == MAX_LINE_CHARS and not line.endswith(("\n", "\r")):
            while (rest := self._text.readline(MAX_LINE_CHARS)) and not rest.endswith(("\n", "\r")):
                pass
            raise LineTooLong
        return line

    def put_back(self, lines: list[str | None]) -> None:
        """Gives these lines, the last ones read, once more; None is one that was too long."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)
        self._given_chars -= sum(len(line) for line in lines if line is not None)

    def fraction(self) -> float:
        """How much of the file was read, 0 to 1."""
        if self._raw.closed or not self._size:
            return 1.0
        read = self._raw.tell()
        given = max(read - _AHEAD_BYTES, min(read, self._given_chars * self._letter_bytes))
        return min(1.0, given / self._size)

    def close(self) -> None:
        """Closes the file; idempotent."""
        self._text.close()
