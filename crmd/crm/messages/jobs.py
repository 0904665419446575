"""Queue `message`: sends one WhatsApp message."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypedDict

from crmd.crm.contacts.phones import is_wa_id, masked
from crmd.crm.database.types import utc_now
from crmd.crm.messages.begin import CAMPAIGN_CANCELLED, Admission, MessageStart, Outgoing
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.messages.policy import signal_for
from crmd.crm.messages.queries import MARKETING_STOPPED, OPTED_OUT
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.outbound.adaptive_rate import SERVICE
from crmd.crm.outbound.http import request_seconds
from crmd.crm.whatsapp.client import SEND_SECONDS, Accepted, Foreign, Refused, SendOutcome, WhatsAppClient
from crmd.crm.whatsapp.errors import USER_STOPPED_MARKETING
from crmd.crm.whatsapp.send_rate import Place, SendLine
from crmd.errors import JobSignal, OutcomeUnknown, Permanent, RateLimited, RecordsError, Retry, Snooze
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
            timeout_seconds=request_seconds(ctx, SEND_SECONDS, _RESERVE_SECONDS),
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


# The row of the message that a job sends: written before the send, and again once its outcome is known


ONCE_DIFFERS = "once_differs"
"""Error code of a message whose `once` was used for somebody else."""
UNAVAILABLE_SECONDS = 10.0
"""A job whose row cannot be written comes back after this."""
BUSY_SECONDS = 15.0
"""A job whose message another one is sending looks again after this."""
PAUSED_SECONDS = 15.0
"""A job whose campaign is paused, and did not make it, looks again after this."""
WRITE_SECONDS = 20.0
"""How long to keep trying to write the outcome of a send, if the job's own timeout allows."""
TRY_AGAIN_SECONDS = 1.0
BRIEF_SECONDS = 0.5
"""For a write of a job that is cancelled: it has one second to end."""


