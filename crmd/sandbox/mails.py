"""Mail as it is shown: who, what about, the bodies and the names of what is attached."""

from __future__ import annotations

from collections.abc import Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from crmd.sandbox.journal import Journal, Kind, excerpt

MAX_SHOWN = 20
"""Recipients and attachments that are kept of one mail."""


def keep(journal: Journal, sender: str, recipients: Sequence[str], raw: bytes) -> None:
    """Notes one mail."""
    journal.add(Kind.MAIL, sender=sender, to=list(recipients[:MAX_SHOWN]), size=len(raw), **_read(raw))


def _read(raw: bytes) -> dict[str, Any]:
    mail = message_from_bytes(raw, policy=policy.default)
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
