"""Writes an export: reads pages, writes them in a thread, and keeps the file once it is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.exports.payloads import Export, Format
from crmd.crm.files import transfers
from crmd.crm.files.store import FileStore, StoredFile
from crmd.crm.tabular.writers import CsvWriter, JsonLinesWriter, Writer, instant
from crmd.crm.tabular.xlsx_writer import TooManyRows, XlsxWriter
from crmd.crm.thread_runner import ThreadRunner
from crmd.errors import Permanent
from crmd.jobs import JobContext

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
