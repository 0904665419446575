"""Queue `webhook`: processes events of Meta's webhook, any number of times and in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

from crmd.crm.consent.keywords import ConsentKeywords, Meaning
from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.flows.inbound import go_on, inbound, move
from crmd.crm.flows.repository import Position
from crmd.crm.inbound.payloads import Event, Inbound, MarketingChoice, WhatsAppEvent, read_event
from crmd.crm.messages import queries as messages
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.messages.statuses import Applied, StatusUpdate
from crmd.crm.messages.tables import Message
from crmd.crm.messages.unknown_jobs import Settled, UnknownJobs
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.crm.whatsapp.errors import USER_STOPPED_MARKETING
from crmd.errors import Permanent, RecordsUnavailable, Snooze, StoreError
from crmd.jobs import JobContext, job

UNAVAILABLE_SECONDS = 5.0
"""An event comes back after this while the database is unavailable."""
MISTAKES_TOLD = 5


class EventTaken(TypedDict):
    """What an event changed."""

    statuses: int
    """Statuses that moved a message on."""
    messages: int
    """Inbound messages that were new."""
    repeated: int
    """What was known before, or came too late to matter."""
    foreign: int
    """Statuses of messages that are not in the database: another program sent them."""
    choices: NotRequired[int]
    """Choices for or against marketing; left out where there were none."""
    ignored: dict[str, int]
    """What crmd has no use for, by kind."""


@job(queue="webhook", payload=WhatsAppEvent)
async def whatsapp_event(ctx: JobContext, payload: WhatsAppEvent) -> EventTaken:
    """Applies statuses, records inbound messages, heeds opt-out words, and lets flows see each message."""
    event = read_event(payload, ctx.get(WhatsAppClient).phone_number_id)
    taken = EventTaken(statuses=0, messages=0, repeated=0, foreign=0, ignored=dict(event.ignored))
    try:
        await _take_statuses(ctx, event.statuses, taken)
        await _take_choices(ctx, event.choices, taken)
        for message in event.messages:
            await _take_message(ctx, message, taken)
    except RecordsUnavailable as error:
        raise Snooze(f"the event waits: {error}", after=UNAVAILABLE_SECONDS) from None
    words = ctx.get(ConsentKeywords) if event.numberless else None
    for wamid, said in event.numberless:
        if words is not None and words.meaning(*said) == "out":
            ctx.log.warning(
                "an opt-out came without a phone number and opts nobody out; find its sender by the message's id",
                extra={"fields": {"wamid": wamid}},
            )
    if event.ignored:
        ctx.log.info("parts of an event were ignored", extra={"fields": {"ignored": dict(event.ignored)}})
    if event.malformed:
        counted = {"malformed": len(event.malformed), "places": event.malformed[:MISTAKES_TOLD]}
        ctx.log.warning("parts of an event cannot be read and were skipped", extra={"fields": counted})
        raise Permanent(_mistakes(event), code="malformed")
    return taken


async def _take_statuses(ctx: JobContext, updates: list[StatusUpdate], taken: EventTaken) -> None:
    for update, applied in zip(updates, await ctx.get(MessageRepository).apply_statuses(updates), strict=True):
        if applied is None:
            taken["foreign"] += 1
        elif applied.before is applied.after:
            taken["repeated"] += 1
        else:
            taken["statuses"] += 1
        if applied is not None and applied.settled:
            await _settle(ctx, update, applied)
        if update.error_code == USER_STOPPED_MARKETING:
            await _stop_marketing(ctx, update, applied)


async def _stop_marketing(ctx: JobContext, update: StatusUpdate, applied: Applied | None) -> None:
    """Also where another program sent the message, as far as WhatsApp names the person."""
    phone = applied.phone if applied else update.recipient
    if phone:
        await ctx.get(MessageRepository).stopped_marketing(phone, update.at)


async def _take_choices(ctx: JobContext, choices: Sequence[MarketingChoice], taken: EventTaken) -> None:
    """What people chose about marketing by WhatsApp's own button."""
    for choice in choices:
        async with ctx.get(Database).transaction() as s:
            decide = contacts.resume_marketing if choice.wanted else contacts.stop_marketing
            await decide(s, choice.phone, choice.at)
        taken["choices"] = taken.get("choices", 0) + 1


async def _settle(ctx: JobContext, update: StatusUpdate, applied: Applied) -> None:
    """The message's job ended as unknown: now it is known how."""
    if applied.job_queue is None or applied.job_key is None or applied.job_enqueued_at is None:
        return
    sent = {"message_id": update.wamid, "recipient": applied.phone.removeprefix("+"), "status": update.status}
    error = f"WhatsApp error {update.error_code or 'without a code'}: {update.error or 'no details'}"
    settled = Settled(
        applied.job_queue,
        applied.job_key,
        applied.job_enqueued_at,
        result=sent if update.status != "failed" else None,
        error=error if update.status == "failed" else None,
    )
    try:
        await ctx.get(UnknownJobs).settle(settled)
    except StoreError as error:
        # The daemon compares its unknown jobs with the database now and then.
        ctx.log.warning("job %s is settled later: %s", settled.key, error)


async def _take_message(ctx: JobContext, received: Inbound, taken: EventTaken) -> None:
    moved = await _record(ctx, received)
    taken["repeated" if moved is None else "messages"] += 1
    if moved is not None:
        await go_on(ctx, moved)
    elif ctx.attempt > 1 or ctx.delivery > 1:
        # An earlier run of this job may have ended before it had added the jobs of the flows that it moved.
        recorded = await _recorded(ctx, received)
        if recorded is not None:
            await inbound(ctx, *recorded, is_answer=False)


async def _record(ctx: JobContext, received: Inbound) -> list[Position] | None:
    """Writes the message down, what it means for its contact, and what it does to flows, all or nothing of it.

    Returns the runs that have to go on; None where the message was written down before.
    """
    meaning = _meaning(ctx, received)
    async with ctx.get(Database).transaction() as s:
        await people.lock_behind(s, received.phone)
        contact = await contacts.ensure(s, received.phone, received.name)
        message = await messages.record_inbound(
            s,
            contact,
            wamid=received.wamid,
            type=received.type,
            text=received.text,
            at=received.at,
            now=utc_now(),
            phone=received.phone,
            opens_window=received.opens_window,
        )
        if message is None:
            return None
        match meaning:
            case "out":
                await contacts.opt_out(s, received.phone, received.at, received.wamid)
            case "in":
                await contacts.opt_in(s, received.phone, received.at, received.wamid)
        is_answer = received.is_answer(utc_now()) and meaning != "out"
        return await move(s, contact, message, is_answer=is_answer)


def _meaning(ctx: JobContext, received: Inbound) -> Meaning | None:
    """What a message to the business alone asks for: in a group a word may be meant for others."""
    return ctx.get(ConsentKeywords).meaning(*received.said) if received.private else None


async def _recorded(ctx: JobContext, received: Inbound) -> tuple[Contact, Message] | None:
    async with ctx.get(Database).reading() as s:
        contact = await contacts.by_phone(s, received.phone)
        message = await messages.by_wamid(s, received.wamid)
    return (contact, message) if contact and message else None


def _mistakes(event: Event) -> str:
    shown = "; ".join(event.malformed[:MISTAKES_TOLD])
    more = len(event.malformed) - MISTAKES_TOLD
    rest = f"; and {more} more" if more > 0 else ""
    return f"parts of the event cannot be read: {shown}{rest}. All else was taken in"
