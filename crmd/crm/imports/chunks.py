"""What an import takes of a file, chunk by chunk: each number once; the other rows go into the report."""

from __future__ import annotations

import csv
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crmd.crm.imports.rows import Found, OptOut, Rejected
from crmd.crm.imports.source import ImportSource
from crmd.crm.tabular.defuse import defuse


@dataclass(slots=True)
class Chunk:
    """Some rows of the file."""

    found: list[Found] = field(default_factory=list)
    opt_outs: list[OptOut] = field(default_factory=list)
    """What rejected rows say all the same."""
    rows: int = 0
    rejected: int = 0
    broken: int = 0
    """Rejected rows that are not contacts at all, in contrast to those whose number an earlier row has."""
    last: int = 0
    """The number of the last row."""
    fraction: float = 0.0
    """How much of the file was read with it, 0 to 1."""


class ImportChunks:
    """The chunks of a source. All is called in one thread, as it may take long."""

    def __init__(self, source: ImportSource) -> None:
        self._source = source
        self._seen = Seen()
        self.report = Report()

    def next_chunk(self, size: int) -> Chunk | None:
        """The next rows; the bad ones are in the report. None at the end. Raises ValueError."""
        rows = self._source.next_rows(size)
        if rows is None:
            return None
        chunk = Chunk(rows=len(rows.results), last=rows.last, fraction=rows.fraction)
        for checked in rows.results:
            if isinstance(checked, Rejected):
                chunk.broken += 1
            result = self._once(checked) if isinstance(checked, Found) else checked
            if isinstance(result, Found):
                chunk.found.append(result)
                continue
            chunk.rejected += 1
            self.report.add(result)
            if result.opt_out is not None:
                chunk.opt_outs.append(result.opt_out)
        return chunk

    def close(self) -> None:
        """Closes everything, the source included; idempotent."""
        self._source.close()
        self._seen.close()
        self.report.close()

    def _once(self, found: Found) -> Found | Rejected:
        earlier = self._seen.first_row(found.phone, found.number)
        if earlier is None:
            return found
        opt_out = None if found.opted_out_at is None else OptOut(found.phone, found.opted_out_at)
        return Rejected(found.number, "", found.phone, f"has the same number as row {earlier}", opt_out)


def rows_after(chunk: Chunk, number: int) -> Iterator[Found]:
    """The contacts of rows after the one of that number."""
    return (found for found in chunk.found if found.number > number)


# Which phone numbers a file had already, and where: on disk, so that a file of any length takes no memory


class Seen:
    """Numbers of one file. Used by one thread at a time, and opened by its first use."""

    def __init__(self) -> None:
        self._db: sqlite3.Connection | None = None

    def first_row(self, phone: str, number: int) -> int | None:
        """The row that had this E.164 number before; None for a new one, which is noted with its row."""
        db = self._db or self._open()
        digits = int(phone[1:])
        if db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (digits, number)).rowcount:
            return None
        (row,) = db.execute("SELECT number FROM seen WHERE digits = ?", (digits,)).fetchone()
        return int(row)

    def close(self) -> None:
        """Frees the disk; idempotent."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    def _open(self) -> sqlite3.Connection:
        # an empty name is a file that only this connection knows, and that goes with it
        db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA journal_mode = OFF")
        db.execute("CREATE TABLE seen (digits INTEGER PRIMARY KEY, number INTEGER NOT NULL)")
        db.execute("BEGIN")
        self._db = db
        return db


# The report of an import: a CSV file with each rejected row and why


MEMORY_BYTES = 256 * 1024
HEADER = ("row", "column", "value", "reason")


class Report:
    """Rejected rows, on disk once they are many. Used by one thread at a time."""

    def __init__(self) -> None:
        # A byte order mark, as spreadsheets want it.
        self._file: Any = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close()
            MEMORY_BYTES, "w+", encoding="utf-8-sig", errors="replace", newline=""
        )
        self._writer = csv.writer(self._file)
        self._writer.writerow(HEADER)
        self.count = 0

    def add(self, rejected: Rejected) -> None:
        """Notes one row. What could be a formula is defused."""
        self.count += 1
        self._writer.writerow(
            (rejected.number, defuse(rejected.column), defuse(rejected.value), defuse(rejected.reason))
        )

    def save(self, path: Path) -> None:
        """Writes the report to a file, in place of what it held."""
        self._file.flush()
        self._file.seek(0)
        with path.open("w", encoding="utf-8", newline="") as file:
            file.write("\ufeff")
            shutil.copyfileobj(self._file, file)

    def close(self) -> None:
        """Frees memory and disk; idempotent."""
        self._file.close()
