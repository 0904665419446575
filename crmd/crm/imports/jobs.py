"""Queue `import`: reads contacts from a file into the database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
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
from crmd.crm.imports.chunks import Chunk, ImportChunks, Report, rows_after
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.imports.rows import Found
from crmd.crm.imports.source import ImportFolder, ImportSource
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
