"""Messages, and what happened to each."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


class Message(Base):
    """A message to or from a contact."""

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("job_key", "job_enqueued_at"),
        Index("ix_messages_status", "status", "status_at"),
        Index("ix_messages_campaign_id", "campaign_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    direction: Mapped[str]
    """out or in."""
    phone: Mapped[str] = mapped_column(index=True)
    """The other side, E.164."""
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id", ondelete="SET NULL"), index=True)
    campaign_id: Mapped[int | None] = mapped_column(ForeignKey("campaigns.id", ondelete="SET NULL"))
    recipient_id: Mapped[int | None] = mapped_column(
        ForeignKey("campaign_recipients.id", ondelete="SET NULL"), index=True
    )
    """Whom of its campaign's recipients the message is for; empty where it is none that the campaign queued."""
    once: Mapped[str | None] = mapped_column(unique=True)
    """Under the same word a message is sent once, whatever happens to jobs and daemons."""
    job_queue: Mapped[str | None]
    job_key: Mapped[str | None]
    job_enqueued_at: Mapped[datetime | None]
    """Together with the key: the job, as keys may be used again."""
    wamid: Mapped[str | None] = mapped_column(unique=True)
    """WhatsApp's id of the message."""
    type: Mapped[str]
    """text, template, image, …"""
    text: Mapped[str | None]
    """What it says, or the template's name; at most 4,096 characters."""
    status: Mapped[str]
    """in: received. out:

    - sending: a job is at it, or its daemon died at it
    - retrying: it did not go out, and its job will try again
    - unknown: it may have gone out; a status webhook or a person settles it
    - accepted: WhatsApp took it
    - sent, delivered, read: what WhatsApp's webhooks told last, in this order
    - failed: it did not go out, or WhatsApp could not deliver it
    """
    status_at: Mapped[datetime]
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


class MessageEvent(Base):
    """One step in a message's history; each status once."""

    __tablename__ = "message_events"

    message_id: Mapped[int] = mapped_column(ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True)
    status: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    error_code: Mapped[str | None]
