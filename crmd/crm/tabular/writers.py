"""Writes tables row by row. A writer is used by one thread at a time; `stop` may be called from any."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol, cast

import orjson

from crmd.crm.tabular import xlsx_write_child
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


class _FileWriter:
    """What the writers of one open file have in common."""

    _file: IO[Any]

    def finish(self) -> None:
        """Writes out what is left."""
        self._file.flush()

    def stop(self) -> None:
        """Nothing: no call takes long."""

    def close(self) -> None:
        """Closes the file; idempotent."""
        self._file.close()


class CsvWriter(_FileWriter):
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


class JsonLinesWriter(_FileWriter):
    """An object on each line, in UTF-8."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Adds rows."""
        self._file.writelines(map(_json_line, rows))


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


# Writes XLSX through a process of its own; see `xlsx_write_child`


MAX_ROWS = 1_048_575
"""What a sheet holds besides its header."""
END_SECONDS = 5.0
_LARGEST_WHOLE = 2**53
"""Beyond it a spreadsheet rounds."""


class TooManyRows(ValueError):
    """More rows than a sheet holds."""


class XlsxWriter:
    """One sheet with a header that stays in sight."""

    def __init__(self, path: Path, names: Sequence[str], sheet: str) -> None:
        self._count = 0
        # The rows wait in files there until the end. A folder of ours goes whatever becomes of the process.
        self._folder = tempfile.TemporaryDirectory(prefix="crmd-xlsx-")
        program = [sys.executable, "-I", str(xlsx_write_child.__file__), str(path), sheet, self._folder.name]
        self._child = subprocess.Popen(  # noqa: S603 - our own program
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._input, self._output = cast(IO[bytes], self._child.stdin), cast(IO[bytes], self._child.stdout)
        try:
            self._send([list(names)])
        except BaseException:
            self.close()
            raise

    def write(self, rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows. Raises TooManyRows, and OSError where the file cannot be written."""
        plain = [[_plain(cell) for cell in row] for row in rows]
        self._count += len(plain)
        if self._count > MAX_ROWS:
            raise TooManyRows(f"XLSX holds at most {MAX_ROWS:,} rows; take csv or jsonl")
        self._send(plain)

    def finish(self) -> None:
        """Packs the file, which takes seconds where it is large. Raises OSError."""
        with suppress(BrokenPipeError):  # then it has ended, and says why
            self._input.write(b"null\n")
            self._input.close()
        said = self._output.read()
        if code := self._child.wait():
            raise OSError(_why(said) or f"writing XLSX ended with {code}")

    def stop(self) -> None:
        """From any thread: what is under way ends soon, and the file is of no use."""
        self._child.kill()

    def close(self) -> None:
        """Ends the process and removes what lies about; idempotent."""
        self._child.kill()
        with suppress(OSError):  # what it did not take any more
            self._input.close()
        self._output.close()
        self._child.wait(END_SECONDS)
        self._folder.cleanup()

    def _send(self, rows: Iterable[Sequence[Any]]) -> None:
        try:
            self._input.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        except BrokenPipeError:
            self.finish()


def _plain(cell: Any) -> Any:
    """A cell as the process takes it: text, number, truth or None."""
    if isinstance(cell, str):
        return cell or None
    if cell is None or isinstance(cell, bool) or (isinstance(cell, int | float) and abs(cell) <= _LARGEST_WHOLE):
        return cell
    return as_text(cell)


def _why(said: bytes) -> str:
    try:
        return str(json.loads(said)["error"])
    except (ValueError, KeyError):
        return ""
