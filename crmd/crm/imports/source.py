"""A file of contacts: found, opened, its columns understood, its rows checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path

from crmd.crm.imports.columns import PHONE, Columns, find_header, guess_names, is_known
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.imports.rows import Found, Rejected, RowCheck, Rules
from crmd.crm.tabular.opening import Reading, open_source
from crmd.crm.tabular.rows import Row, Source, UnreadableFile
from crmd.crm.tabular.xlsx_source import XlsxReaders

FOLDER = "imports"
"""Below the state folder."""
HEADER_ROWS = 20
"""The names of the columns stand in one of the first rows; titles and blank rows may stand before them."""


@dataclass(frozen=True, slots=True)
class ImportFolder:
    """The folder below which `path` of a payload is looked for."""

    path: Path

    def find(self, name: str) -> Path:
        """A file in it; raises ValueError for what is not there or outside, and OSError."""
        folder = self.path.resolve()
        found = (folder / name).resolve()
        if not found.is_relative_to(folder):
            raise ValueError(f"the path {name!r} leads out of {folder}; put the file below it")
        if not found.is_file():
            raise ValueError(f"there is no file {name!r} in {folder}")
        return found


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of the file, checked."""

    results: Sequence[Found | Rejected]
    last: int
    """The number of the last row."""
    fraction: float
    """How much of the file was read with it, 0 to 1."""


class ImportSource:
    """The contacts of a file. All but `interrupt` is called in one thread, as it may take long."""

    def __init__(self, path: Path, payload: ImportContacts, now: datetime, xlsx: XlsxReaders) -> None:
        self._xlsx = xlsx
        self._path = path
        self._payload = payload
        self._now = now
        self._source: Source | None = None
        self._interrupted = False
        self.columns: dict[str, str] = {}
        """What each column was taken for, once it is open."""
        self.description: dict[str, str] = {}

    def signature(self) -> str:
        """Changes when the file does."""
        stat = self._path.stat()
        return f"{stat.st_size}:{stat.st_mtime_ns}"

    def open(self) -> None:
        """Finds out what the file is, and what its columns are. Raises ValueError, OSError, TooManyReaders."""
        payload = self._payload
        how = Reading(
            format=None if payload.format == "auto" else payload.format,
            encoding=payload.encoding,
            delimiter=payload.delimiter,
            sheet=payload.sheet,
            region=payload.default_region,
        )
        self._source = source = open_source(self._path, how, self._is_known, self._xlsx)
        if self._interrupted:
            source.interrupt()
        rows = iter(source)
        first = list(islice(rows, HEADER_ROWS))
        if not first:
            raise UnreadableFile("it has no rows")
        columns, first = self._columns(first)
        rules = Rules(payload.default_region, payload.tags, self._now, source.description["format"] == "csv")
        self._rows = chain(first, rows)
        self._check = RowCheck(columns, rules)
        self.columns, self.description = columns.described, source.description

    def next_rows(self, size: int) -> Rows | None:
        """The next rows; None at the end. Raises ValueError."""
        rows = list(islice(self._rows, size))
        if not rows:
            return None
        fraction = self._source.fraction() if self._source else 1.0
        return Rows([self._check.check(row) for row in rows], rows[-1].number, fraction)

    def interrupt(self) -> None:
        """From any thread: a call under way ends soon."""
        self._interrupted = True
        if self._source is not None:
            self._source.interrupt()

    def close(self) -> None:
        """Closes the file; idempotent."""
        if self._source is not None:
            self._source.close()

    def _is_known(self, text: str) -> bool:
        return is_known(text) or text in self._payload.columns

    def _columns(self, first: list[Row]) -> tuple[Columns, list[Row]]:
        """What the columns are, and the rows that come after their names."""
        given = self._payload.columns
        if any(row.fields is not None for row in first):
            names = dict.fromkeys(name for row in first for name in row.fields or ())
            return Columns(list(names), given, later=True), first
        tables = [row.cells for row in first]
        header = find_header(tables, given)
        if self._payload.header is False:
            header = None
        elif self._payload.header and header is None:
            header = next((place for place, cells in enumerate(tables) if cells), None)
        if header is None:
            columns = Columns(guess_names(tables), given)
        else:
            columns = Columns([str(cell) for cell in tables[header]], given)
        self._check_phone(columns)
        return columns, first if header is None else _after(first, header)

    def _check_phone(self, columns: Columns) -> None:
        if PHONE not in columns.targets:
            there = ", ".join(repr(name) for name in columns.names[:30])
            raise UnreadableFile(
                f'no column is known as the phone number; there are {there}: say which one by "columns"'
            )


def _after(first: list[Row], header: int) -> list[Row]:
    """The rows after the header, and those before it that could not be read."""
    broken = [row for row in first[:header] if row.problem is not None]
    return broken + first[header + 1 :]
