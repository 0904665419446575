"""Whether messages of campaigns may start, and whose they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns import recipients
from crmd.crm.campaigns.recipients import once_of
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.messages.begin import Member, Outgoing, Stop

_STOPS: Mapping[str, Stop] = {
    CampaignStatus.PAUSED: "paused",
    CampaignStatus.CANCELLED: "cancelled",
    CampaignStatus.STOPPED: "cancelled",
}
_CAMPAIGN: Any = Campaign.__table__
_RECIPIENT: Any = CampaignRecipient.__table__
_IDS: Any = bindparam("ids", expanding=True)
# Put together once: a list that `in_` is given itself stays in a reference cycle until the collector comes by.
_STATUSES = select(_CAMPAIGN.c.id, _CAMPAIGN.c.status).where(_CAMPAIGN.c.id.in_(_IDS))
_RECIPIENTS = select(_RECIPIENT.c.campaign_id, _RECIPIENT.c.phone, _RECIPIENT.c.id).where(
    _RECIPIENT.c.campaign_id.in_(_IDS), _RECIPIENT.c.phone.in_(bindparam("phones", expanding=True))
)


class CampaignGate:
    """The campaigns, as messages see them."""

    async def members(self, s: AsyncSession, outgoing: Sequence[Outgoing]) -> dict[int, Member]:
        """What is known of messages of campaigns, by their place; those of deleted campaigns are left out.

        To be asked in the transaction that writes the messages' rows: from then on they are on their way.
        """
        ids = sorted({new.campaign_id for new in outgoing if new.campaign_id is not None})
        if not ids:
            return {}
        connection = await s.connection()
        statuses = {row.id: row.status for row in await connection.execute(_STATUSES, {"ids": ids})}
        phones = sorted({new.phone for new in outgoing if new.campaign_id is not None})
        rows = await connection.execute(_RECIPIENTS, {"ids": ids, "phones": phones})
        own = {(row.campaign_id, row.phone, once_of(row.campaign_id, row.id)): row.id for row in rows}
        found: dict[int, Member] = {}
        for place, new in enumerate(outgoing):
            if new.campaign_id is not None and new.campaign_id in statuses:
                recipient_id = own.get((new.campaign_id, new.phone, new.once or ""))
                found[place] = Member(new.campaign_id, recipient_id, _STOPS.get(statuses[new.campaign_id]))
        return found

    async def suspend(self, s: AsyncSession, recipient_ids: Sequence[int]) -> set[int]:
        """Takes back messages of paused campaigns, by their recipients; gives those that it took."""
        return await recipients.suspend(s, recipient_ids)
