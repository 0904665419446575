"""Queue `campaign`: sends one message to many contacts, through the queue `message`.

All that a run knows is in the database: who gets a message (one row for each recipient), how far the audience was
read, and whose message is queued. A run that was lost, or a second one, goes on there. Two marks keep a message
from going out twice: its job's key while that waits, and `once` in the message's own row for ever.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypedDict, TypeVar

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.payloads import InlineRecipient, RunCampaign
from crmd.crm.campaigns.recipients import NewRecipient, RecipientState
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.sending import Sending
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts.filters import ContactFilter, matching
from crmd.crm.contacts.phones import MAX_CHARS, normal_phone
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.files.store import FileStore
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.imports.rows import Found, Rejected
from crmd.crm.imports.source import ImportSource, Rows
from crmd.crm.tabular.xlsx_source import TooManyReaders, XlsxReaders
from crmd.crm.thread_runner import ThreadRunner, run_in_thread
from crmd.errors import Permanent, RecordsError, RequestError, Snooze, StoreError
from crmd.jobs import JobContext, job

CONTACTS_CHUNK = 5_000
"""Contacts that become recipients in one transaction, within the database: some 50 ms."""
UNAVAILABLE_SECONDS = 10.0
"""A campaign comes back after this where the database or the store takes nothing."""
PAUSED_SECONDS = 60.0
"""A paused campaign looks again after this; being resumed wakes it at once."""
RESERVE_SECONDS = 10.0
"""Left of the timeout when a run gives its place up, to go on in a later one."""


class CampaignRun(TypedDict):
    """How far the campaign is."""

    campaign: int
    """Its id."""
    status: str
    """`done`: all its messages are queued; or `cancelled`."""
    total: int
    """Recipients."""
    queued: int
    skipped: int


@job(queue="campaign", payload=RunCampaign)
async def run_campaign(ctx: JobContext, payload: RunCampaign) -> CampaignRun:
    """Queues a message for each recipient, once, and ends when all are queued."""
    try:
        return await _Campaign(ctx, payload).run()
    except (RecordsError, StoreError) as error:
        raise Snooze(
            f"the campaign waits, and then goes on where it was: {error}", after=UNAVAILABLE_SECONDS
        ) from None


class _Over(Exception):
    """The campaign was cancelled, or another run finished it."""


class _Campaign:
    """One run."""

    def __init__(self, ctx: JobContext, payload: RunCampaign) -> None:
        self._ctx = ctx
        self._payload = payload
        self._database = ctx.get(Database)
        self._id = 0

    async def run(self) -> CampaignRun:
        try:
            campaign = await self._begin()
            if campaign.total is None:
                await self._read_audience(campaign.progress.audience)
            sending = Sending(self._ctx, self._payload, self._id, self._check)
            while not await self._finish():
                await sending.queue_page()
        except _Over:
            pass
        return await self._result()

    async def _begin(self) -> Campaign:
        name, definition = self._payload.name, self._payload.definition
        async with self._database.transaction() as s:
            campaign = await campaigns.create_or_get(s, name, definition, self._ctx.key)
            if not campaigns.is_same(campaign, definition):
                raise Permanent(
                    f"campaign {campaign.id} has the name {name!r} and another definition; take another name",
                    code="campaign_differs",
                )
            self._id = campaign.id
            if campaign.status in (CampaignStatus.RUNNING, CampaignStatus.PAUSED):
                campaign.job_key = self._ctx.key
        return self._check(campaign)

    def _check(self, campaign: Campaign | None) -> Campaign:
        """The campaign, if this run is to go on."""
        if campaign is None or campaign.status in (CampaignStatus.CANCELLED, CampaignStatus.DONE):
            raise _Over
        if campaign.status == CampaignStatus.STOPPED:
            raise Permanent(f"the campaign was stopped: {campaign.reason}", code="campaign_stopped")
        if campaign.status == CampaignStatus.PAUSED:
            raise Snooze("the campaign is paused", after=PAUSED_SECONDS)
        remaining = self._ctx.remaining_seconds
        if remaining is not None and remaining < RESERVE_SECONDS:
            raise Snooze("the timeout is near; the campaign goes on in a next run", after=0.0)
        return campaign

    async def _read_audience(self, position: int) -> None:
        """Makes a row of each recipient; `position` is how far an earlier run came."""
        wanted = self._payload.audience.filter
        if wanted is not None:
            await self._read_contacts(wanted, position)
        else:
            async with aclosing(chunks(self._ctx, self._payload, position)) as found:
                async for chunk in found:
                    await self._add(chunk)
        async with self._database.transaction() as s:
            campaign = self._check(await campaigns.get(s, self._id, lock=True))
            campaign.total = sum((await campaign_recipients.counts(s, self._id)).values())

    async def _add(self, chunk: Chunk) -> None:
        async with self._database.transaction() as s:
            campaign = self._check(await campaigns.get(s, self._id, lock=True))
            await campaign_recipients.add(s, self._id, chunk.recipients)
            campaign.progress = replace(campaign.progress, audience=chunk.position)
        await self._ctx.progress(0.0, f"the audience is read up to {chunk.position:,}")

    async def _read_contacts(self, wanted: ContactFilter, position: int) -> None:
        contacts, last = matching(wanted), position
        while True:
            async with self._database.transaction() as s:
                campaign = self._check(await campaigns.get(s, self._id, lock=True))
                found = await campaign_recipients.add_contacts(s, self._id, contacts, last, CONTACTS_CHUNK)
                if found is None:
                    return
                last = found
                campaign.progress = replace(campaign.progress, audience=last)
            await self._ctx.progress(0.0, "the audience is read")

    async def _finish(self) -> bool:
        """Whether all messages are queued; then the campaign is done."""
        async with self._database.reading() as s:
            if await campaign_recipients.pending(s, self._id, 1):
                return False
        async with self._database.transaction() as s:
            campaign = self._check(await campaigns.get(s, self._id, lock=True))
            if await campaign_recipients.pending(s, self._id, 1):
                return False
            await campaigns.move(s, campaign, CampaignStatus.DONE)
        return True

    async def _result(self) -> CampaignRun:
        async with self._database.reading() as s:
            campaign = await campaigns.get(s, self._id)
            counts = await campaign_recipients.counts(s, self._id)
        return CampaignRun(
            campaign=self._id,
            status=campaign.status if campaign else CampaignStatus.CANCELLED.value,
            total=sum(counts.values()),
            queued=counts[RecipientState.QUEUED],
            skipped=counts[RecipientState.SKIPPED],
        )


# Whom a campaign goes to: recipients of a file or of the payload, chunk by chunk


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
