"""Queue `export`: writes contacts or messages to a file."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactView
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.exports.payloads import Export, ExportContacts, ExportMessages, Format
from crmd.crm.files import transfers
from crmd.crm.files.store import FileStore, StoredFile
from crmd.crm.imports.columns import ATTRIBUTE_PREFIX
from crmd.crm.messages import queries as messages
from crmd.crm.tabular.writers import CsvWriter, JsonLinesWriter, TooManyRows, Writer, XlsxWriter, instant
from crmd.crm.thread_runner import ThreadRunner
from crmd.errors import Permanent
from crmd.jobs import JobContext, job

MAX_ATTRIBUTE_COLUMNS = 200
"""Where contacts have more attributes than that, all stand in one column as JSON."""
_TAG_SEPARATORS = re.compile(r"[,;|\n]|^\[")

Cell = Callable[[ContactView], Any]


@job(queue="export", payload=ExportContacts)
async def export_contacts(ctx: JobContext, payload: ExportContacts) -> Exported | dict[str, Any]:
    """Writes contacts into a file; nobody sees it before it is whole."""
    return await run_export(ctx, payload, partial(_contacts, ctx.get(Database), payload))


@job(queue="export", payload=ExportMessages)
async def export_messages(ctx: JobContext, payload: ExportMessages) -> Exported | dict[str, Any]:
    """Writes messages into a file; nobody sees it before it is whole."""
    return await run_export(ctx, payload, partial(_messages, ctx.get(Database), payload))


async def _contacts(database: Database, payload: ExportContacts) -> Table:
    async with database.reading() as s:
        total, last_id = await contacts.extent(s, payload.filter)
        attributes: list[str] = []
        if "attributes" in payload.columns and payload.format != "jsonl":
            limit = MAX_ATTRIBUTE_COLUMNS + 1
            attributes = await contacts.attribute_names(s, payload.filter, limit)
    names = list(payload.columns)
    if "attributes" in names and payload.format != "jsonl" and len(attributes) <= MAX_ATTRIBUTE_COLUMNS:
        place = names.index("attributes")
        names[place : place + 1] = [f"{ATTRIBUTE_PREFIX}{name}" for name in attributes]
    names = list(dict.fromkeys(names))
    pages = _contact_pages(database, payload, last_id)
    if payload.format == "jsonl":
        getters = {name: _value(name) for name in names}
        return Table("contacts", names, total, pages, lambda page: [_object(getters, one) for one in page])
    cells = [_cell(name) for name in names]
    return Table("contacts", names, total, pages, lambda page: [[cell(one) for cell in cells] for one in page])


async def _contact_pages(
    database: Database, payload: ExportContacts, last_id: int
) -> AsyncGenerator[Sequence[ContactView], None]:
    """Page by page, each in a short transaction; contacts that come meanwhile are left out."""
    after_id = 0
    while after_id < last_id:
        async with database.reading() as s:
            page = await contacts.page(s, payload.filter, after_id, PAGE_ROWS)
        page = [one for one in page if one.id <= last_id]
        if not page:
            return
        after_id = page[-1].id
        yield page


def _value(name: str) -> Cell:
    """A contact's value as JSON has it."""
    if name.startswith(ATTRIBUTE_PREFIX):
        attribute = name.removeprefix(ATTRIBUTE_PREFIX)
        return lambda one: one.attributes.get(attribute)
    return lambda one: getattr(one, name)


def _cell(name: str) -> Cell:
    """A contact's value as a table has it."""
    if name == "tags":
        return lambda one: _joined(one.tags)
    if name == "attributes":
        return lambda one: json.dumps(one.attributes, ensure_ascii=False) if one.attributes else ""
    return _value(name)


def _object(getters: dict[str, Cell], one: ContactView) -> dict[str, Any]:
    return {name: getter(one) for name, getter in getters.items()}


def _joined(tags: Sequence[str]) -> str:
    """Tags with commas between; a JSON list where a tag has a comma itself."""
    if any(_TAG_SEPARATORS.search(tag) for tag in tags):
        return json.dumps(tags, ensure_ascii=False)
    return ", ".join(tags)


async def _messages(database: Database, payload: ExportMessages) -> Table:
    async with database.reading() as s:
        chosen = await messages.ids(s, payload.filter)
    names = list(dict.fromkeys(payload.columns))
    pages = _message_pages(database, chosen, names)
    if payload.format == "jsonl":
        return Table("messages", names, len(chosen), pages, lambda page: [one._asdict() for one in page])
    return Table("messages", names, len(chosen), pages, list)


