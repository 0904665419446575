"""Whom a campaign goes to: recipients of a file or of the payload, chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from crmd.crm.campaigns.payloads import InlineRecipient, RunCampaign
from crmd.crm.campaigns.recipients import NewRecipient
from crmd.crm.contacts.phones import MAX_CHARS, normal_phone
from crmd.crm.database.types import utc_now
from crmd.crm.files.store import FileStore
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.imports.rows import Found, Rejected
from crmd.crm.imports.source import ImportSource, Rows
from crmd.crm.tabular.xlsx_source import TooManyReaders, XlsxReaders
from crmd.crm.thread_runner import ThreadRunner, run_in_thread
from crmd.errors import Permanent, RequestError, Snooze
from crmd.jobs import JobContext

CHUNK = 500
"""Recipients of one transaction: a few tens of milliseconds, in which other writers wait."""
MAX_VARIABLES_CHARS = 16_384
"""Of one recipient, as JSON."""
BUSY_SECONDS = 5.0
"""A campaign comes back after this where as many XLSX files as may be are being read."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some recipients, and where the next ones begin."""

    recipients: Sequence[NewRecipient]
    position: int


async def chunks(ctx: JobContext, payload: RunCampaign, position: int) -> AsyncGenerator[Chunk, None]:
    """The recipients from a position on. Raises Permanent for a file that cannot be read.

    Who does not take all of them has to close it.
    """
    wanted = await run_in_thread(lambda: payload.content.variables)  # its templates are compiled
    if payload.audience.file is None:
        thread = ThreadRunner()
        try:
            inline = payload.audience.recipients or []
            recipients = await thread.run(
                lambda: [_of_inline(one, payload.default_region, wanted) for one in inline]
            )
        finally:
            thread.close()
        if position < len(recipients):
            yield Chunk(recipients, len(recipients))
        return
    source = await _open(ctx, payload.audience.file, payload.default_region)
    thread = ThreadRunner()
    thread.interrupt = source.interrupt
    try:
        await _reading(thread, source.open)
        while (rows := await _reading(thread, lambda: source.next_rows(CHUNK))) is not None:
            if rows.last > position:
                yield Chunk(_of_rows(rows, wanted), rows.last)
    finally:
        thread.close(source.close)


async def _open(ctx: JobContext, file: str, region: str | None) -> ImportSource:
    try:
        stored = await ctx.get(FileStore).get(file)
    except RequestError as error:
        raise Permanent(f"the audience cannot be read: {error}", code="unknown_file") from None
    how = ImportContacts(file=file, default_region=region)
    return ImportSource(stored.path, how, utc_now(), ctx.get(XlsxReaders))


async def _reading(thread: ThreadRunner, call: Callable[[], T]) -> T:
    try:
        return await thread.run(call)
    except TooManyReaders as error:
        raise Snooze(str(error), after=BUSY_SECONDS) from None
    except ValueError as error:
        raise Permanent(f"the audience cannot be read: {error}", code="unreadable_file") from None


def _of_rows(rows: Rows, wanted: frozenset[str]) -> list[NewRecipient]:
    """Recipients, then those rows that have no usable number, as recipients that are skipped.

    Whom the campaign has already, from earlier runs too, the database knows.
    """
    found = [_of_row(row, wanted) for row in rows.results if isinstance(row, Found)]
    return [*found, *(_skipped(row) for row in rows.results if isinstance(row, Rejected))]


def _skipped(rejected: Rejected) -> NewRecipient:
    """The value is left out: the reason is shown to people, and counted."""
    place = f"{rejected.column}: " if rejected.column else ""
    return NewRecipient(f"row {rejected.number}", reason=f"{place}{rejected.reason}")


def _of_row(found: Found, wanted: frozenset[str]) -> NewRecipient:
    own = {"name": found.name, "email": found.email, "tags": found.tags or None}
    return _kept(found.phone, {**found.attributes, **own}, wanted)


def _of_inline(given: InlineRecipient, region: str | None, wanted: frozenset[str]) -> NewRecipient:
    try:
        phone = normal_phone(given.phone, region)
    except ValueError as error:
        return NewRecipient(given.phone[:MAX_CHARS], reason=f"phone: {error}")
    return _kept(phone, given.variables, wanted)


def _kept(phone: str, variables: dict[str, Any], wanted: frozenset[str]) -> NewRecipient:
    """With those variables that the content reads: a file may have a hundred columns and a million rows."""
    read = {name: value for name, value in variables.items() if name in wanted and value is not None}
    if len(json.dumps(read)) > MAX_VARIABLES_CHARS:
        return NewRecipient(phone, reason=f"its variables have over {MAX_VARIABLES_CHARS:,} characters")
    return NewRecipient(phone, read)
