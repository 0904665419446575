"""Spaces outgoing messages evenly, at a rate that all daemons share."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from crmd.engine.store import keys
from crmd.engine.store.client import Store
from crmd.errors import StoreError

LEAD_SECONDS = 0.005
"""Slots are handed out this long in advance: a trip to the store still lies between slot and request."""
LATE_SECONDS = 0.025
"""A slot that this process missed by more is lost: made up for, it would leave together with later ones."""
SHORTEST_ASK_SECONDS = 0.002
FIRST_PREPARATION_SECONDS = 0.1
"""Until it was seen how long a message takes from its place in line to its slot."""
LONGEST_PREPARATION_SECONDS = 1.0

AHEAD_MS = 20
"""How far ahead starts are given out."""
LATE_MS = 20
"""A start missed by so little is made up for: a daemon asks for the next ones while the last is on its way."""
SAME_MOMENT_MS = 250
"""Refusals of messages that started up to this long after a cut say what led to it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Slots:
    """When the next sends may start."""

    count: int
    """0: none yet."""
    first_seconds: float
    """Until the first; where there is none, until it is worth asking again."""
    between_seconds: float


class SendRate:
    """The rate of one phone number, which all daemons share by the store's clock. Methods raise StoreError kinds.

    `per_second` is WhatsApp's limit.
    """

    def __init__(self, store: Store, phone_number_id: str, per_second: float) -> None:
        self._store = store
        self._keys = (keys.send_rate(phone_number_id),)
        self._limit = per_second

    async def take(self, wanted: int) -> Slots:
        """When the next sends of this daemon may start; at most this many, perhaps none yet."""
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


class SendLine:
    """Where messages of one daemon wait for their slots, first in, first out.

    A message first takes a place and is prepared (its row is written), then waits for its slot. Only as many have
    a place as are sent while one is prepared: what was prepared when the daemon dies is unknown.
    """

    def __init__(
        self, rate: SendRate | None, per_second: float = 0.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Without a rate nothing waits."""
        self._rate = rate
        self._clock = clock
        self._between_seconds = 1 / per_second if per_second else 0.0
        self._preparation_seconds = FIRST_PREPARATION_SECONDS
        self._prepared = 0
        self._outside: deque[asyncio.Future[None]] = deque()
        self._due: deque[asyncio.Future[float]] = deque()
        self._giving: asyncio.Task[None] | None = None

    @property
    def has_place(self) -> bool:
        """Whether a message would get a place at once."""
        return self._rate is None or not (self._outside or self._prepared >= self._places)

    async def place(self) -> Place:
        """A place, once one is free."""
        if not self.has_place:
            waiting = asyncio.get_running_loop().create_future()
            self._outside.append(waiting)
            try:
                await waiting
            except asyncio.CancelledError:
                if waiting.done() and not waiting.cancelled():
                    self._leave()  # the place came at the same time
                raise
        else:
            self._prepared += 1
        return Place(self)

    async def refused(self, posted_at: float) -> None:
        """A message that started then, by this line's clock, was refused for the rate."""
        if self._rate is None:
            return
        try:
            per_second = await self._rate.refused(self._clock() - posted_at)
        except StoreError as error:
            _log.warning("the rate of sends could not be halved: %s", error)
            return
        if per_second is not None:
            _log.warning("WhatsApp refused a message for the number's rate: %.1f/s from now on", per_second)

    @property
    def _places(self) -> int:
        """As many as leave in the time that it takes to prepare one, rounded up, and two more that are ready."""
        seconds = min(self._preparation_seconds, LONGEST_PREPARATION_SECONDS)
        return 2 + math.ceil(seconds / self._between_seconds) if self._between_seconds else 1_000_000

    async def _slot(self, taken_at: float) -> float:
        """When the request is to start; returned LEAD_SECONDS before."""
        now = self._clock()
        if self._rate is None:
            return now
        self._preparation_seconds += (now - taken_at - self._preparation_seconds) / 8
        due: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._due.append(due)
        if self._giving is None or self._giving.done():
            self._giving = asyncio.create_task(self._give(self._rate))
        return await due

    def _leave(self) -> None:
        self._prepared -= 1
        while self._outside and self._prepared < self._places:
            waiting = self._outside.popleft()
            if not waiting.done():
                self._prepared += 1
                waiting.set_result(None)

    async def _give(self, rate: SendRate) -> None:
        """Hands out slots as long as somebody waits for one."""
        try:
            while wanted := self._wanted():
                asked_at = self._clock()  # not when the answer was read: where that is late, so is the slot
                slots = await self._take(rate, wanted, asked_at)
                first_at = asked_at + slots.first_seconds
                if not slots.count:
                    await asyncio.sleep(max(slots.first_seconds, SHORTEST_ASK_SECONDS))
                for number in range(slots.count):
                    at = first_at + number * slots.between_seconds
                    await asyncio.sleep(max(0.0, at - LEAD_SECONDS - self._clock()))
                    if self._clock() <= at + LATE_SECONDS and self._wanted():
                        self._due.popleft().set_result(at)
        except Exception as error:  # whatever it is, those who wait have to hear of it
            while self._wanted():
                self._due.popleft().set_exception(error)

    async def _take(self, rate: SendRate, wanted: int, asked_at: float) -> Slots:
        try:
            slots = await rate.take(wanted)
        except StoreError:
            # The few that are prepared leave at half the rate: others do not begin while the store is unavailable.
            return Slots(1, self._clock() - asked_at + 2 * self._between_seconds, 0.0)
        self._between_seconds = slots.between_seconds
        return slots

    def _wanted(self) -> int:
        """How many wait; those at the head that were cancelled are forgotten."""
        while self._due and self._due[0].done():
            self._due.popleft()
        return len(self._due)


class Place:
    """One message's place in line, left with the slot or with the block."""

    def __init__(self, line: SendLine) -> None:
        self._line = line
        self._taken_at = line._clock()
        self._left = False

    async def slot(self) -> float:
        """Waits for the slot: when the request is to start, on the line's clock, a moment from now."""
        at = await self._line._slot(self._taken_at)
        self._leave()
        return at

    def _leave(self) -> None:
        if not self._left:
            self._left = True
            self._line._leave()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()
