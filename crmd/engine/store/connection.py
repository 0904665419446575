"""One connection that carries all commands of one turn of the event loop in one write.

The only file that uses what redis-py keeps private: the transport under an open connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import hiredis
import redis
from redis.asyncio.connection import AbstractConnection, DefaultParser
from redis.exceptions import DataError, InvalidResponse, RedisError, ResponseError

Command = tuple[Any, ...]

_log = logging.getLogger(__name__)


class PipelinedConnection(asyncio.Protocol):
    """Sends the commands submitted in one turn of the loop as one write; replies come in order.

    It takes over an open connection of redis-py, whose streams cost more for each trip than the trip itself. Many
    writes may be under way. Once broken it fails all commands that wait, for good; its owner opens another.
    """

    def __init__(
        self, connection: AbstractConnection, reply_timeout_s: float, on_broken: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connection = connection
        self._reply_timeout_s = reply_timeout_s
        self._on_broken = on_broken
        self._reader = hiredis.Reader(protocolError=InvalidResponse, replyError=DefaultParser.parse_error)
        self._transport: _Writable | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._answered_at = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self.broken: asyncio.Future[Exception] = self._loop.create_future()

    def start(self) -> None:
        """Takes over the connection; where redis-py has changed inside, uses it by its public methods instead."""
        transport = _transport_of(self._connection)
        if transport is None:
            _log.warning(
                "redis-py %s keeps its transport where crmd does not find it: the store is used by slower, public "
                "methods; install a version of redis that crmd names in its dependencies",
                redis.__version__,
            )
            self._transport = _Streams(self._connection, self._reply, self._break)
        else:
            self._transport = transport
            transport.set_protocol(self)

    async def stop(self) -> None:
        """Closes the connection; commands that wait fail. Idempotent."""
        self._break(ConnectionError("the connection was closed"))
        await self._connection.disconnect(nowait=True)

    def give_up(self, error: Exception) -> None:
        """Breaks it for a reply that says that the store cannot serve, such as that of a read-only replica."""
        self._break(error)

    def submit(self, command: Command) -> asyncio.Future[Any]:
        """Sends a command with the others of this turn; the future gives its reply, or a redis error.

        DataError says that the command holds a value that cannot be sent, such as a lone surrogate.
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
        """Fails all commands that wait for their reply."""
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
            self._watch = self._loop.call_later(self._reply_timeout_s, self._check)

    def _reply(self, reply: Any) -> None:
        """As `data_received`, for a reply that was read already."""
        self._answered_at = self._loop.time()
        if not self._waiting:
            self._break(ConnectionError("the store's reply cannot be read: one too many"))
        elif not (future := self._waiting.popleft()).done():
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)

    def _check(self) -> None:
        """Breaks a connection whose store says nothing although it is asked; one timer serves all commands."""
        self._watch = None
        if not self._waiting or self.broken.done():
            return
        silence_s = self._loop.time() - self._answered_at
        if silence_s >= self._reply_timeout_s:
            self._break(TimeoutError(f"no reply within {self._reply_timeout_s:g} s"))
        else:
            self._watch = self._loop.call_later(self._reply_timeout_s - silence_s, self._check)

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


class _Writable(Protocol):
    """What a pipelined connection needs of a transport."""

    def write(self, data: bytes) -> None:
        """Sends, without waiting."""

    def abort(self) -> None:
        """Closes at once. Idempotent."""


class _Streams:
    """Stands in for a transport by redis-py's public methods, one task for each direction."""

    def __init__(
        self,
        connection: AbstractConnection,
        on_reply: Callable[[Any], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        connection.socket_timeout = None  # an idle connection is not a broken one; `_check` watches over replies
        self._connection = connection
        self._on_reply = on_reply
        self._on_broken = on_broken
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._tasks = [asyncio.create_task(work(), name="store stream") for work in (self._send, self._receive)]

    def write(self, data: bytes) -> None:
        """Sends, without waiting."""
        self._unsent.put_nowait(data)

    def abort(self) -> None:
        """Ends both directions; the owner of the connection closes it. Idempotent."""
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()

    async def _send(self) -> None:
        try:
            while True:
                await self._connection.send_packed_command(await self._unsent.get(), check_health=False)
        except (RedisError, OSError) as error:
            self._on_broken(ConnectionError(str(error)))

    async def _receive(self) -> None:
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disable_decoding=True, disconnect_on_error=False)
                except ResponseError as error:
                    reply = error
                self._on_reply(reply)
        except (RedisError, OSError) as error:
            self._on_broken(ConnectionError(str(error)))


def _transport_of(connection: AbstractConnection) -> Any:
    """The transport under an open connection, to which redis-py has no public way; None where it is not found."""
    transport = getattr(getattr(connection, "_writer", None), "transport", None)
    # Not by its class: uvloop's transports are none of asyncio's.
    usable = all(callable(getattr(transport, name, None)) for name in ("write", "abort", "set_protocol"))
    return transport if usable else None
