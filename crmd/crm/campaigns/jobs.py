"""Queue `campaign`: sends one message to many contacts, through the queue `message`.

All that a run knows is in the database: who gets a message (one row for each recipient), how far the audience was
read, and whose message is queued. A run that was lost, or a second one, goes on there. Two marks keep a message
from going out twice: its job's key while that waits, and `once` in the message's own row for ever.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TypedDict

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.audience import Chunk, chunks
from crmd.crm.campaigns.payloads import RunCampaign
from crmd.crm.campaigns.recipients import RecipientState
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.sending import Sending
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts.filters import ContactFilter, matching
from crmd.crm.database.database import Database
from crmd.errors import Permanent, RecordsError, Snooze, StoreError
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
