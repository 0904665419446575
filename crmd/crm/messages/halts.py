"""Messages of campaigns that do not go on are not begun; those of a paused one are given back to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.recipients import hold
from crmd.crm.messages.queries import Status, failed
from crmd.crm.messages.tables import Message

CAMPAIGN_CANCELLED = "campaign_cancelled"
"""Error code of a message that was not sent because its campaign was cancelled or stopped."""

Reason = Literal["held", "paused", "cancelled"]


class OfCampaign(Protocol):
    """What has to be known of a message."""

    @property
    def campaign_id(self) -> int | None:
        """Its campaign."""

    @property
    def once(self) -> str | None:
        """Under this word it goes out once."""


async def halt(s: AsyncSession, outgoing: Sequence[OfCampaign], now: datetime) -> dict[int, Reason]:
    """Which of these messages are not to begin, by their place, and why.

    One that may be out already is not among them: its row says what became of it.
    """
    wanted = {new.campaign_id for new in outgoing if new.campaign_id is not None}
    halts = await campaigns.halts(s, wanted) if wanted else {}
    if not halts:
        return {}
    places = {place: new for place, new in enumerate(outgoing) if new.campaign_id in halts}
    begun = await _begun(s, [new.once for new in places.values() if new.once is not None])
    found: dict[int, Reason] = {}
    for place, new in places.items():
        message_id, status = begun.get(new.once or "", (0, Status.RETRYING))
        if status not in (Status.RETRYING, Status.FAILED):
            continue
        if halts[new.campaign_id or 0] == "cancelled":
            found[place] = "cancelled"
            if status is Status.RETRYING:
                await failed(s, message_id, CAMPAIGN_CANCELLED, "its campaign was cancelled or stopped", now)
        else:
            found[place] = "held" if new.once and await hold(s, [new.once]) else "paused"
    return found


async def _begun(s: AsyncSession, words: Sequence[str]) -> Mapping[str, tuple[int, Status]]:
    """The rows that there are already."""
    rows = await s.execute(select(Message.once, Message.id, Message.status).where(Message.once.in_(words)))
    return {once or "": (message_id, Status(status)) for once, message_id, status in rows}
