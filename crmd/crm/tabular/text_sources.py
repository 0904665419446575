"""Reads CSV, with any usual delimiter, broken quotes and huge cells, and JSON Lines."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson

from crmd.crm.tabular.rows import MAX_COLUMNS, Row, UnreadableFile

DELIMITERS = (",", ";", "\t", "|")
MAX_RECORD_LINES = 50
"""Lines of one record: more means that a quote is not closed, and the lines are read on their own."""
_SAMPLE_LINES = 100
_SAMPLE_CHARS = 200_000


class _TextSource:
    """What the readers of text files have in common."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._lines = TextLines(path, encoding)

    def fraction(self) -> float:
        """How much of it was read, 0 to 1."""
        return self._lines.fraction()

    def interrupt(self) -> None:
        """Nothing: reading a line never takes long."""

    def close(self) -> None:
        """Closes the file; idempotent."""
        self._lines.close()


class CsvSource(_TextSource):
    """The rows of a CSV file. A record with broken quotes costs its first line only."""

    def __init__(self, path: Path, encoding: str, delimiter: str | None, is_known: Callable[[str], bool]) -> None:
        """`is_known` says whether a text is the name of a column: such a row tells the delimiter best."""
        super().__init__(path, encoding)
        try:
            self._delimiter = delimiter or self._detect(is_known)
        except UnicodeError as error:
            self.close()
            raise UnreadableFile(f"it cannot be read as {encoding}: {error}") from None
        shown = {"\t": "tab"}.get(self._delimiter, self._delimiter)
        self.description = {"format": "csv", "encoding": encoding, "delimiter": shown}

    def __iter__(self) -> Iterator[Row]:
        """All rows. Raises UnreadableFile."""
        records = _RecordReader(self._lines, self._delimiter)
        try:
            for row in records:
                if row.number == 1 and _separator(row.cells, self._delimiter):
                    continue
                if row.problem or any(cell and not cell.isspace() for cell in row.cells):
                    yield row
        except UnicodeError as error:
            raise UnreadableFile(f"line {self._lines.number + 1} cannot be decoded: {error}") from None

    def _detect(self, is_known: Callable[[str], bool]) -> str:
        lines: list[str | None] = []
        size = 0
        while len(lines) < _SAMPLE_LINES and size < _SAMPLE_CHARS:
            try:
                line = next(self._lines)
            except StopIteration:
                break
            except LineTooLong:
                lines.append(None)
                break
            lines.append(line)
            size += len(line)
        self._lines.put_back(lines)
        return guess_delimiter([line for line in lines if line is not None], is_known)


def guess_delimiter(lines: Sequence[str], is_known: Callable[[str], bool]) -> str:
    """The delimiter under which the most column names are known, then under which rows are the most alike."""
    if lines and lines[0].lower().startswith("sep=") and len(lines[0].strip()) == 5:
        return lines[0].strip()[4]  # Excel's own way to say it
    best, best_score = ",", (0, 0.0, 0)
    for delimiter in DELIMITERS:
        rows = [row for row in _leniently(lines, delimiter) if row]
        widths = [len(row) for row in rows]
        width = max(set(widths), key=widths.count, default=0)
        if width < 2:
            continue
        names = max(sum(map(is_known, row)) for row in rows[:20])
        score = (names, round(widths.count(width) / len(widths), 1), width)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _leniently(lines: Sequence[str], delimiter: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines, delimiter=delimiter)
    except csv.Error:
        return


def _separator(cells: Sequence[str], delimiter: str) -> bool:
    return delimiter.join(cells).lower() == f"sep={delimiter}"


class _RecordReader:
    """The records of a file. After a broken one reading goes on at its second line."""

    def __init__(self, lines: TextLines, delimiter: str) -> None:
        self._lines = lines
        self._delimiter = delimiter
        self._taken: list[str | None] = []

    def __iter__(self) -> Iterator[Row]:
        reader = self._reader()
        while True:
            self._taken.clear()
            number = self._lines.number + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, LineTooLong, _TooManyLines) as error:
                yield Row(number, problem=self._problem(error))
                self._lines.put_back(self._taken[1:])
                reader = self._reader()
            else:
                too_wide = len(cells) > MAX_COLUMNS
                problem = f"{len(cells)} cells; at most {MAX_COLUMNS} are read" if too_wide else None
                yield Row(number, () if too_wide else tuple(cells), problem=problem)

    def _reader(self) -> Iterator[list[str]]:
        return csv.reader(self._fed(), delimiter=self._delimiter, strict=True)

    def _fed(self) -> Iterator[str]:
        while True:
            try:
                line = next(self._lines)
            except StopIteration:
                return
            except LineTooLong:
                self._taken.append(None)
                raise
            self._taken.append(line)
            if len(self._taken) > MAX_RECORD_LINES:
                raise _TooManyLines
            yield line

    def _problem(self, error: Exception) -> str:
        if self._taken == [None]:
            return f"a line of more than {MAX_LINE_CHARS:,} characters"
        if "field limit" in str(error):
            return f"a cell of more than {csv.field_size_limit():,} characters"
        if isinstance(error, csv.Error) and "unexpected end" not in str(error):
            return f"quotes are not paired ({error})"
        return "a quote is opened and not closed"


class _TooManyLines(Exception):
    """A record that does not end."""


# Lines of a text file, each with its number; none is longer than a bound, and some may be put back


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


# Reads JSON Lines: an object on each line. A bad line costs itself only


class JsonLinesSource(_TextSource):
    """The rows of a JSON Lines file."""

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__(path, encoding)
        self.description = {"format": "jsonl", "encoding": encoding}

    def __iter__(self) -> Iterator[Row]:
        """All rows. Raises UnreadableFile."""
        while True:
            try:
                line = next(self._lines)
            except StopIteration:
                return
            except LineTooLong:
                yield Row(self._lines.number, problem=f"a line of more than {MAX_LINE_CHARS:,} characters")
                continue
            except UnicodeError as error:
                raise UnreadableFile(f"line {self._lines.number + 1} cannot be decoded: {error}") from None
            if not line.isspace():
                yield _row(self._lines.number, line)


def _row(number: int, line: str) -> Row:
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Row(number, problem=f"not JSON: {error.msg}")
    if not isinstance(value, dict):
        return Row(number, problem='no JSON object; each line must be one, such as {"phone": "+491701234567"}')
    if len(value) > MAX_COLUMNS:
        return Row(number, problem=f"{len(value)} fields; at most {MAX_COLUMNS} are read")
    return Row(number, fields=value)
