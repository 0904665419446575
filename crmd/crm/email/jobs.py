"""Queue `email`: sends one email."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from crmd.config.mailbox import Mailbox, read_mailbox
from crmd.crm.email.attachment_folder import AttachmentFolder
from crmd.crm.email.payloads import SendEmail
from crmd.crm.email.smtp import AllBusy, SmtpClient
from crmd.crm.email.smtp_outcomes import Accepted, Mail, NotTaken, Refused, Unclear, Unusable
from crmd.crm.files.store import FileStore, plain_name
from crmd.crm.outbound.adaptive_rate import SERVICE, AdaptiveRate, Wait
from crmd.crm.outbound.downloads import fetch
from crmd.crm.thread_runner import run_in_thread
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, Retry, Snooze, UnknownFile
from crmd.jobs import JobContext, job

if TYPE_CHECKING:
    from crmd.crm.email.payloads import Attachment


import hashlib
import mimetypes
import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.generator import BytesGenerator
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING

from crmd.crm.email.smtp_outcomes import wire_form
from crmd.crm.templating import templates

if TYPE_CHECKING:
    from datetime import datetime

    from crmd.crm.email.payloads import SendEmail


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


# How a job ends when the mail server did not take the mail


LATER_WAIT = Wait(60, 2, 1800)
"""After a 4xx answer: servers that have unknown senders come again (greylisting) mean minutes, not seconds."""


Failure = Refused | Unusable | NotTaken | Unclear


def signal_for(outcome: Failure, ctx: JobContext, rate: AdaptiveRate) -> JobSignal:
    """What the handler has to raise; notes in `rate` whether the server works."""
    if isinstance(outcome, Refused):
        rate.answered()
        if not outcome.passing:
            return Permanent(str(outcome), code=str(outcome.code))
        return Retry(str(outcome), after=_spread(LATER_WAIT.nth(ctx.attempt - 1)))
    if isinstance(outcome, Unusable):
        return PauseQueue(f"{outcome.reason}; correct [smtp], then: crmd resume {ctx.queue}")
    return _not_answered(outcome, rate)


def _not_answered(outcome: NotTaken | Unclear, rate: AdaptiveRate) -> JobSignal:
    stop_seconds = rate.failed()
    if isinstance(outcome, Unclear):
        # A second copy, with the same Message-ID, is recognised; a mail that never came is not.
        return Retry(f"the mail may have been taken, its answer was lost: {outcome.reason}; it is sent once more")
    reason = f"the mail was not sent: {outcome.reason}"
    return RateLimited(reason, after=stop_seconds) if stop_seconds else Retry(reason)


def _spread(seconds: float) -> float:
    """With equal jitter, so that many mails do not come back at once."""
    return seconds / 2 + random.uniform(0, seconds / 2)


# Reads what goes with a mail: uploaded files, files of the state folder, files by URL


MAX_TOTAL_BYTES = 18 * 1024 * 1024
"""Of all attachments of a mail: a third comes on top as they are encoded, and most servers take 25 MB."""


async def read_attachments(ctx: JobContext, wanted: Sequence[Attachment]) -> list[Attached]:
    """The files in memory. Raises Permanent for one that is not there or too large, Retry where one may come."""
    files: list[Attached] = []
    room = MAX_TOTAL_BYTES
    for attachment in wanted:
        file = await _read(ctx, attachment, room)
        room -= len(file.data)
        files.append(file)
    return files


async def _read(ctx: JobContext, attachment: Attachment, room: int) -> Attached:
    if attachment.path is not None:
        name, said = Path(attachment.path).name, ""
        data = await _from_folder(ctx, attachment.path, room)
    elif attachment.file is not None:
        name, said, data = await _uploaded(ctx, attachment.file, room)
    else:
        into = BytesIO()
        fetched = await fetch(ctx, attachment.url or "", into, max_bytes=room)
        name, said, data = plain_name(fetched.name), fetched.media_type, into.getvalue()
    name = attachment.name or name
    return Attached(name, attachment.media_type or media_type_of(name, said), data)


async def _from_folder(ctx: JobContext, path: str, room: int) -> bytes:
    try:
        return await asyncio.to_thread(ctx.get(AttachmentFolder).read, path, room)
    except ValueError as error:
        raise Permanent(f"attachment: {error}") from None


async def _uploaded(ctx: JobContext, file_id: str, room: int) -> tuple[str, str, bytes]:
    try:
        stored = await ctx.get(FileStore).get(file_id)
    except UnknownFile as error:
        raise Permanent(f"attachment: {error}") from None
    if stored.size_bytes > room:
        raise Permanent(
            f"attachment {file_id} has {stored.size_bytes:,} bytes; there is room for {room:,}", code="too_large"
        )
    try:
        return stored.name, stored.media_type, await asyncio.to_thread(stored.path.read_bytes)
    except FileNotFoundError:
        raise Permanent(f"attachment: the file {file_id} is gone") from None


# Puts a mail together: headers, texts and attachments as they cross the wire


_DEFAULT_TYPE = "application/octet-stream"
_MAIN_TYPES = frozenset({"application", "audio", "font", "image", "model", "text", "video"})
_MAX_SUBJECT_CHARS = 900
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# 7bit: what goes out passes every server and needs no extension of it.
_COMPOSE = SMTP.clone(cte_type="7bit")
# Long headers, such as unsubscribe links, would be encoded where they are folded; no line may have more than 998.
_WRITE = SMTP.clone(cte_type="7bit", max_line_length=998)


@dataclass(frozen=True, slots=True)
class Attached:
    """A file in memory."""

    name: str
    media_type: str
    data: bytes


def message_id(key: str, enqueued_at: float, sender: Mailbox) -> str:
    """The mail's Message-ID: equal for each attempt of one job, so that a repeat can be recognised."""
    digest = hashlib.sha256(f"{key}\n{round(enqueued_at * 1000)}".encode()).hexdigest()
    return f"<crmd.{digest[:32]}@{sender.domain}>"


