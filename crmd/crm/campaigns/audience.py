"""Whom a campaign goes to: recipients of a file or of the payload, chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crmd.crm.campaigns.payloads import InlineRecipient, RunCampaign
from crmd.crm.campaigns.recipients import NewRecipient
from crmd.crm.contacts.phones import MAX_CHARS, normal_phone
from crmd.crm.database.types import utc_now
from crmd.crm.files.store import FileStore
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.imports.report import Report
from crmd.crm.imports.rows import Found, Rejected
from crmd.crm.imports.source import ImportSource
from crmd.crm.thread_runner import OwnThread, in_own_thread
from crmd.errors import Permanent, RequestError
from crmd.jobs import JobContext

CHUNK = 500
"""Recipients of one transaction: a few tens of milliseconds, in which other writers wait."""
MAX_VARIABLES_CHARS = 16_384
"""Of one recipient, as JSON."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some recipients, and where the next ones begin."""

    recipients: Sequence[NewRecipient]
    position: int


async def chunks(ctx: JobContext, payload: RunCampaign, position: int) -> AsyncGenerator[Chunk, None]:
    """The recipients from a position on. Raises Permanent for a file that cannot be read.

    Who does not take all of them has to close it.
    """
    wanted = await in_own_thread(lambda: payload.content.variables)  # its templates are compiled
    if payload.audience.file is None:
        thread = OwnThread()
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
    source = await _open(ctx, payload.audience.file, payload.default_region, wanted)
    thread = OwnThread()
    thread.interrupt = source.interrupt
    try:
        await _reading(thread, source.open)
        while (chunk := await _reading(thread, lambda: source.next_recipients(CHUNK))) is not None:
            if chunk.position > position:
                yield chunk
    finally:
        thread.close(source.close)


class _RecipientSource(ImportSource):
    """A file of recipients: read as an import reads it, whose rows are kept for this campaign only."""

    def __init__(self, path: Path, payload: ImportContacts, wanted: frozenset[str]) -> None:
        super().__init__(path, payload, utc_now())
        self._wanted = wanted
        self.report.close()
        self.report = self._refused = _Refused()

    def next_recipients(self, size: int) -> Chunk | None:
        """The next rows; None at the end. Raises ValueError."""
        chunk = self.next_chunk(size)
        if chunk is None:
            return None
        refused = self._refused.take()
        return Chunk([*(_of_row(found, self._wanted) for found in chunk.found), *refused], chunk.last)

    def _once(self, found: Found) -> Found:
        return found  # the database knows who is there already, from earlier runs too


class _Refused(Report):
    """Rows without a usable number, as recipients that are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[NewRecipient] = []

    def add(self, rejected: Rejected) -> None:
        """Notes one row. The value is left out: the reason is shown to people, and counted."""
        place = f"{rejected.column}: " if rejected.column else ""
        self._rows.append(NewRecipient(f"row {rejected.number}", reason=f"{place}{rejected.reason}"))

    def take(self) -> list[NewRecipient]:
        """The rows since the last time."""
        rows, self._rows = self._rows, []
        return rows


async def _open(ctx: JobContext, file: str, region: str | None, wanted: frozenset[str]) -> _RecipientSource:
    try:
        stored = await ctx.get(FileStore).get(file)
    except RequestError as error:
        raise Permanent(f"the audience cannot be read: {error}", code="unknown_file") from None
    return _RecipientSource(stored.path, ImportContacts(file=file, default_region=region), wanted)


async def _reading(thread: OwnThread, call: Any) -> Any:
    try:
        return await thread.run(call)
    except ValueError as error:
        raise Permanent(f"the audience cannot be read: {error}", code="unreadable_file") from None


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
