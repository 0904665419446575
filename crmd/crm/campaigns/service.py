"""Shows, pauses, resumes and cancels campaigns, for HTTP and the command line."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.database.database import Database, database_bounded
from crmd.crm.database.types import rfc3339
from crmd.crm.messages import queries as messages
from crmd.engine.admin.control import Control
from crmd.engine.admin.views import NewJob
from crmd.engine.store.bounded import ACTION_SECONDS, READ_SECONDS, bounded
from crmd.errors import IllegalTransition, RecordsError, RequestError, StoreError, UnknownCampaign

_log = logging.getLogger(__name__)

LOOK_BACK = 10_000
"""Messages do not begin quite in their order. One that is overlooked finds out by itself."""
BATCH = 200
"""Messages taken back in one transaction, and deleted at the same time."""
WAKE_SECONDS = 60.0
"""A resumed campaign's job runs after this where it cannot be woken at once."""


class CampaignService:
    """Changes campaigns: their rows in the database, and their jobs in the store.

    Raises UnknownCampaign, IllegalTransition, RecordsUnavailable and StoreUnavailable.
    """

    def __init__(self, database: Database, control: Control) -> None:
        self._database = database
        self._control = control

    async def pause(self, campaign_id: int, reason: str | None) -> None:
        """Pauses: from the moment of its return no further message begins."""
        await self._suspend(campaign_id, CampaignStatus.PAUSED, reason)

    async def cancel(self, campaign_id: int, reason: str | None) -> None:
        """Ends a campaign for good: from the moment of its return no further message begins."""
        await self._suspend(campaign_id, CampaignStatus.CANCELLED, reason)

    async def resume(self, campaign_id: int) -> None:
        """Lets a paused campaign go on, by its job; one is added where there is none any more."""
        async with database_bounded(), self._database.reading() as s:
            campaign = _found(campaign_id, await campaigns.get(s, campaign_id))
        campaigns.check_move(campaign, CampaignStatus.RUNNING)
        key = campaign.job_key or f"campaign:{campaign_id}"
        # first of all, as a campaign that runs without a job would not go on
        # again, as a job that completed holds its key
        new = NewJob("run_campaign", campaign.definition, key, delay=WAKE_SECONDS, again=True)
        await bounded(self._control.enqueue("campaign", [new]), READ_SECONDS)
        await self._move(campaign_id, CampaignStatus.RUNNING, None)
        with suppress(RequestError, StoreError):
            await bounded(self._control.promote("campaign", key), READ_SECONDS)

    async def _suspend(self, campaign_id: int, to: CampaignStatus, reason: str | None) -> None:
        """Messages that wait are taken out of their queue, as each would cost a start there to find out.

        What cannot be taken back in time finds out by itself.
        """
        campaign = await self._move(campaign_id, to, reason)
        try:
            async with asyncio.timeout(ACTION_SECONDS):
                await self._recall(campaign)
        except (RecordsError, StoreError, TimeoutError) as error:
            _log.info("messages of campaign %d stay in their queue until they find out: %s", campaign_id, error)

    async def _move(self, campaign_id: int, to: CampaignStatus, reason: str | None) -> Campaign:
        async with database_bounded(), self._database.transaction() as s:
            campaign = _found(campaign_id, await campaigns.get(s, campaign_id, lock=True))
            if campaign.status == CampaignStatus.DONE and not await campaign_recipients.unsent(
                s, campaign_id, await _where_unsent_begin(s, campaign_id), 1
            ):
                raise IllegalTransition(f"campaign {campaign.name!r} is done and all its messages have begun")
            await campaigns.move(s, campaign, to, reason)
        return campaign

    async def _recall(self, campaign: Campaign) -> None:
        """First in the database: a message whose job goes on existing is held, or known by its `once`."""
        round_ = campaign.progress.round
        async with self._database.reading() as s:
            last = await _where_unsent_begin(s, campaign.id)
        while True:
            async with self._database.transaction() as s:
                now = await campaigns.get(s, campaign.id, lock=True)
                if now is None or now.status != campaign.status:
                    return  # it was resumed meanwhile
                batch = await campaign_recipients.unsent(s, campaign.id, last, BATCH)
                if not batch:
                    return
                await campaign_recipients.take_back(s, batch)
            last = batch[-1]
            keys = [campaign_recipients.key_of(campaign.id, recipient_id, round_) for recipient_id in batch]
            await asyncio.gather(*(self._delete(key) for key in keys))

    async def _delete(self, key: str) -> None:
        with suppress(RequestError):  # it runs, or is over
            await self._control.delete("message", key)


async def _where_unsent_begin(s: AsyncSession, campaign_id: int) -> int:
    """A recipient before those without a message: looking through a million who have one would take seconds."""
    return (await campaign_recipients.send_progress(s, campaign_id)).recipient_id - LOOK_BACK


def _found(campaign_id: int, campaign: Campaign | None) -> Campaign:
    if campaign is None:
        raise UnknownCampaign(f"there is no campaign {campaign_id}")
    return campaign


async def list_campaigns(
    database: Database, before_id: int | None, limit: int, status: str | None = None
) -> list[Campaign]:
    """Campaigns, the newest first, made before one. Raises RecordsUnavailable."""
    async with database_bounded(), database.reading() as s:
        return await campaigns.page(s, before_id, limit, status)


async def details(database: Database, campaign_id: int) -> dict[str, Any]:
    """A campaign as it is now, with its counts, as JSON. Raises UnknownCampaign and RecordsUnavailable."""
    async with database_bounded(), database.reading() as s:
        campaign = _found(campaign_id, await campaigns.get(s, campaign_id))
        counts = await campaign_recipients.counts(s, campaign_id)
        skipped = await campaign_recipients.skipped_reasons(s, campaign_id)
        by_status = await messages.campaign_counts(s, campaign_id)
    total = campaign.total
    return {
        **summary(campaign),
        "progress": round(1 - counts["pending"] / total, 4) if total else float(total == 0),
        "recipients": counts,
        "skipped": skipped,
        "messages": by_status,
        "definition": _without_recipients(campaign.definition),
    }


def summary(campaign: Campaign) -> dict[str, Any]:
    """A campaign without its counts, as JSON."""
    return {
        "id": campaign.id,
        "name": campaign.name,
        "status": campaign.status,
        "reason": campaign.reason,
        "total": campaign.total,
        "job": {"queue": "campaign", "key": campaign.job_key} if campaign.job_key else None,
        "created_at": rfc3339(campaign.created_at),
        "finished_at": rfc3339(campaign.finished_at),
    }


def _without_recipients(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without inline recipients, of which there may be a thousand."""
    audience = definition.get("audience", {})
    if "recipients" not in audience:
        return definition
    return {**definition, "audience": {"recipients": f"{len(audience['recipients'])} in the job's payload"}}
