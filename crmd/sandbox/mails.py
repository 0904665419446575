"""Mail as it is shown: sender, recipients, subject, bodies and the names of attachments."""

from __future__ import annotations

from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from crmd.sandbox.journal import Journal, Kind, excerpt

MAX_SHOWN = 20
"""Recipients and attachments that are kept of one mail."""


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A mail as it came: its envelope and its bytes."""

    sender: str
    recipients: list[str]
    content: bytes
    username: str | None = None
    """Who had logged in."""
    encrypted: bool = False
    """Whether it came over TLS."""

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        return message_from_bytes(self.content, policy=policy.default)


def keep(journal: Journal, mail: ReceivedMail) -> None:
    """Notes one mail."""
    fields = {"sender": mail.sender, "to": mail.recipients[:MAX_SHOWN], "size": len(mail.content)}
    access = {"username": mail.username, "encrypted": mail.encrypted}
    journal.add(Kind.MAIL, **fields, **access, **_read(mail.message))


def _read(mail: EmailMessage) -> dict[str, Any]:
    try:
        return {
            "subject": excerpt(mail.get("Subject", "")),
            "message_id": excerpt(mail.get("Message-ID", "")),
            "text": _body(mail, "plain"),
            "html": _body(mail, "html"),
            "attachments": [_attachment(part) for part in mail.iter_attachments()][:MAX_SHOWN],
        }
    except (LookupError, ValueError, AttributeError) as error:  # what the library raises for broken mail
        text = f"(cannot be read: {type(error).__name__}: {error})"
        return {"subject": "", "message_id": "", "text": text, "html": "", "attachments": []}


def _body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    return excerpt(part.get_content()) if part is not None else ""


def _attachment(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    size = len(payload) if isinstance(payload, bytes) else 0
    return f"{excerpt(part.get_filename() or 'unnamed')} ({part.get_content_type()}, {size} bytes)"
