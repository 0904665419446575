"""Notifications that wait to be sent together."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


class NotificationGroup(Base):
    """Notifications of one group that wait to become one message."""

    __tablename__ = "notification_groups"

    channel: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    opened_at: Mapped[datetime]
    """The message goes out when `notify.group_window` has passed since then."""


class NotificationEntry(Base):
    """One notification of a group that waits; each job's once, whatever happens to daemons."""

    __tablename__ = "notification_entries"
    __table_args__ = (
        UniqueConstraint("job_key", "job_enqueued_at"),
        Index("ix_notification_entries_group", "channel", "name"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    channel: Mapped[str]
    name: Mapped[str]
    """The group's."""
    job_key: Mapped[str]
    job_enqueued_at: Mapped[datetime]
    level: Mapped[str]
    text: Mapped[str | None]
    """Of the first few only."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
