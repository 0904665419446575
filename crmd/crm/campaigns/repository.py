"""Campaigns: one message to many contacts. The campaign's row; its recipients are in `campaign_recipients`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns.progress import CampaignProgress
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.database.types import dump_json, utc_now
from crmd.crm.database.upsert import insert_into
from crmd.errors import IllegalTransition


class CampaignStatus(StrEnum):
    """The states of a campaign from its start to its end."""

    RUNNING = "running"
    """Its recipients are read, or their messages are queued."""
    PAUSED = "paused"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    """Too many of its first messages failed."""
    DONE = "done"
    """All its messages are queued; the last ones may wait there still."""


_MAY_FOLLOW: Mapping[CampaignStatus, tuple[CampaignStatus, ...]] = {
    CampaignStatus.RUNNING: (CampaignStatus.PAUSED,),
    CampaignStatus.PAUSED: (CampaignStatus.RUNNING, CampaignStatus.DONE),
    CampaignStatus.CANCELLED: (CampaignStatus.RUNNING, CampaignStatus.PAUSED, CampaignStatus.DONE),
    CampaignStatus.STOPPED: (CampaignStatus.RUNNING,),
    CampaignStatus.DONE: (CampaignStatus.RUNNING,),
}
_OVER = (CampaignStatus.CANCELLED, CampaignStatus.STOPPED, CampaignStatus.DONE)


async def create_or_get(s: AsyncSession, name: str, definition: Mapping[str, Any], job_key: str) -> Campaign:
    """The campaign of that name, locked; made now if there is none. `is_same` says whether it is the one meant."""
    values = {
        "name": name,
        "definition": _as_kept(definition),
        "status": CampaignStatus.RUNNING.value,
        "progress": CampaignProgress(),
        "job_key": job_key,
        "created_at": utc_now(),
    }
    await s.execute(insert_into(s, Campaign).values(**values).on_conflict_do_nothing())
    found = await s.scalars(select(Campaign).where(Campaign.name == name).with_for_update())
    return found.one()


def is_same(campaign: Campaign, definition: Mapping[str, Any]) -> bool:
    """Whether a campaign was made with this definition."""
    return bool(campaign.definition == _as_kept(definition))


async def get(s: AsyncSession, campaign_id: int, *, lock: bool = False) -> Campaign | None:
    """A campaign by its id; with `lock` nobody else changes it until the transaction ends."""
    return await s.get(Campaign, campaign_id, with_for_update=lock)


async def page(s: AsyncSession, before_id: int | None, limit: int, status: str | None = None) -> list[Campaign]:
    """Campaigns, the newest first, made before one."""
    query = select(Campaign).order_by(Campaign.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Campaign.id < before_id)
    if status is not None:
        query = query.where(Campaign.status == status)
    return list(await s.scalars(query))


def check_move(campaign: Campaign, to: CampaignStatus) -> None:
    """Raises IllegalTransition where a campaign cannot get that status."""
    if campaign.status not in _MAY_FOLLOW[to]:
        allowed = ", ".join(status.value for status in _MAY_FOLLOW[to])
        raise IllegalTransition(f"campaign {campaign.name!r} is {campaign.status}; {to} can follow {allowed}")


async def move(s: AsyncSession, campaign: Campaign, to: CampaignStatus, reason: str | None = None) -> None:
    """Gives a campaign that is locked another status. Raises IllegalTransition.

    A resumed campaign starts a new round: messages that were held while it was paused get jobs under other keys,
    and its first messages are watched again.
    """
    check_move(campaign, to)
    if to is CampaignStatus.RUNNING:
        campaign.progress = campaign.progress.next_round()
    campaign.status = to.value
    campaign.reason = reason
    campaign.finished_at = utc_now() if to in _OVER else None
    await s.flush()


def _as_kept(definition: Mapping[str, Any]) -> Any:
    return json.loads(dump_json(dict(definition)))
