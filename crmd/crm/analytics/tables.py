"""The figures of each hour and day."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


class Snapshot(Base):
    """What happened in one hour or day."""

    __tablename__ = "snapshots"
    __table_args__ = (UniqueConstraint("period", "starts_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    period: Mapped[str]
    """hour or day."""
    starts_at: Mapped[datetime]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
