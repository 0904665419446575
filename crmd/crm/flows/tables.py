"""Flows, and the runs of contacts through them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from crmd.crm.database.base import Base
from crmd.crm.database.types import utc_now


class Flow(Base):
    """A definition of steps that contacts go through."""

    __tablename__ = "flows"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    definition: Mapped[dict[str, Any]]
    enabled: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)


class FlowRun(Base):
    """One contact on its way through a flow."""

    __tablename__ = "flow_runs"
    __table_args__ = (
        Index("ix_flow_runs_waiting", "contact_id", "state"),
        Index("ix_flow_runs_wake", "state", "wake_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    flow_id: Mapped[int] = mapped_column(ForeignKey("flows.id", ondelete="CASCADE"), index=True)
    contact_id: Mapped[int] = mapped_column(ForeignKey("contacts.id", ondelete="CASCADE"))
    once: Mapped[str | None] = mapped_column(unique=True)
    """Under the same word a run starts once: a repeated inbound message starts no second one."""
    definition: Mapped[dict[str, Any]]
    """As it was when the run began: a changed flow changes no run under way."""
    state: Mapped[str]
    """running, waiting, waiting_for_reply, done, failed, cancelled."""
    step: Mapped[str | None]
    """The step that comes next, or that waits; of a finished run the one at which it ended."""
    count: Mapped[int] = mapped_column(default=0)
    """Steps done: names what each of them sends, so that a repeat is recognised."""
    data: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the run knows, such as the last reply."""
    wake_at: Mapped[datetime]
    """When it goes on, or is looked after where its job was lost; when a finished one is deleted."""
    error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
