"""Queues the messages of a campaign, page by page, and no more of them than the queue is about to send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.backpressure import AHEAD_SECONDS, Pace, times
from crmd.crm.campaigns.canary import decide
from crmd.crm.campaigns.messages import Filled, fill
from crmd.crm.campaigns.payloads import RunCampaign
from crmd.crm.campaigns.recipients import Recipient, RecipientState
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.thread_runner import in_own_thread
from crmd.errors import Permanent, Snooze
from crmd.jobs import ENQUEUE_MAX, JobContext


@dataclass(frozen=True, slots=True)
class _Room:
    """How many messages may be queued now."""

    count: int
    steps: dict[str, Any] = field(default_factory=dict)
    """What is to be noted in the campaign's cursor."""
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
        if room.steps or room.stop:
            campaign = await self._note(room)
        if room.count <= 0:
            raise Snooze(room.reason, after=room.look_seconds)
        starts = self._starts(campaign, min(room.count, ENQUEUE_MAX), now)
        async with self._database.reading() as s:
            page = await campaign_recipients.pending(s, self._id, len(starts))
            left = self._left or (await campaign_recipients.counts(s, self._id))[RecipientState.PENDING]
        filled = await in_own_thread(lambda: fill(self._id, self._payload.content, page, self._payload.category))
        await self._enqueue(campaign, page, filled, starts)
        self._left = left - len(page)
        total = campaign.total or len(page)
        await self._ctx.progress(1 - self._left / total, f"{total - self._left:,} of {total:,} recipients")

    async def _room(self, s: AsyncSession, campaign: Campaign, now: datetime) -> _Room:
        steps: dict[str, Any] = {}
        canary = self._payload.canary
        if canary and campaign.cursor.get("canary") != campaigns.PASSED:
            queued = (await campaign_recipients.counts(s, self._id))[RecipientState.QUEUED]
            if queued < canary.count:
                return _Room(canary.count - queued)
            since = _instant(campaign.cursor, "canary") or now
            by_status = await messages.campaign_counts(s, self._id)
            decision = decide(canary, queued, by_status, since, now)
            if decision.kind != "go on":
                noted = {"canary": since.isoformat()}
                return _Room(0, noted, decision.reason, decision.look_seconds, stop=decision.kind == "stop")
            steps["canary"] = campaigns.PASSED
        pace = Pace.of_cursor(campaign.cursor, now)
        front = await campaign_recipients.front(s, self._id, pace.message_id)
        seen = pace.seen(front, now)
        if seen is not pace or "pace" not in campaign.cursor:
            steps["pace"] = seen.to_cursor()
        reason = f"{front.ahead:,} of its messages wait to be sent"
        return _Room(seen.ahead - front.ahead, steps, reason, seen.look_seconds(front, now))

    async def _note(self, room: _Room) -> Campaign:
        async with self._database.transaction() as s:
            campaign = self._check(await campaigns.get(s, self._id, lock=True))
            campaigns.advance(campaign, **room.steps)
            if room.stop:
                await campaigns.move(s, campaign, CampaignStatus.STOPPED, room.reason)
        if room.stop:
            raise Permanent(f"the campaign is stopped: {room.reason}", code="campaign_stopped")
        return campaign

    def _starts(self, campaign: Campaign, count: int, now: datetime) -> list[datetime | None]:
        next_at = _instant(campaign.cursor, "next_at")
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
        turn = campaign.cursor.get("round", 0)
        jobs, used = [], iter(starts)
        for recipient_id, message in filled.messages.items():
            key = campaign_recipients.key_of(self._id, recipient_id, turn)
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
            if now is not None and now.status == CampaignStatus.RUNNING and now.cursor.get("round", 0) == turn:
                await campaign_recipients.mark_queued(s, list(filled.messages))
                if jobs and starts[0] is not None:
                    last = starts[len(jobs) - 1] or utc_now()
                    next_at = last + timedelta(seconds=self._payload.seconds_each)
                    campaigns.advance(now, next_at=next_at.isoformat())


def _instant(cursor: dict[str, Any], name: str) -> datetime | None:
    kept = cursor.get(name)
    return datetime.fromisoformat(kept) if kept else None
