"""Queue `email`: sends one mail."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypedDict

from crmd.config.mailbox import Mailbox, read_mailbox
from crmd.crm.email.attachments import read_attachments
from crmd.crm.email.message import compose, message_id
from crmd.crm.email.payloads import SendEmail
from crmd.crm.email.policy import signal_for
from crmd.crm.email.smtp import AllBusy, SmtpClient
from crmd.crm.email.smtp_outcomes import Accepted, Mail
from crmd.crm.outbound.adaptive_rate import SERVICE
from crmd.crm.thread_runner import run_in_thread
from crmd.errors import Permanent, RateLimited, Snooze
from crmd.jobs import JobContext, job

UNCONFIGURED_SECONDS = 60.0
BUSY_SECONDS = 5.0
"""After which a job comes back for which no connection was free."""
_WAIT_SECONDS = 20.0


class RefusedAddress(TypedDict):
    """A recipient that the server did not take."""

    address: str
    code: int
    text: str


class MailSent(TypedDict):
    """What the mail server said when it took the mail."""

    message_id: str
    """The same for each attempt of this job."""
    accepted: int
    """Recipients that it took."""
    refused: list[RefusedAddress]
    answer: str
    """Its words, often its own id of the mail."""


@job(queue="email", payload=SendEmail)
async def send_email(ctx: JobContext, payload: SendEmail) -> MailSent:
    """Sends the mail. After a lost answer it is sent again under the same Message-ID."""
    client = ctx.get(SmtpClient)
    sender = _sender(client, payload)
    seconds = client.adaptive_rate.remaining_seconds(SERVICE)
    if seconds:
        raise RateLimited("the mail server failed several times in a row; sending waits", after=seconds)
    own_id = message_id(ctx.key, ctx.enqueued_at, sender)
    try:
        async with client.slot(_wait_seconds(ctx.remaining_seconds)) as slot:
            outcome = await slot.send(await _mail(ctx, payload, sender, own_id))
    except AllBusy:
        raise Snooze("all connections to the mail server are busy", after=BUSY_SECONDS) from None
    if not isinstance(outcome, Accepted):
        raise signal_for(outcome, ctx, client.adaptive_rate)
    client.adaptive_rate.answered()
    if outcome.refused:
        counts = len(outcome.refused), len(payload.recipients)
        ctx.log.warning("the mail server refused %d of %d recipients", *counts)
    return MailSent(
        message_id=own_id,
        accepted=len(payload.recipients) - len(outcome.refused),
        refused=[RefusedAddress(address=one.address, code=one.code, text=one.text) for one in outcome.refused],
        answer=outcome.answer,
    )


async def _mail(ctx: JobContext, payload: SendEmail, sender: Mailbox, own_id: str) -> Mail:
    attached = await read_attachments(ctx, payload.attachments)
    now = datetime.now(UTC)
    try:
        # In a thread: megabytes are encoded, and a template may take its time.
        return await run_in_thread(
            lambda: compose(payload, sender=sender, message_id=own_id, sent_at=now, attached=attached)
        )
    except ValueError as error:
        raise Permanent(f"the mail cannot be put together: {error}") from None


def _sender(client: SmtpClient, payload: SendEmail) -> Mailbox:
    """Whom the mail is from; raises Snooze where a setting is missing."""
    if not client.configured:
        raise Snooze("smtp.host is not set; the job waits until it is", after=UNCONFIGURED_SECONDS)
    sender = read_mailbox(payload.sender) if payload.sender else client.sender
    if sender is None:
        raise Snooze(
            "smtp.sender is not set and the job names no sender; it waits until smtp.sender is set",
            after=UNCONFIGURED_SECONDS,
        )
    return sender


def _wait_seconds(remaining_seconds: float | None) -> float:
    """How long to wait for a connection: most of the job's time is for the mail."""
    return _WAIT_SECONDS if remaining_seconds is None else min(_WAIT_SECONDS, remaining_seconds / 3)
