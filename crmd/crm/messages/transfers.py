"""Messages for exports: which ones, by a single look, and then the rows in portions."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.messages.queries import MessageFilter, matching
from crmd.crm.messages.tables import Message

_PORTION = 5_000
_CHOSEN = Message.id.in_(bindparam("chosen", expanding=True))


async def ids(s: AsyncSession, wanted: MessageFilter) -> array[int]:
    """The ids of the messages that a filter lets through, in order; eight bytes each.

    Paging through the filter itself would make SQLite sort all messages of a status or a time for every page.
    """
    found = array("q")
    result = await s.stream(matching(wanted).with_only_columns(Message.id).order_by(Message.id))
    async for portion in result.scalars().partitions(_PORTION):
        found.extend(portion)
    return found


async def rows(s: AsyncSession, chosen: Sequence[int], columns: Sequence[str]) -> Sequence[Row[Any]]:
    """Some columns of some messages, by id; those that are gone are left out. Give a thousand at most."""
    query = select(*(getattr(Message, name) for name in columns)).where(_CHOSEN)
    return (await s.execute(query.order_by(Message.id), {"chosen": chosen})).all()
