"""Campaigns, and who each goes to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.campaigns.progress import CampaignProgress, ProgressColumn
from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


class Campaign(Base):
    """One message to many contacts."""

    __tablename__ = "campaigns"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    definition: Mapped[dict[str, Any]]
    """The payload of run_campaign."""
    status: Mapped[str] = mapped_column(index=True)
    """running, paused, cancelled, stopped (too many of the first failed), done."""
    reason: Mapped[str | None]
    """Why it is paused, cancelled or stopped."""
    progress: Mapped[CampaignProgress] = mapped_column("cursor", ProgressColumn, default=CampaignProgress)
    total: Mapped[int | None]
    """Recipients, once the whole audience was read."""
    job_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[datetime | None]


class CampaignRecipient(Base):
    """One recipient of one campaign, once."""

    __tablename__ = "campaign_recipients"
    __table_args__ = (
        UniqueConstraint("campaign_id", "phone"),
        Index("ix_campaign_recipients_state", "campaign_id", "state", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    campaign_id: Mapped[int] = mapped_column(ForeignKey("campaigns.id", ondelete="CASCADE"))
    contact_id: Mapped[int | None] = mapped_column(ForeignKey("contacts.id", ondelete="SET NULL"), index=True)
    phone: Mapped[str]
    variables: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str]
    """pending, queued (its message's job is in the store), skipped."""
    reason: Mapped[str | None]
    """Why it was skipped."""