def compose(
    payload: SendEmail, *, sender: Mailbox, message_id: str, sent_at: datetime, attached: Sequence[Attached]
) -> Mail:
    """The mail. Raises ValueError for a template that cannot be filled, naming what is missing."""
    message = EmailMessage(policy=_COMPOSE)
    _put_headers(message, payload, sender, message_id, sent_at)
    text, html = _filled(payload, "text"), _filled(payload, "html")
    if text is not None:
        message.set_content(text)
        if html is not None:
            message.add_alternative(html, subtype="html")
    elif html is not None:
        message.set_content(html, subtype="html")
    for file in attached:
        main, _, sub = file.media_type.partition("/")
        message.add_attachment(file.data, maintype=main, subtype=sub, filename=file.name)
    written = BytesIO()
    BytesGenerator(written, policy=_WRITE).flatten(message)
    content = written.getvalue()
    return Mail(sender.address, payload.recipients, wire_form(content), len(content))


def media_type_of(name: str, said: str) -> str:
    """The type of an attachment: what its source says, else by its name."""
    guess = said if said and said != _DEFAULT_TYPE else mimetypes.guess_type(name)[0] or _DEFAULT_TYPE
    main, _, sub = guess.partition("/")
    return guess if main in _MAIN_TYPES and sub and guess.isascii() and " " not in guess else _DEFAULT_TYPE


def _put_headers(
    message: EmailMessage, payload: SendEmail, sender: Mailbox, message_id: str, sent_at: datetime
) -> None:
    message["From"] = _address(sender)
    for name, texts in (("To", payload.to), ("Cc", payload.cc), ("Reply-To", payload.reply_to)):
        if texts:
            message[name] = _addresses(texts)
    message["Subject"] = _on_one_line(_filled(payload, "subject") or "")[:_MAX_SUBJECT_CHARS]
    message["Date"] = format_datetime(sent_at)
    message["Message-ID"] = message_id
    for name, value in {"Auto-Submitted": "auto-generated", **_titled(payload.headers)}.items():
        message[name] = value


def _titled(headers: dict[str, str]) -> dict[str, str]:
    """So that a header of the job's own takes the place of ours, however it is written."""
    return {name.title().replace("Id", "ID"): value for name, value in headers.items()}


def _addresses(texts: Iterable[str]) -> list[Address]:
    return [_address(read_mailbox(text)) for text in texts]


def _address(mailbox: Mailbox) -> Address:
    return Address(display_name=mailbox.name, addr_spec=mailbox.address)


def _filled(payload: SendEmail, field: str) -> str | None:
    text: str | None = getattr(payload, field)
    if text is None or payload.variables is None:
        return text
    try:
        return templates.render(text, payload.variables, html=field == "html")
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def _on_one_line(text: str) -> str:
    # a variable with a line end would begin another header
    return " ".join(_CONTROLS.sub(" ", text).split())
