"""Queues the messages of a campaign, page by page, and no more of them than the queue is about to send."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.payloads import Canary, Content, RunCampaign
from crmd.crm.campaigns.progress import AHEAD_SECONDS, Backpressure, times
from crmd.crm.campaigns.recipients import Recipient, RecipientState, once_of
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.messages.queries import Status
from crmd.crm.templating import templates
from crmd.crm.templating.errors import TemplateError
from crmd.crm.thread_runner import run_in_thread
from crmd.errors import Permanent, Snooze, mistakes_in
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


# From a campaign's recipient to the message that it gets, or to the reason why it gets none


OPTED_OUT = "the contact has opted out"
MARKETING_STOPPED = "the contact has stopped marketing messages"
REPEATED = "another number of the same person is a recipient"


@dataclass(slots=True)
class Filled:
    """What became of a page of recipients."""

    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Payloads of `send_message`, by the recipient's id."""
    skipped: dict[int, str] = field(default_factory=dict)
    """Why there is none, by the recipient's id. Texts of few kinds, without personal data."""


def fill(
    campaign_id: int, content: Content, recipients: Sequence[Recipient], category: str = "marketing"
) -> Filled:
    """Fills the content in for each recipient: some 50 µs each, so that a page of them belongs in a thread."""
    filled = Filled()
    for recipient in recipients:
        reason = _unwanted(recipient, category)
        if reason:
            filled.skipped[recipient.id] = reason
            continue
        try:
            filled.messages[recipient.id] = _message(campaign_id, content, recipient, category)
        except TemplateError as error:
            filled.skipped[recipient.id] = str(error)
        except ValidationError as error:
            filled.skipped[recipient.id] = _reason(error)
    return filled


def _unwanted(recipient: Recipient, category: str) -> str | None:
    person = recipient.person
    if person is not None and person.opted_out:
        return OPTED_OUT
    if person is not None and category == "marketing" and person.stopped_marketing:
        return MARKETING_STOPPED
    return REPEATED if recipient.repeats else None


def _message(campaign_id: int, content: Content, recipient: Recipient, category: str) -> dict[str, Any]:
    message = {
        **_filled(content.message, _variables(recipient)),
        "to": recipient.phone,
        "once": once_of(campaign_id, recipient.id),
        "campaign": campaign_id,
    }
    if category != "marketing":  # what a campaign's message is by itself: daemons of 0.1.0 do not know the field
        message["category"] = category
    SendMessage.model_validate(message)
    return message


def _variables(recipient: Recipient) -> dict[str, Any]:
    """The contact's, and above them the recipient's own."""
    contact = recipient.contact
    known = templates.contact_variables(contact, recipient.tags) if contact else {}
    own = {name: value for name, value in recipient.variables.items() if value is not None}
    return {**known, **own, "phone": recipient.phone}


def _filled(value: Any, variables: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return templates.render(value, variables)
    if isinstance(value, dict):
        return {name: _filled(item, variables) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    return value


def _reason(error: ValidationError) -> str:
    first = mistakes_in(error)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"


# Whether the first few messages of a campaign went well enough to send the others


LOOK_SECONDS = 5.0
_GOOD = (Status.DELIVERED, Status.READ)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why."""

    kind: Literal["go on", "wait", "stop"]
    reason: str
    look_seconds: float = LOOK_SECONDS
    """When to look again, at the latest."""


def decide(canary: Canary, queued: int, by_status: Mapping[str, int], since: datetime, now: datetime) -> Decision:
    """Looks at the messages of the first few, all of which were queued at `since`.

    It goes on once each of them is known to be delivered or failed, or the time is up. It stops as soon as too
    many failed, whatever becomes of the rest.
    """
    failed = by_status.get(Status.FAILED, 0)
    settled = failed + sum(by_status.get(status, 0) for status in _GOOD)
    told = f"{failed} of the first {queued} messages failed"
    if failed > canary.max_failure_share * queued:
        return Decision("stop", f"{told}, more than {canary.max_failure_share:.0%}")
    until = since + timedelta(seconds=canary.wait_seconds)
    if settled >= queued or now >= until:
        return Decision("go on", told)
    left = (until - now).total_seconds()
    return Decision(
        "wait", f"{queued - settled} of the first {queued} messages are under way", min(left, LOOK_SECONDS)
    )
