"""What `send_message` writes: two short transactions a message, shared by the messages of the same moment."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import accumulate
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages import statuses
from crmd.crm.messages.begin import Gate, MessageStart, Outgoing, begin_many
from crmd.crm.messages.queries import OPEN
from crmd.crm.messages.statuses import Applied, StatusUpdate
from crmd.engine.group_commit import GroupCommit
from crmd.errors import RecordsError

A = TypeVar("A")
R = TypeVar("R")

MOST_AT_ONCE = 100
"""Bounds how long one transaction keeps other writers waiting: some 20 ms on SQLite."""
MOST_STATUSES = 200
"""Of one event in one transaction: some 10 ms on SQLite."""


class MessageRepository:
    """Outgoing messages of one daemon. All methods raise RecordsUnavailable."""

    def __init__(self, database: Database, gate: Gate) -> None:
        self._database = database
        self._begin = _grouped(database, partial(_begin, gate))
        self._accept = _grouped(database, _accept)
        self._apply = _grouped(database, _apply)

    async def begin(self, new: Outgoing) -> MessageStart:
        """The message's row, and whether it may be sent."""
        return await self._begin.call(new)

    async def accepted(self, message_id: int, wamid: str, *, phone: str = "", wa_phone: str = "") -> None:
        """WhatsApp took the message to `phone`, for which it has the number `wa_phone`; empty: not known."""
        await self._accept.call(_Taken(message_id, wamid, phone, wa_phone))

    async def stopped_marketing(self, phone: str, at: datetime) -> None:
        """WhatsApp said that a person wants no marketing."""
        async with self._database.transaction() as s:
            await contacts.stop_marketing(s, phone, at)

    async def apply_statuses(self, updates: Sequence[StatusUpdate]) -> list[Applied | None]:
        """Applies what WhatsApp said; of each what it changed, None where the message is none of ours."""
        results: list[Applied | None] = []
        for start in range(0, len(updates), MOST_STATUSES):
            results += await self._apply.call(updates[start : start + MOST_STATUSES])
        return results

    async def retrying(self, message_id: int, code: str | None, error: str) -> None:
        """The message did not go out this time, and its job will try again."""
        async with self._database.transaction() as s:
            await messages.retrying(s, message_id, code, error, utc_now())

    async def failed(self, message_id: int, code: str | None, error: str) -> None:
        """The message did not go out, and its job is over."""
        async with self._database.transaction() as s:
            await messages.failed(s, message_id, code, error, utc_now())

    async def unknown(self, message_id: int, error: str) -> None:
        """The message may have gone out."""
        async with self._database.transaction() as s:
            await messages.unknown(s, message_id, error, utc_now())


def _grouped(
    database: Database, work: Callable[[AsyncSession, Sequence[A]], Awaitable[Sequence[R]]]
) -> GroupCommit[A, R]:
    """Work whose calls share a transaction; the fault of one is not that of the others."""

    async def write(items: Sequence[A]) -> Sequence[R]:
        return await database.run(lambda s: work(s, items))

    return GroupCommit(write, MOST_AT_ONCE, lambda error: not isinstance(error, RecordsError))


async def _begin(gate: Gate, s: AsyncSession, outgoing: Sequence[Outgoing]) -> list[MessageStart]:
    return await begin_many(s, gate, outgoing, utc_now())


async def _apply(s: AsyncSession, events: Sequence[Sequence[StatusUpdate]]) -> list[list[Applied | None]]:
    updates = [update for event in events for update in event]
    results = await statuses.apply_statuses(s, updates)
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
