"""Queue `import`: reads contacts from a file into the database."""

from __future__ import annotations

import csv
import hashlib
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, TypedDict, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactRow
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.files import transfers
from crmd.crm.files.store import FileStore, StoredFile
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.imports.rows import Found, OptOut, Rejected
from crmd.crm.imports.source import ImportFolder, ImportSource
from crmd.crm.tabular.defuse import defuse
from crmd.crm.tabular.xlsx_source import TooManyReaders, XlsxReaders
from crmd.crm.thread_runner import ThreadRunner
from crmd.errors import Permanent, RecordsError, RequestError, Snooze
from crmd.jobs import JobContext, job

CHUNK_ROWS = 250
"""Rows of one transaction: a few tens of milliseconds, in which other writers wait."""
UNAVAILABLE_SECONDS = 15.0
"""An import comes back after this where the database is unavailable."""
BUSY_SECONDS = 5.0
"""An import comes back after this where as many files as may be are being read."""
RESERVE_SECONDS = 5.0
RESERVE_SHARE = 0.1
"""So much is left of the timeout, or so large a share of it, when an import stops to go on in a later run."""

MAX_BROKEN = 10_000
"""Once more rows, and more than half of those read, are not contacts, the file is not a contact list."""

T = TypeVar("T")


class ContactsImported(TypedDict):
    """What became of the rows."""

    rows: int
    """All but blank ones and the header."""
    created: int
    updated: int
    unchanged: int
    skipped: int
    """There already, and left as they were on request."""
    rejected: int
    report: str | None
    """Id of the file with each rejected row and why; None where there is none."""
    columns: dict[str, str]
    """What each column was taken for."""
    source: dict[str, str]
    """The file's format, and encoding, delimiter or sheet."""
    dry_run: bool


@job(queue="import", payload=ImportContacts)
async def import_contacts(ctx: JobContext, payload: ImportContacts) -> ContactsImported | dict[str, Any]:
    """Adds and updates contacts chunk by chunk. What is in stays in; a later run goes on behind it."""
    try:
        return await _Import(ctx, payload).run()
    except RecordsError as error:
        raise Snooze(
            f"the import waits, and then goes on where it was: {error}", after=UNAVAILABLE_SECONDS
        ) from None


