"""Files, and the imports and exports that read or make them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


class File(Base):
    """An upload, an export or a report."""

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_owner", "owner", "expires_at"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    """Random, not to be guessed; also the name on disk."""
    kind: Mapped[str]
    """upload, export, report."""
    name: Mapped[str]
    """What a person calls it."""
    media_type: Mapped[str]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    owner: Mapped[str | None]
    """Who uploaded it: `token:NAME` or `user:NAME`; None for what a job made, and of uploads to 0.1.0."""


class Transfer(Base):
    """One run of an import or an export."""

    __tablename__ = "transfers"
    __table_args__ = (UniqueConstraint("job_key", "job_enqueued_at", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    """import_contacts, export_contacts, export_messages."""
    job_key: Mapped[str]
    job_enqueued_at: Mapped[datetime]
    """Together with the key: the job, as keys may be used again."""
    file_id: Mapped[str | None]
    """What was imported, or what was made."""
    report_id: Mapped[str | None]
    """File with each rejected row and why."""
    counts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    cursor: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """How far an import is, for the delivery that goes on."""
    result: Mapped[dict[str, Any] | None]
    """What the job returned: a repeat of a finished one returns it again."""
    created_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    finished_at: Mapped[datetime | None]
