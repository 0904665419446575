"""The answers about flows and their runs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from crmd.crm.flows.repository import RunState
from crmd.http.answers import AnswerBody, Timestamp


class FlowSummaryAnswer(AnswerBody):
    """A flow without its steps."""

    name: str
    description: str
    enabled: bool
    start: dict[str, Any]
    steps: int
    live_runs: int
    created_at: Timestamp
    updated_at: Timestamp


class FlowAnswer(FlowSummaryAnswer):
    """One flow with its definition."""

    definition: dict[str, Any]


class FlowsPageAnswer(AnswerBody):
    """A page of flows."""

    flows: list[FlowSummaryAnswer]
    cursor: str | None = Field(description="Names the next page; null on the last one.")


class FlowRunAnswer(AnswerBody):
    """One run of a flow."""

    id: int
    phone: str
    contact_id: int
    state: RunState
    step: str | None
    count: int
    reply: Any
    saved: dict[str, Any]
    error: str | None
    wake_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class FlowRunsPageAnswer(AnswerBody):
    """A page of a flow's runs, the newest first."""

    runs: list[FlowRunAnswer]
    cursor: str | None = Field(description="Names the next page; null on the last one.")
