"""Reads JSON Lines: an object on each line. A bad line costs itself only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson

from crmd.crm.tabular.rows import MAX_COLUMNS, Row, UnreadableFile
from crmd.crm.tabular.text_lines import MAX_LINE_CHARS, LineTooLong, TextLines


class JsonLinesSource:
    """The rows of a JSON Lines file."""

    def __init__(self, path: Path, encoding: str) -> None:
        self._lines = TextLines(path, encoding)
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

    def fraction(self) -> float:
        """How much of it was read, 0 to 1."""
        return self._lines.fraction()

    def interrupt(self) -> None:
        """Nothing: reading a line never takes long."""

    def close(self) -> None:
        """Closes the file; idempotent."""
        self._lines.close()


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
