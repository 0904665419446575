"""What `send_message` writes: two short transactions a message, shared by the messages of the same moment."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.records import messages
from crmd.records.database import Records
from crmd.records.gathering import Gathering
from crmd.records.message_begin import Begun, Outgoing, begin_many
from crmd.records.message_statuses import Applied, StatusUpdate, apply_statuses
from crmd.records.types import utc_now

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

    async def accepted(self, message_id: int, wamid: str) -> None:
        """WhatsApp took the message."""
        await self._accepting.call((message_id, wamid))

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
    results = await apply_statuses(s, [update for event in events for update in event])
    ends = accumulate(len(event) for event in events)
    return [results[end - len(event) : end] for event, end in zip(events, ends, strict=True)]


async def _accept(s: AsyncSession, taken: Sequence[tuple[int, str]]) -> Sequence[None]:
    await messages.accepted_many(s, taken, utc_now())
    return [None] * len(taken)
