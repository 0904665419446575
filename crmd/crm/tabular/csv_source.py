"""Reads CSV: any usual delimiter, quotes that may be broken, cells that may be huge."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from crmd.crm.tabular.rows import MAX_COLUMNS, Row, UnreadableFile
from crmd.crm.tabular.text_lines import MAX_LINE_CHARS, LineTooLong, TextLines

DELIMITERS = (",", ";", "\t", "|")
MAX_RECORD_LINES = 50
"""Lines of one record: more means that a quote is not closed, and the lines are read on their own."""
_SAMPLE_LINES = 100
_SAMPLE_CHARS = 200_000


class CsvSource:
    """The rows of a CSV file. A record with broken quotes costs its first line only."""

    def __init__(self, path: Path, encoding: str, delimiter: str | None, is_known: Callable[[str], bool]) -> None:
        """`is_known` says whether a text is the name of a column: such a row tells the delimiter best."""
        self._lines = TextLines(path, encoding)
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

    def fraction(self) -> float:
        """How much of it was read, 0 to 1."""
        return self._lines.fraction()

    def interrupt(self) -> None:
        """Nothing: reading a line never takes long."""

    def close(self) -> None:
        """Closes the file; idempotent."""
        self._lines.close()

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
