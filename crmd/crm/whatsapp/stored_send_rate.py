"""The rate towards WhatsApp that all daemons share, in the store and by its clock."""

from __future__ import annotations

from crmd.crm.whatsapp.send_rate import SendRates, Slots
from crmd.engine.store import keys
from crmd.engine.store.client import Store

AHEAD_MS = 20
"""How far ahead starts are given out."""
LATE_MS = 20
"""A start missed by so little is made up for: a daemon asks for the next ones while the last is on its way."""
SAME_MOMENT_MS = 250
"""Refusals of messages that started up to so long after a cut say what led to it."""


def send_rates(store: Store) -> SendRates:
    """The resource that gives each phone number its rate."""
    return SendRates(lambda phone_number_id, per_second: StoreSendRate(store, phone_number_id, per_second))


class StoreSendRate:
    """Of one phone number; `per_second` is WhatsApp's limit. Methods raise StoreError kinds."""

    def __init__(self, store: Store, phone_number_id: str, per_second: float) -> None:
        self._store = store
        self._keys = (keys.send_rate(phone_number_id),)
        self._limit = per_second

    async def take(self, wanted: int) -> Slots:
        """When the next sends of this daemon may start; at most so many, perhaps none yet."""
        count, first_us, between_us = await self._store.call(
            "take_sends", self._keys, (self._limit, wanted, AHEAD_MS, LATE_MS)
        )
        return Slots(count, first_us / 1e6, between_us / 1e6)

    async def received(self, count: int) -> None:
        """So many messages came in: WhatsApp counts them with those that go out."""
        await self._store.call("count_received", self._keys, (self._limit, count))

    async def refused(self, posted_seconds_ago: float) -> float | None:
        """WhatsApp refused a message for the rate: halves it.

        Returns the rate from now on; None where an earlier refusal of the same moment has halved it.
        """
        args = (self._limit, round(posted_seconds_ago * 1000), SAME_MOMENT_MS)
        halved, thousandths = await self._store.call("halve_sends", self._keys, args)
        return thousandths / 1000 if halved else None
