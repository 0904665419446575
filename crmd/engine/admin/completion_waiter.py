"""Waits for jobs to end: one subscribed connection for all waits of a process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from crmd.engine.store.client import Store
from crmd.errors import StoreError

T = TypeVar("T")

LOOK_EVERY_S = 2.0
"""A message may be lost with a connection: each wait looks for itself now and then."""


class CompletionWaiter:
    """Wakes waits when the store publishes a status of their job."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events: dict[str, set[asyncio.Event]] = {}
        self._connection: AbstractConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def wait(self, job_id: str, look: Callable[[], Awaitable[T | None]], timeout: float | None) -> T:
        """The first answer of `look` that is not None; raises TimeoutError after `timeout` seconds."""
        event = asyncio.Event()
        self._events.setdefault(job_id, set()).add(event)
        try:
            async with asyncio.timeout(timeout):
                await self._subscribe(job_id)
                while True:
                    event.clear()
                    if (answer := await look()) is not None:
                        return answer
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_EVERY_S):
                            await event.wait()
        finally:
            self._events[job_id].discard(event)
            if not self._events[job_id]:
                del self._events[job_id]
                await asyncio.shield(self._unsubscribe(job_id))

    async def stop(self) -> None:
        """Closes the connection. Idempotent."""
        async with self._lock:
            await self._close()

    async def _subscribe(self, job_id: str) -> None:
        async with self._lock:
            try:
                if self._connection is None:
                    self._connection = await self._store.dedicated_connection()
                    self._reader = asyncio.create_task(self._read(self._connection), name="waits")
                    await self._send("SUBSCRIBE", *self._events)
                else:
                    await self._send("SUBSCRIBE", job_id)
            except (RedisError, OSError) as error:
                await self._close()
                raise self._store.translate(error) from error

    async def _unsubscribe(self, job_id: str) -> None:
        async with self._lock:
            if not self._events:
                await self._close()
            elif self._connection is not None and job_id not in self._events:
                with contextlib.suppress(RedisError, OSError, StoreError):
                    await self._send("UNSUBSCRIBE", job_id)

    async def _send(self, *command: str) -> None:
        if self._connection is not None:
            await self._connection.send_command(*command, check_health=False)

    async def _read(self, connection: AbstractConnection) -> None:
        try:
            while True:
                kind, channel, *_ = await connection.read_response(disable_decoding=True)
                if kind == b"message":
                    for event in self._events.get(channel.decode(), ()):
                        event.set()
        except (RedisError, OSError):
            if self._connection is connection:
                self._connection, self._reader = None, None
            await connection.disconnect(nowait=True)

    async def _close(self) -> None:
        reader, self._reader = self._reader, None
        connection, self._connection = self._connection, None
        if reader:
            reader.cancel()
            await asyncio.wait([reader])
        if connection:
            await connection.disconnect(nowait=True)