class _Import:
    """One run."""

    def __init__(self, ctx: JobContext, payload: ImportContacts) -> None:
        self._ctx = ctx
        self._payload = payload
        self._database = ctx.get(Database)
        self._counts = {"created": 0, "updated": 0, "unchanged": 0, "skipped": 0}
        self._rows = 0
        self._rejected = 0
        self._broken = 0
        self._done = 0
        """The last row that is in the database, from this run or an earlier one."""
        self._signature = ""
        self._transfer = 0
        self._reserve_seconds = min(RESERVE_SECONDS, RESERVE_SHARE * (ctx.remaining_seconds or 0.0))

    async def run(self) -> ContactsImported | dict[str, Any]:
        path, name = await self._file()
        source = ImportSource(path, self._payload, datetime.now(UTC), self._ctx.get(XlsxReaders))
        chunks = ImportChunks(source)
        thread = ThreadRunner()
        thread.interrupt = source.interrupt
        try:
            begun = await self._begin(f"{await _reading(thread, source.signature)}:{_digest(self._payload)}")
            if begun.result is not None:
                return begun.result
            await _reading(thread, source.open)
            await self._import(thread, chunks, name)
            return await self._finish(thread, source, chunks.report, name)
        finally:
            thread.close(chunks.close)

    async def _file(self) -> tuple[Path, str]:
        """Where the file is, and what people call it."""
        try:
            if self._payload.file is not None:
                stored = await self._ctx.get(FileStore).get(self._payload.file)
                return stored.path, stored.name
            path = self._ctx.get(ImportFolder).find(self._payload.path or "")
        except (RequestError, ValueError, OSError) as error:
            raise Permanent(str(error), code="no_file") from None
        return path, path.name

    async def _begin(self, signature: str) -> transfers.StartedTransfer:
        """Finds how far an earlier run came; a file or a payload that has changed is started over."""
        ctx, enqueued_at = self._ctx, datetime.fromtimestamp(self._ctx.enqueued_at, UTC)
        async with self._database.transaction() as s:
            begun = await transfers.begin(s, ctx.name, ctx.key, enqueued_at, self._payload.file, utc_now())
        self._transfer, self._signature = begun.id, signature
        if begun.cursor.get("file") == signature:
            self._done = int(begun.cursor["row"])
            self._counts |= {name: begun.counts[name] for name in self._counts}
        return begun

    async def _import(self, thread: ThreadRunner, chunks: ImportChunks, name: str) -> None:
        """Rows that are in the database already are checked once more: the report and the duplicates need them."""
        while (chunk := await _reading(thread, lambda: chunks.next_chunk(CHUNK_ROWS))) is not None:
            self._rows += chunk.rows
            self._rejected += chunk.rejected
            self._broken += chunk.broken
            if chunk.last > self._done:
                await self._store(chunk)
                self._done = chunk.last
                self._check_time()
            note = f"{self._rows:,} rows, {self._rejected:,} rejected"
            await self._ctx.progress(min(chunk.fraction, 0.99), note)
            if self._broken > MAX_BROKEN and 2 * self._broken > self._rows:
                await self._give_up(thread, chunks.report, name, chunk.last)

    async def _store(self, chunk: Chunk) -> None:
        found = list(rows_after(chunk, self._done))
        if self._payload.dry_run:
            await self._only_count(found)
            return
        self._counts = await self._database.run(lambda s: self._write(s, chunk, found))

    async def _write(self, s: AsyncSession, chunk: Chunk, found: list[Found]) -> dict[str, int]:
        """Writes a chunk of rows, and how far the import came; returns the new counts."""
        counts = dict(self._counts)
        opt_outs = [(one.phone, one.opted_out_at) for one in found if one.opted_out_at is not None]
        opt_outs += [(one.phone, one.at) for one in chunk.opt_outs]
        if self._payload.update == "skip":
            there = await contacts.existing(s, [one.phone for one in found])
            counts["skipped"] += len(there)
            found = [one for one in found if one.phone not in there]
        upserted = await contacts.upsert(s, [_contact_row(one) for one in found])
        await contacts.opt_out_many(s, opt_outs)
        counts["created"] += upserted.created
        counts["updated"] += upserted.updated
        counts["unchanged"] += upserted.unchanged
        await transfers.advance(s, self._transfer, counts, {"file": self._signature, "row": chunk.last})
        return counts

    async def _only_count(self, found: list[Found]) -> None:
        async with self._database.reading() as s:
            there = await contacts.existing(s, [one.phone for one in found])
        self._counts["created"] += len(found) - len(there)
        self._counts["skipped" if self._payload.update == "skip" else "updated"] += len(there)

    async def _give_up(self, thread: ThreadRunner, rejected: Report, name: str, row: int) -> NoReturn:
        report = await self._save_report(thread, rejected, name)
        told = f"the report, file {report.id}, says why" if report else "see why by a dry run"
        raise Permanent(
            f"stopped at row {row:,}: of {self._rows:,} rows {self._broken:,} are not contacts; {told}",
            code="too_many_rejected",
        )

    def _check_time(self) -> None:
        remaining = self._ctx.remaining_seconds
        if remaining is not None and remaining < self._reserve_seconds and not self._payload.dry_run:
            raise Snooze(f"rows up to {self._done:,} are in; the timeout is near, the rest comes next", after=0.0)

    async def _finish(
        self, thread: ThreadRunner, source: ImportSource, rejected: Report, name: str
    ) -> ContactsImported:
        report = await self._save_report(thread, rejected, name)
        result = ContactsImported(
            rows=self._rows,
            created=self._counts["created"],
            updated=self._counts["updated"],
            unchanged=self._counts["unchanged"],
            skipped=self._counts["skipped"],
            rejected=self._rejected,
            report=report.id if report else None,
            columns=source.columns,
            source=source.description,
            dry_run=self._payload.dry_run,
        )
        async with self._database.transaction() as s:
            counts = {**self._counts, "rows": self._rows, "rejected": self._rejected}
            await transfers.finish(
                s, self._transfer, counts=counts, result=result, now=utc_now(), report_id=result["report"]
            )
        return result

    async def _save_report(self, thread: ThreadRunner, rejected: Report, name: str) -> StoredFile | None:
        if not rejected.count:
            return None
        store, name = self._ctx.get(FileStore), f"{Path(name).stem}-rejected.csv"
        async with store.create(kind="report", name=name, media_type="text/csv") as new:
            await thread.run(lambda: rejected.save(new.path))
        return new.stored


async def _reading(thread: ThreadRunner, call: Callable[[], T]) -> T:
    """Runs a call that reads the file; what is wrong with the file fails the job."""
    try:
        return await thread.run(call)
    except TooManyReaders as error:
        raise Snooze(str(error), after=BUSY_SECONDS) from None
    except ValueError as error:
        raise Permanent(f"the file cannot be imported: {error}", code="unreadable_file") from None
    except OSError as error:
        raise Permanent(f"the file cannot be read: {error.strerror or error}", code="unreadable_file") from None


def _digest(payload: ImportContacts) -> str:
    return hashlib.sha256(payload.model_dump_json().encode()).hexdigest()[:16]


def _contact_row(found: Found) -> ContactRow:
    return ContactRow(found.phone, found.name, found.email, found.tags, found.attributes)


# What an import takes of a file, chunk by chunk: each number once; the other rows go into the report


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
