"""One connection that carries the commands of a whole turn of the event loop in one trip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import DataError, RedisError, ResponseError

Command = tuple[Any, ...]
Waiting = tuple[bytes, asyncio.Future[Any]]
"""A command, packed, and who waits for its reply."""

MAX_COMMANDS_PER_TRIP = 256
"""Bounds how long one trip holds the store and how much waits in a socket buffer."""


class Link:
    """Sends what was submitted meanwhile in one trip, one trip at a time, answers in order.

    A trip that fails fails all its commands and breaks the link for good; its owner makes another.
    """

    def __init__(
        self, connection: AbstractConnection, reply_timeout: float, on_broken: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._on_broken = on_broken
        connection.socket_timeout = None  # one time limit for a trip costs less than one for each reply
        self._reply_timeout = reply_timeout
        self._pending: list[Waiting] = []
        self._submitted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.broken: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Begins to carry commands."""
        self._task = asyncio.create_task(self._run(), name="store link")

    async def stop(self) -> None:
        """Closes the connection; what still waits fails."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
        await self._connection.disconnect(nowait=True)
        self._break(ConnectionError("the connection was closed"))

    def give_up(self, error: Exception) -> None:
        """Breaks the link for a reply that says that the store cannot serve, as that of a read-only replica."""
        self._break(error)

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """Queues a command for the next trip; the future gives its reply, or a redis error.

        DataError says that the command holds what cannot be sent, such as a lone surrogate.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.broken.done():
            future.set_exception(ConnectionError(str(self.broken.result())))
            return future
        try:
            packed = hiredis.pack_command(command)
        except (UnicodeEncodeError, TypeError) as error:  # fails this command alone, not the whole trip
            future.set_exception(DataError(str(error)))
            return future
        self._pending.append((packed, future))
        self._submitted.set()
        return future

    async def _run(self) -> None:
        while True:
            await self._submitted.wait()
            batch = self._pending[:MAX_COMMANDS_PER_TRIP]
            del self._pending[:MAX_COMMANDS_PER_TRIP]
            if not self._pending:
                self._submitted.clear()
            try:
                async with asyncio.timeout(self._reply_timeout):
                    await self._trip(batch)
            except (RedisError, OSError, asyncio.IncompleteReadError) as error:
                if isinstance(error, TimeoutError):
                    error = TimeoutError(f"no reply within {self._reply_timeout:g} s")
                self._fail(batch, error)
                self._break(error)
                return
            except asyncio.CancelledError:
                self._fail(batch, ConnectionError("the connection was closed"))
                raise

    async def _trip(self, batch: list[Waiting]) -> None:
        connection = self._connection
        await connection.send_packed_command(b"".join([packed for packed, _ in batch]), check_health=False)
        for _, future in batch:
            try:
                reply = await connection.read_response(disable_decoding=True)
            except ResponseError as error:
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(reply)

    def _break(self, error: Exception) -> None:
        if not self.broken.done():
            self._on_broken()
            self.broken.set_result(error)
        pending, self._pending = self._pending, []
        self._fail(pending, error)

    def _fail(self, batch: list[Waiting], error: Exception) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(ConnectionError(str(error)))
                future.exception()  # a caller that left must not make the loop complain
