"""Queue `message`: sends one WhatsApp message."""

from __future__ import annotations

from typing import TypedDict

from crmd.clients.whatsapp import SEND_SECONDS, Accepted, WhatsAppClient
from crmd.clients.whatsapp_pace import SERVICE
from crmd.errors import RateLimited, Snooze
from crmd.handlers.message_payload import SendMessage
from crmd.handlers.whatsapp_policy import ending
from crmd.jobs import JobContext, job

UNCONFIGURED_SECONDS = 60.0
# Left of the job's own timeout for writing down what became of the request.
_RESERVE_SECONDS = 1.0


class MessageSent(TypedDict):
    """What WhatsApp said when it took the message; delivery is told later by its webhooks."""

    message_id: str
    recipient: str
    """The recipient's WhatsApp id, which may differ from the number sent to."""
    status: str
    """`accepted`, or `held_for_quality_assessment`: the template is being tested on fewer recipients first."""


@job(queue="message", payload=SendMessage)
async def send_message(ctx: JobContext, payload: SendMessage) -> MessageSent:
    """Sends the message once. A lost answer makes the job unknown, as WhatsApp does not recognise a repeat."""
    client = ctx.get(WhatsAppClient)
    _check_ready(client, payload)
    await ctx.effect_begun()
    outcome = await client.send(
        payload.request(), callback_data=ctx.key, timeout_seconds=_timeout_seconds(ctx.remaining_seconds)
    )
    if not isinstance(outcome, Accepted):
        raise ending(outcome, ctx, payload, client.pace)
    client.pace.answered()
    client.pace.free(payload.digits)
    if payload.subject:
        client.pace.free(payload.subject)
    return MessageSent(message_id=outcome.message_id, recipient=outcome.recipient, status=outcome.status)


def _check_ready(client: WhatsAppClient, payload: SendMessage) -> None:
    """Raises where it is known beforehand that the message must wait."""
    if not client.configured:
        raise Snooze(
            "whatsapp.phone_number_id and whatsapp.token are not set; the job waits until they are",
            after=UNCONFIGURED_SECONDS,
        )
    seconds = client.pace.remaining_seconds(SERVICE)
    if seconds:
        raise RateLimited("WhatsApp failed several times in a row; sending waits", after=seconds)
    if payload.subject:
        seconds = client.pace.remaining_seconds(payload.subject)
        if seconds:
            raise Snooze(f"{payload.subject} cannot be sent now; the job waits", after=seconds)


def _timeout_seconds(remaining_seconds: float | None) -> float:
    if remaining_seconds is None:
        return SEND_SECONDS
    return min(SEND_SECONDS, max(_RESERVE_SECONDS, remaining_seconds - _RESERVE_SECONDS))
