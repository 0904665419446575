"""One connection that carries the commands of a whole turn of the event loop in one write."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import DataError, InvalidResponse

Command = tuple[Any, ...]


class Link(asyncio.Protocol):
    """Sends what was submitted in a turn of the loop as one write; answers come in order.

    It takes over an opened connection of redis-py, whose streams cost more for each trip than the trip itself.
    Many writes may be under way. A link that breaks fails all that waits, for good; its owner makes another.
    """

    def __init__(
        self, connection: AbstractConnection, reply_timeout: float, on_broken: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._reply_timeout = reply_timeout
        self._on_broken = on_broken
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._answered_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.broken: asyncio.Future[Exception] = self._loop.create_future()

    def start(self) -> None:
        """Takes over the connection."""
        # redis-py has no public way to its transport.
        self._transport = cast(asyncio.Transport, cast(Any, self._connection)._writer.transport)
        self._transport.set_protocol(self)

    async def stop(self) -> None:
        """Closes the connection; what still waits fails. Fine twice."""
        self._break(ConnectionError("the connection was closed"))
        await self._connection.disconnect(nowait=True)

    def give_up(self, error: Exception) -> None:
        """Breaks the link for a reply that says that the store cannot serve, as that of a read-only replica."""
        self._break(error)

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """Sends a command with this turn's others; the future gives its reply, or a redis error.

        DataError says that the command holds what cannot be sent, such as a lone surrogate.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.broken.done():
            future.set_exception(ConnectionError(str(self.broken.result())))
            return future
        try:
            packed = hiredis.pack_command(command)
        except (UnicodeEncodeError, TypeError) as error:  # fails this command alone, not the whole write
            future.set_exception(DataError(str(error)))
            return future
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(packed)
        self._waiting.append(future)
        return future

    def data_received(self, data: bytes) -> None:
        """Gives replies to those who wait for them."""
        reader, waiting = self._reader, self._waiting
        reader.feed(data)
        self._answered_at = self._loop.time()
        try:
            while (reply := reader.gets()) is not False:
                future = waiting.popleft()
                if future.done():
                    continue
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(reply)
        except (InvalidResponse, IndexError) as error:
            self._break(ConnectionError(f"the store's reply cannot be read: {error or 'one too many'}"))

    def eof_received(self) -> None:
        """The store closed the connection."""
        self._break(ConnectionError("Connection closed by server."))

    def connection_lost(self, error: Exception | None) -> None:
        """The connection broke."""
        self._break(ConnectionError(str(error) if error else "Connection closed by server."))

    def _send(self) -> None:
        packed, self._unsent = self._unsent, []
        if self._transport is None or self.broken.done():
            return
        try:
            self._transport.write(b"".join(packed))
        except (OSError, RuntimeError) as error:
            self._break(ConnectionError(str(error)))
            return
        if self._watch is None:
            self._answered_at = self._loop.time()
            self._watch = self._loop.call_later(self._reply_timeout, self._check)

    def _check(self) -> None:
        """Breaks a link whose store says nothing although it is asked; one timer serves all commands."""
        self._watch = None
        if not self._waiting or self.broken.done():
            return
        silence = self._loop.time() - self._answered_at
        if silence >= self._reply_timeout:
            self._break(TimeoutError(f"no reply within {self._reply_timeout:g} s"))
        else:
            self._watch = self._loop.call_later(self._reply_timeout - silence, self._check)

    def _break(self, error: Exception) -> None:
        if not self.broken.done():
            self._on_broken()
            self.broken.set_result(error)
        if self._watch:
            self._watch.cancel()
            self._watch = None
        if self._transport:
            self._transport.abort()
        self._unsent.clear()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(ConnectionError(str(error)))
                future.exception()  # a caller that left must not make the loop complain
