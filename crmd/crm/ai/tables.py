"""Tokens used by AI jobs."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


class AiUsage(Base):
    """Tokens that one answer cost."""

    __tablename__ = "ai_usage"
    __table_args__ = (UniqueConstraint("job_key", "answered_at"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_key: Mapped[str]
    job: Mapped[str]
    model: Mapped[str]
    input_tokens: Mapped[int]
    output_tokens: Mapped[int]
    answered_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
