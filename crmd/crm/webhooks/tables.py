"""The state of the webhook endpoints."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base


class EndpointState(Base):
    """Whether a registered webhook endpoint works."""

    __tablename__ = "endpoint_states"

    name: Mapped[str] = mapped_column(primary_key=True)
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    reason: Mapped[str | None]