async def _message_pages(
    database: Database, chosen: Sequence[int], names: Sequence[str]
) -> AsyncGenerator[Sequence[Any], None]:
    for begin in range(0, len(chosen), PAGE_ROWS):
        async with database.reading() as s:
            page = await messages.rows(s, chosen[begin : begin + PAGE_ROWS], names)
        yield page


# Writes an export: reads pages, writes them in a thread, and keeps the file once it is whole


PAGE_ROWS = 500
"""Rows of one reading transaction: what the event loop decodes in a few tens of milliseconds."""
MEDIA_TYPES: dict[Format, str] = {
    "csv": "text/csv",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "jsonl": "application/jsonl",
}

WRITTEN_SHARE: dict[Format, float] = {"csv": 0.99, "xlsx": 0.7, "jsonl": 0.99}
"""How much of the work is done when all rows are written: XLSX has to be packed then."""


class Exported(TypedDict):
    """The file that was made."""

    file: str
    """Its id: `GET /api/v1/files/{id}` fetches it."""
    name: str
    rows: int
    size_bytes: int
    expires_at: str
    """RFC 3339."""


@dataclass(frozen=True, slots=True)
class Table:
    """What is exported."""

    title: str
    """Such as contacts: names the file and the sheet."""
    names: Sequence[str]
    """The columns' names, for a format that has a header."""
    total: int
    pages: AsyncGenerator[Sequence[Any], None]
    render: Callable[[Sequence[Any]], list[Any]]
    """Rows of a page for the writer, run in a thread."""


async def run_export(
    ctx: JobContext, payload: Export, prepare: Callable[[], Awaitable[Table]]
) -> Exported | dict[str, Any]:
    """Makes the file, or returns what an earlier run of the job made. `prepare` gives the Table."""
    database = ctx.get(Database)
    async with database.transaction() as s:
        enqueued_at = datetime.fromtimestamp(ctx.enqueued_at, UTC)
        begun = await transfers.begin(s, ctx.name, ctx.key, enqueued_at, None, utc_now())
    if begun.result is not None:
        return begun.result
    table = await prepare()
    stored, count = await _write(ctx, payload, table)
    result = Exported(
        file=stored.id,
        name=stored.name,
        rows=count,
        size_bytes=stored.size_bytes,
        expires_at=instant(stored.expires_at),
    )
    async with database.transaction() as s:
        counts = {"rows": count}
        await transfers.finish(s, begun.id, counts=counts, result=result, now=utc_now(), file_id=stored.id)
    return result


async def _write(ctx: JobContext, payload: Export, table: Table) -> tuple[StoredFile, int]:
    name = f"{payload.name or f'{table.title}-{datetime.now(UTC):%Y-%m-%d-%H%M}'}.{payload.format}"
    store, count = ctx.get(FileStore), 0
    async with store.create(kind="export", name=name, media_type=MEDIA_TYPES[payload.format]) as new:
        output = _Output(partial(_writer, new.path, payload, table))
        thread = ThreadRunner()
        thread.interrupt = output.stop
        try:
            await thread.run(output.open)
            async with aclosing(table.pages) as pages:
                async for page in pages:
                    await thread.run(partial(output.write, table, page))
                    count += len(page)
                    share = WRITTEN_SHARE[payload.format]
                    await ctx.progress(share * min(1.0, count / max(1, table.total)), f"{count:,} rows")
            await thread.run(output.finish)
        except TooManyRows as error:
            raise Permanent(str(error), code="too_many_rows") from None
        finally:
            thread.close(output.close)
    if new.stored is None:
        raise RuntimeError("the file was not kept")
    return new.stored, count


class _Output:
    """A writer that is made in the thread: a job may be stopped meanwhile, and what is open has to be closed."""

    def __init__(self, make: Callable[[], Writer]) -> None:
        self._make = make
        self._made: list[Writer] = []

    def open(self) -> None:
        self._made.append(self._make())

    def write(self, table: Table, page: Sequence[Any]) -> None:
        self._made[0].write(table.render(page))

    def finish(self) -> None:
        self._made[0].finish()

    def stop(self) -> None:
        for writer in self._made:
            writer.stop()

    def close(self) -> None:
        for writer in self._made:
            writer.close()


def _writer(path: Path, payload: Export, table: Table) -> Writer:
    if payload.format == "xlsx":
        return XlsxWriter(path, table.names, table.title.capitalize())
    if payload.format == "jsonl":
        return JsonLinesWriter(path)
    return CsvWriter(path, table.names, payload.delimiter, mark=payload.byte_order_mark)
