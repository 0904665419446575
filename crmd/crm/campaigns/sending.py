"""Queues the messages of a campaign, page by page, and no more of them than the queue is about to send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.backpressure import AHEAD_SECONDS, Backpressure, times
from crmd.crm.campaigns.canary import decide
from crmd.crm.campaigns.messages import Filled, fill
from crmd.crm.campaigns.payloads import RunCampaign
from crmd.crm.campaigns.recipients import Recipient, RecipientState
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.thread_runner import run_in_thread
from crmd.errors import Permanent, Snooze
from crmd.jobs import ENQUEUE_MAX, JobContext


@dataclass(frozen=True, slots=True)
class _Room:
    """How many messages may be queued now."""

    count: int
    changes: dict[str, Any] = field(default_factory=dict)
    """What is to be noted in the campaign's progress, by its field."""
    reason: str = ""
    """Why there is no room."""
    look_seconds: float = 0.0
    """When there may be some."""
    stop: bool = False
    """Whether the campaign is to be stopped, for that reason."""


class Sending:
    """Of one run. `check` gives the campaign if it is to go on, and raises otherwise."""

    def __init__(
        self, ctx: JobContext, payload: RunCampaign, campaign_id: int, check: Callable[[Campaign | None], Campaign]
    ) -> None:
        self._ctx = ctx
        self._payload = payload
        self._id = campaign_id
        self._check = check
        self._database = ctx.get(Database)
        self._left: int | None = None

    async def queue_page(self) -> None:
        """Queues the next messages; there may be none left. Raises Snooze where enough wait, Permanent to stop."""
        now = utc_now()
        async with self._database.reading() as s:
            campaign = self._check(await campaigns.get(s, self._id))
            room = await self._room(s, campaign, now)
        if room.changes or room.stop:
            campaign = await self._note(room)
        if room.count <= 0:
            raise Snooze(room.reason, after=room.look_seconds)
        starts = self._starts(campaign, min(room.count, ENQUEUE_MAX), now)
        async with self._database.reading() as s:
            page = await campaign_recipients.pending(s, self._id, len(starts))
            left = self._left or (await campaign_recipients.counts(s, self._id))[RecipientState.PENDING]
        filled = await run_in_thread(lambda: fill(self._id, self._payload.content, page, self._payload.category))
        await self._enqueue(campaign, page, filled, starts)
        self._left = left - len(page)
        total = campaign.total or len(page)
        await self._ctx.progress(1 - self._left / total, f"{total - self._left:,} of {total:,} recipients")

    async def _room(self, s: AsyncSession, campaign: Campaign, now: datetime) -> _Room:
        progress, canary = campaign.progress, self._payload.canary
        changes: dict[str, Any] = {}
        if canary and not progress.canary_passed:
            queued = (await campaign_recipients.counts(s, self._id))[RecipientState.QUEUED]
            if queued < canary.count:
                return _Room(canary.count - queued)
            since = progress.canary_since or now
            by_status = await messages.campaign_counts(s, self._id)
            decision = decide(canary, queued, by_status, since, now)
            if decision.kind != "go on":
                stop = decision.kind == "stop"
                return _Room(0, {"canary_since": since}, decision.reason, decision.look_seconds, stop=stop)
            changes["canary_passed"] = True
        before = progress.backpressure or Backpressure.first(now)
        sent = await campaign_recipients.send_progress(s, self._id, before.message_id)
        seen = before.seen(sent, now)
        if seen is not progress.backpressure:
            changes["backpressure"] = seen
        reason = f"{sent.ahead:,} of its messages wait to be sent"
        return _Room(seen.ahead - sent.ahead, changes, reason, seen.look_seconds(sent, now))

    async def _note(self, room: _Room) -> Campaign:
        async with self._database.transaction() as s:
            campaign = self._check(await campaigns.get(s, self._id, lock=True))
            campaign.progress = replace(campaign.progress, **room.changes)
            if room.stop:
                await campaigns.move(s, campaign, CampaignStatus.STOPPED, room.reason)
        if room.stop:
            raise Permanent(f"the campaign is stopped: {room.reason}", code="campaign_stopped")
        return campaign

    def _starts(self, campaign: Campaign, count: int, now: datetime) -> list[datetime | None]:
        next_at = campaign.progress.next_at
        starts = times(count, next_at, self._payload.seconds_each, now)
        if not starts and next_at is not None:
            due = next_at - timedelta(seconds=AHEAD_SECONDS)
            raise Snooze(f"by its rate of {self._payload.rate} the next message is later", until=due)
        return starts

    async def _enqueue(
        self, campaign: Campaign, page: Sequence[Recipient], filled: Filled, starts: Sequence[datetime | None]
    ) -> None:
        """Puts the messages into the queue, then writes down that they are there.

        A run that is lost in between leaves them to the next one, which adds them under the same keys: a key that
        is taken adds nothing, and what was sent meanwhile is known by its `once`.
        """
        round_ = campaign.progress.round
        jobs, used = [], iter(starts)
        for recipient_id, message in filled.messages.items():
            key = campaign_recipients.key_of(self._id, recipient_id, round_)
            # Its key need not outlive the job: `once` knows what was sent, for good.
            options = {"key": key, "priority": self._payload.message_priority, "unique_for": 0}
            start = next(used)
            jobs.append((message, options if start is None else {**options, "at": start}))
        if jobs:
            await self._ctx.enqueue_many("message", "send_message", jobs)
        async with self._database.transaction() as s:
            now = await campaigns.get(s, self._id, lock=True)
            await campaign_recipients.mark_skipped(s, filled.skipped)
            # Where it was paused meanwhile the messages may be back already: then they stay to be queued again.
            if now is not None and now.status == CampaignStatus.RUNNING and now.progress.round == round_:
                await campaign_recipients.mark_queued(s, list(filled.messages))
                if jobs and starts[0] is not None:
                    last = starts[len(jobs) - 1] or utc_now()
                    next_at = last + timedelta(seconds=self._payload.seconds_each)
                    now.progress = replace(now.progress, next_at=next_at)
