"""Writes tables row by row. A writer is used by one thread at a time; `stop` may be called from any."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson

from crmd.crm.tabular.defuse import defuse


class Writer(Protocol):
    """Writes the rows of one file."""

    def write(self, rows: Iterable[Any]) -> None:
        """Adds rows: sequences of cells for tables, mappings for JSON Lines."""

    def finish(self) -> None:
        """Makes the file whole. Raises OSError."""

    def stop(self) -> None:
        """From any thread: what is under way ends soon, and the file is of no use."""

    def close(self) -> None:
        """Closes everything, whether the file is whole or not; idempotent."""


class CsvWriter:
    """CSV as RFC 4180 has it, in UTF-8. What a spreadsheet could take for a formula is defused."""

    def __init__(self, path: Path, names: Sequence[str], delimiter: str, *, mark: bool) -> None:
        """`mark`: begin with a byte order mark, without which Excel takes UTF-8 for something else."""
        encoding = "utf-8-sig" if mark else "utf-8"
        self._file = path.open("w", encoding=encoding, errors="replace", newline="")
        self._writer = csv.writer(self._file, delimiter=delimiter)
        self._writer.writerow(map(defuse, names))

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows."""
        self._writer.writerows([defuse(as_text(cell)) for cell in row] for row in rows)

    def finish(self) -> None:
        """Writes out what is left."""
        self._file.flush()

    def stop(self) -> None:
        """Nothing: no call takes long."""

    def close(self) -> None:
        """Closes the file; idempotent."""
        self._file.close()


class JsonLinesWriter:
    """An object on each line, in UTF-8."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows."""
        self._file.writelines(map(_json_line, rows))

    def finish(self) -> None:
        """Writes out what is left."""
        self._file.flush()

    def stop(self) -> None:
        """Nothing: no call takes long."""

    def close(self) -> None:
        """Closes the file; idempotent."""
        self._file.close()


def as_text(cell: Any) -> str:
    """A cell of a text file. Instants are RFC 3339 in UTC, tags a list, other things JSON."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return instant(cell)
    return json.dumps(cell, ensure_ascii=False, separators=(",", ":"))


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds where it has some."""
    precision = "milliseconds" if at.microsecond else "seconds"
    return at.astimezone(UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _json_line(row: Mapping[str, Any]) -> bytes:
    plain = {name: instant(value) if isinstance(value, datetime) else value for name, value in row.items()}
    try:
        return orjson.dumps(plain, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(plain).encode() + b"\n"
