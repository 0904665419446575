"""When a worker claims again: when asked to, when something is due or arrives, at once while jobs wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from crmd.engine.store.client import Store
from crmd.engine.store.limit_clock import CORRECTED, UNSURE
from crmd.engine.store.replies import Claimed

FOREVER = float("inf")
BLOCK_S = 30
"""A peek may be cut at any time: moving a list's head to its own head takes nothing."""
REPLY_GRACE_S = 5.0
FALLBACK_S = 1.0
"""Where the peek is refused (wrong type, memory limit) the queue is looked at once a second."""


class NextClaim:
    """When one worker claims next: at once, or at a time on the monotonic clock."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._at = FOREVER
        self.now = True
        """Whether to claim at once."""
        self.more = False
        """Whether the last claim left jobs that could start."""
        self.asked = 0
        """How often somebody asked: who asks while a claim is under way may have come too late for it."""

    @property
    def due(self) -> bool:
        """Whether to claim with the next trip."""
        return self.now or self._monotonic() >= self._at

    @property
    def delay(self) -> float | None:
        """Seconds until it is due; None where nothing is known to come."""
        return None if self._at == FOREVER else max(0.0, self._at - self._monotonic())

    def ask(self) -> None:
        """Has the worker claim at once, also where a claim is under way."""
        self.asked += 1
        self.now = True

    def ask_in(self, seconds: float) -> bool:
        """Claim at the latest in this many seconds; False where it is due sooner anyway."""
        at = self._monotonic() + seconds
        if at >= self._at:
            return False
        self._at = at
        return True

    def claiming(self) -> None:
        """A claim is under way: it does what was due."""
        if self._at <= self._monotonic():
            self._at = FOREVER

    def plan(self, claimed: Claimed, asked: int) -> float | None:
        """Takes in what a claim brought, begun at that count of `asked`; seconds until another may bring more."""
        self.more = claimed.reason == "ok"
        self.now = self.more or claimed.reason in (UNSURE, CORRECTED) or self.asked != asked
        return min((ms / 1000 for ms in (claimed.wait_ms, claimed.due_ms) if ms >= 0), default=None)


class LanePeek:
    """Tells when something arrives in an empty lane, without taking it.

    While it is wanted it waits with BLMOVE from the head of the lane to the same head.
    """

    def __init__(self, store: Store, lane: str, on_arrival: Callable[[], None]) -> None:
        self._store = store
        self._lane = lane
        self._on_arrival = on_arrival
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._connection: AbstractConnection | None = None

    def start(self) -> None:
        """Begins; waits until it is wanted."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"peek {self._lane}")

    def want(self, wanted: bool) -> None:
        """Whether the lane was empty, so that its first arrival is news."""
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    def stop(self) -> None:
        """Cuts the peek."""
        if self._task:
            self._task.cancel()

    async def closed(self) -> None:
        """Waits until the connection is closed."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        try:
            while True:
                await self._wanted.wait()
                await self._store.wait_connected()
                try:
                    if await self._wait_for_arrival():
                        self._wanted.clear()
                        self._on_arrival()
                except (RedisError, OSError, TimeoutError):
                    await self._disconnect()
                    await asyncio.sleep(FALLBACK_S)
                    self._on_arrival()
        finally:
            await self._disconnect()

    async def _wait_for_arrival(self) -> bool:
        if self._connection is None:
            self._connection = await self._store.dedicated_connection()
        await self._connection.send_command("BLMOVE", self._lane, self._lane, "LEFT", "LEFT", BLOCK_S)
        async with asyncio.timeout(BLOCK_S + REPLY_GRACE_S):
            return await self._connection.read_response() is not None

    async def _disconnect(self) -> None:
        if self._connection:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)
