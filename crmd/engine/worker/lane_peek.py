"""Wakes a worker when something arrives in an empty lane, without taking it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from crmd.engine.store.client import Store

BLOCK_S = 30
"""A peek may be cut at any time: moving a list's head to its own head takes nothing."""
REPLY_GRACE_S = 5.0
FALLBACK_S = 1.0
"""Where the peek is refused (wrong type, memory limit) the queue is looked at once a second."""


class Peek:
    """Waits with BLMOVE from the head of a lane to the same head, while it is wanted."""

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
                    if await self._peek():
                        self._wanted.clear()
                        self._on_arrival()
                except (RedisError, OSError, TimeoutError):
                    await self._disconnect()
                    await asyncio.sleep(FALLBACK_S)
                    self._on_arrival()
        finally:
            await self._disconnect()

    async def _peek(self) -> bool:
        if self._connection is None:
            self._connection = await self._store.dedicated_connection()
        await self._connection.send_command("BLMOVE", self._lane, self._lane, "LEFT", "LEFT", BLOCK_S)
        async with asyncio.timeout(BLOCK_S + REPLY_GRACE_S):
            return await self._connection.read_response() is not None

    async def _disconnect(self) -> None:
        if self._connection:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)
