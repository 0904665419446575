"""Queue `message`: sends one WhatsApp message."""

from __future__ import annotations

import asyncio
from typing import TypedDict

from crmd.crm.database.types import utc_now
from crmd.crm.messages.begin import Admission
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.messages.policy import signal_for
from crmd.crm.messages.recording import MessageRecord
from crmd.crm.outbound.adaptive_rate import SERVICE
from crmd.crm.whatsapp.client import SEND_SECONDS, Accepted, WhatsAppClient
from crmd.crm.whatsapp.send_rate import Place, SendLine
from crmd.errors import RateLimited, Snooze
from crmd.jobs import JobContext, job

UNCONFIGURED_SECONDS = 60.0
MARK_READ_SECONDS = 5.0
PATIENCE_SECONDS = 15.0
"""How long a job waits to be among the next that are sent."""
CROWDED_SECONDS = 5.0
"""A job that waited longer comes back after this."""
# Left of the job's own timeout for writing down what became of the request.
_RESERVE_SECONDS = 1.0


class MessageSent(TypedDict):
    """What WhatsApp said when it took the message; delivery is told later by its webhooks."""

    message_id: str
    """WhatsApp's id; empty where a person told that the message was sent."""
    recipient: str
    """The recipient's WhatsApp id, which may differ from the number sent to."""
    status: str
    """`accepted`, or `held_for_quality_assessment`: the template is being tested on fewer recipients first.

    Of a message that an earlier run sent: how it stands in the database. `held`: nothing was sent, as its campaign
    is paused; when that goes on it queues the message again.
    """


@job(queue="message", payload=SendMessage)
async def send_message(ctx: JobContext, payload: SendMessage) -> MessageSent:
    """Sends the message once. A lost answer makes the job unknown, as WhatsApp does not recognise a repeat."""
    client, record = ctx.get(WhatsAppClient), MessageRecord(ctx, payload)
    _check_ready(client, payload)
    if payload.mark_read:
        await _mark_read(ctx, client, payload.mark_read)
    async with await _place(ctx, client.line) as place:
        begun = await record.begin()
        if begun.admission is Admission.HELD:
            return MessageSent(message_id="", recipient=payload.digits, status=begun.admission.value)
        if begun.admission is Admission.REPEAT:
            return MessageSent(message_id=begun.wamid or "", recipient=payload.digits, status=begun.status.value)
        try:
            slot_at = await place.slot()
            await ctx.effect_begun()
        except BaseException as error:  # a cancellation too: nothing was sent, and the row must not say otherwise
            await record.not_begun(error)
            raise
    begun_at = utc_now()
    try:
        outcome = await client.send(
            payload.request(),
            callback_data=ctx.key,
            slot_at=slot_at,
            timeout_seconds=_timeout_seconds(ctx.remaining_seconds),
        )
    except asyncio.CancelledError:
        await record.interrupted()
        raise
    if not isinstance(outcome, Accepted):
        signal = signal_for(outcome, ctx, payload, client.adaptive_rate)
        await record.ended(outcome, signal, begun_at)
        raise signal
    client.adaptive_rate.answered()
    client.adaptive_rate.free(payload.digits)
    if payload.subject:
        client.adaptive_rate.free(payload.subject)
    await record.accepted(outcome.message_id, outcome.recipient)
    return MessageSent(message_id=outcome.message_id, recipient=outcome.recipient, status=outcome.status)


def _check_ready(client: WhatsAppClient, payload: SendMessage) -> None:
    """Raises where it is known beforehand that the message must wait."""
    if not client.configured:
        raise Snooze(
            "whatsapp.phone_number_id and whatsapp.token are not set; the job waits until they are",
            after=UNCONFIGURED_SECONDS,
        )
    seconds = client.adaptive_rate.remaining_seconds(SERVICE)
    if seconds:
        raise RateLimited("WhatsApp failed several times in a row; sending waits", after=seconds)
    if payload.subject:
        seconds = client.adaptive_rate.remaining_seconds(payload.subject)
        if seconds:
            raise Snooze(f"{payload.subject} cannot be sent now; the job waits", after=seconds)


async def _place(ctx: JobContext, line: SendLine) -> Place:
    """A place among those that are sent next. What waits too long for one is given back: others may be faster."""
    remaining = ctx.remaining_seconds
    patience = PATIENCE_SECONDS if remaining is None else min(PATIENCE_SECONDS, remaining / 2)
    try:
        async with asyncio.timeout(patience):
            return await line.place()
    except TimeoutError:
        reason = "more messages wait than the number's rate lets through; the job waits"
        raise RateLimited(reason, after=CROWDED_SECONDS, scope="key") from None


async def _mark_read(ctx: JobContext, client: WhatsAppClient, message_id: str) -> None:
    """Before the row is written: it may be repeated, and the answer goes out whether it works or not."""
    failure = await client.mark_read(message_id, timeout_seconds=MARK_READ_SECONDS)
    if failure:
        ctx.log.warning("an inbound message could not be marked as read: %s", failure)


def _timeout_seconds(remaining_seconds: float | None) -> float:
    if remaining_seconds is None:
        return SEND_SECONDS
    return min(SEND_SECONDS, max(_RESERVE_SECONDS, remaining_seconds - _RESERVE_SECONDS))