class MessageRecord:
    """One message's row, as its job sees it."""

    def __init__(self, ctx: JobContext, payload: SendMessage) -> None:
        self._ctx = ctx
        self._payload = payload
        self._repository = ctx.get(MessageRepository)
        self._id = 0

    async def begin(self) -> MessageStart:
        """Writes the row. Returns where the message is to be sent, was sent or is held; else raises a signal."""
        beginning = asyncio.ensure_future(self._repository.begin(self._outgoing()))
        try:
            begun = await asyncio.shield(beginning)
        except RecordsError as error:
            raise Snooze(f"the message waits and was not sent: {error}", after=UNAVAILABLE_SECONDS) from None
        except asyncio.CancelledError:
            await self._take_back(beginning)
            raise
        self._id = begun.message_id
        match begun.admission:
            case Admission.UNKNOWN:
                raise OutcomeUnknown(
                    f"an earlier run may have sent the message (record {begun.message_id}): "
                    "its status webhook settles it, or a person"
                )
            case Admission.BUSY:
                raise Snooze("another job with the same `once` is sending the message", after=BUSY_SECONDS)
            case Admission.OTHER_RECIPIENT:
                raise Permanent(
                    f"`once` {self._payload.once!r} was used for a message to {masked(begun.phone)}, and this one "
                    f"is to {masked(self._outgoing().phone)}; use a different `once` for each recipient",
                    code=ONCE_DIFFERS,
                )
            case Admission.OPTED_OUT:
                raise Permanent("the contact has opted out and gets no messages", code=OPTED_OUT)
            case Admission.MARKETING_STOPPED:
                raise Permanent("the contact has stopped marketing messages", code=MARKETING_STOPPED)
            case Admission.PAUSED:
                raise Snooze("the message's campaign is paused", after=PAUSED_SECONDS)
            case Admission.CANCELLED:
                raise Permanent("the message's campaign was cancelled or stopped", code=CAMPAIGN_CANCELLED)
            case Admission.SEND | Admission.REPEAT | Admission.HELD:
                return begun

    async def not_begun(self, error: BaseException) -> None:
        """The request was not made."""
        text = f"{type(error).__name__}: {error}"
        await self._briefly(lambda: self._repository.retrying(self._id, None, text))

    async def interrupted(self) -> None:
        """The job is cancelled while the request is under way."""
        await self._briefly(
            lambda: self._repository.unknown(self._id, "its job was stopped while the message was sent")
        )

    async def accepted(self, wamid: str, recipient: str) -> None:
        """WhatsApp took the message; `recipient` is the recipient's WhatsApp id."""
        phone = self._outgoing().phone
        wa_phone = f"+{recipient}" if is_wa_id(recipient) else ""
        await self._surely(lambda: self._repository.accepted(self._id, wamid, phone=phone, wa_phone=wa_phone))

    async def ended(self, outcome: SendOutcome, signal: JobSignal, begun_at: datetime) -> None:
        """WhatsApp did not take the message, or nobody knows; `signal` is what the job ends with."""
        code, text = _code(outcome), str(signal)
        if code == USER_STOPPED_MARKETING:
            await self._surely(lambda: self._repository.stopped_marketing(self._outgoing().phone, begun_at))
        if isinstance(signal, OutcomeUnknown):
            await self._surely(lambda: self._repository.unknown(self._id, text))
        elif isinstance(signal, Permanent) or (isinstance(signal, Retry) and self._is_last(signal)):
            await self._surely(lambda: self._repository.failed(self._id, code, text))
        else:
            await self._surely(lambda: self._repository.retrying(self._id, code, text))

    def _outgoing(self) -> Outgoing:
        ctx, payload = self._ctx, self._payload
        return Outgoing(
            phone=f"+{payload.digits}",
            type=payload.type,
            text=payload.summary,
            job_queue=ctx.queue,
            job_key=ctx.key,
            job_enqueued_at=datetime.fromtimestamp(ctx.enqueued_at, UTC),
            once=payload.once,
            campaign_id=payload.campaign,
            marketing=payload.is_marketing,
        )

    def _is_last(self, signal: Retry) -> bool:
        allowed = (
            self._ctx.attempts if signal.max_attempts is None else min(self._ctx.attempts, signal.max_attempts)
        )
        return self._ctx.attempt >= allowed

    async def _take_back(self, beginning: asyncio.Future[MessageStart]) -> None:
        """What was written meanwhile must not look like a send under way to the next delivery."""
        await asyncio.wait([beginning], timeout=BRIEF_SECONDS)
        if not beginning.done():
            beginning.cancel()  # leaves the row out where its transaction has not begun
        elif not beginning.cancelled() and beginning.exception() is None:
            begun = beginning.result()
            if begun.admission is Admission.SEND:
                await self._briefly(
                    lambda: self._repository.retrying(begun.message_id, None, "its job was stopped")
                )

    async def _briefly(self, write: Callable[[], Awaitable[None]]) -> None:
        """A write that may be left out: what then looks like a send under way is found by its job later."""
        with suppress(RecordsError, TimeoutError):
            async with asyncio.timeout(BRIEF_SECONDS):
                await write()

    async def _surely(self, write: Callable[[], Awaitable[None]]) -> None:
        """A write that is worth waiting for. The job ends as it would, also where it is cancelled meanwhile."""
        remaining = self._ctx.remaining_seconds
        patience = WRITE_SECONDS if remaining is None else min(WRITE_SECONDS, max(BRIEF_SECONDS, remaining - 0.5))
        error: BaseException | None = None
        try:
            async with asyncio.timeout(patience):
                while True:
                    try:
                        return await write()
                    except RecordsError as unavailable:
                        error = unavailable
                    await asyncio.sleep(TRY_AGAIN_SECONDS)
        except (TimeoutError, asyncio.CancelledError) as stopped:
            self._ctx.log.error(
                "the outcome of message record %d could not be written: %s; it is settled by its job later",
                self._id,
                error or type(stopped).__name__,
            )


def _code(outcome: SendOutcome) -> str | None:
    if isinstance(outcome, Refused):
        return str(outcome.code)
    return f"http_{outcome.status}" if isinstance(outcome, Foreign) else None
