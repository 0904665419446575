"""What `send_message` writes: two short transactions a message, shared by the messages of the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Records
from crmd.crm.database.gathering import Gathering
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import Begun, Outgoing, begin_many
from crmd.crm.messages.queries import OPEN
from crmd.crm.messages.statuses import Applied, StatusUpdate, apply_statuses

MOST_STATUSES = 200
"""Of one event in one transaction: some 10 ms on SQLite."""


class MessageBook:
    """Outgoing messages of one daemon. All methods raise RecordsUnavailable."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._beginning = Gathering(records, _begin)
        self._accepting = Gathering(records, _accept)
        self._telling = Gathering(records, _tell)

    async def begin(self, new: Outgoing) -> Begun:
        """The message's row, and whether it may be sent."""
        return await self._beginning.call(new)

    async def accepted(self, message_id: int, wamid: str, *, phone: str = "", wa_phone: str = "") -> None:
        """WhatsApp took the message to `phone`, for which it has the number `wa_phone`; empty: not known."""
        await self._accepting.call(_Taken(message_id, wamid, phone, wa_phone))

    async def stopped_marketing(self, phone: str, at: datetime) -> None:
        """WhatsApp said that a person wants no marketing."""
        async with self._records.transaction() as s:
            await contacts.stop_marketing(s, phone, at)

    async def told(self, updates: Sequence[StatusUpdate]) -> list[Applied | None]:
        """What WhatsApp's webhooks said; of each what it changed, None where it is about no message of ours."""
        results: list[Applied | None] = []
        for start in range(0, len(updates), MOST_STATUSES):
            results += await self._telling.call(updates[start : start + MOST_STATUSES])
        return results

    async def retrying(self, message_id: int, code: str | None, error: str) -> None:
        """The message did not go out this time, and its job will try again."""
        async with self._records.transaction() as s:
            await messages.retrying(s, message_id, code, error, utc_now())

    async def failed(self, message_id: int, code: str | None, error: str) -> None:
        """The message did not go out, and its job is over."""
        async with self._records.transaction() as s:
            await messages.failed(s, message_id, code, error, utc_now())

    async def unknown(self, message_id: int, error: str) -> None:
        """The message may have gone out."""
        async with self._records.transaction() as s:
            await messages.unknown(s, message_id, error, utc_now())


async def _begin(s: AsyncSession, outgoing: Sequence[Outgoing]) -> list[Begun]:
    return await begin_many(s, outgoing, utc_now())


async def _tell(s: AsyncSession, events: Sequence[Sequence[StatusUpdate]]) -> list[list[Applied | None]]:
    updates = [update for event in events for update in event]
    results = await apply_statuses(s, updates)
    # Where the answer to the send was lost, its statuses are the first to say under which number it went out.
    differing = [
        (applied.phone, update.recipient)
        for update, applied in zip(updates, results, strict=True)
        if applied and applied.before in OPEN and update.recipient and update.recipient != applied.phone
    ]
    if differing:
        await people.note_sent(s, differing, utc_now())
    ends = accumulate(len(event) for event in events)
    return [results[end - len(event) : end] for event, end in zip(events, ends, strict=True)]


@dataclass(frozen=True, slots=True)
class _Taken:
    """A message that WhatsApp took."""

    message_id: int
    wamid: str
    phone: str
    wa_phone: str


async def _accept(s: AsyncSession, taken: Sequence[_Taken]) -> Sequence[None]:
    now = utc_now()
    await messages.accepted_many(s, [(one.message_id, one.wamid) for one in taken], now)
    differing = [(one.phone, one.wa_phone) for one in taken if one.phone and one.wa_phone not in ("", one.phone)]
    if differing:
        await people.note_sent(s, differing, now)
    return [None] * len(taken)
