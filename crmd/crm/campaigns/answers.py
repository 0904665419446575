"""The answers about campaigns."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from crmd.crm.campaigns.repository import CampaignStatus
from crmd.http.answers import AnswerBody, Timestamp


class CampaignJobAnswer(AnswerBody):
    """The job that runs a campaign."""

    queue: str
    key: str


class CampaignSummaryAnswer(AnswerBody):
    """A campaign without its counts."""

    id: int
    name: str
    status: CampaignStatus
    reason: str | None
    total: int | None
    job: CampaignJobAnswer | None
    created_at: Timestamp
    finished_at: Timestamp | None


class CampaignAnswer(CampaignSummaryAnswer):
    """One campaign: recipients, reasons, messages by status."""

    progress: float
    recipients: dict[str, int] = Field(description="How many are in each state.")
    skipped: dict[str, int] = Field(description="How many were skipped for each reason.")
    messages: dict[str, int] = Field(description="How many are in each status.")
    definition: dict[str, Any]


class CampaignsPageAnswer(AnswerBody):
    """A page of campaigns, the newest first."""

    campaigns: list[CampaignSummaryAnswer]
    cursor: str | None = Field(description="Names the next page; null on the last one.")
