"""Puts a mail together: headers, texts and attachments as they cross the wire."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.generator import BytesGenerator
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from io import BytesIO
from typing import TYPE_CHECKING

from crmd.config.mailbox import Mailbox, read_mailbox
from crmd.crm.email.smtp_outcomes import Mail, wire_form
from crmd.crm.templating import templates

if TYPE_CHECKING:
    from datetime import datetime

    from crmd.crm.email.payloads import SendEmail

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
