"""Bounds what connections may cost: how many there are, and how long one may keep us waiting.

aiohttp times out neither headers nor stalled readers. Each connection's protocol is wrapped here, and the
middleware says when a request's headers have come.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web

from crmd.web.peers import Peers, client_group, parse_address

MAX_CONNECTIONS = 256
MAX_PER_ADDRESS = 32
"""Of one client; loopback and trusted proxies stand for many and have only the total limit."""
FIRST_REQUEST_SECONDS = 10.0
"""From the connection to the end of its first request's headers. Later ones have aiohttp's keep-alive timeout."""
STALL_SECONDS = 30.0
"""How long a client may not read what we send."""


class Connections:
    """All connections of one server. When full, the one that has sent nothing for longest gives way."""

    def __init__(
        self,
        peers: Peers,
        *,
        most: int = MAX_CONNECTIONS,
        most_per_address: int = MAX_PER_ADDRESS,
        first_request_seconds: float = FIRST_REQUEST_SECONDS,
        stall_seconds: float = STALL_SECONDS,
    ) -> None:
        self.first_request_seconds = first_request_seconds
        self.stall_seconds = stall_seconds
        self._peers = peers
        self._most = most
        self._most_per_address = most_per_address
        self._by_transport: dict[asyncio.BaseTransport, _Connection] = {}
        self._by_client: Counter[str] = Counter()
        self._waiting: OrderedDict[_Connection, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_transport)

    @property
    def busy(self) -> int:
        """How many have a request under way."""
        return len(self) - len(self._waiting)

    def wrap(self, server: Callable[[], web.RequestHandler]) -> Callable[[], asyncio.Protocol]:
        """A protocol factory for `loop.create_server`, from aiohttp's."""
        return lambda: _Connection(self, server())

    @asynccontextmanager
    async def request(self, transport: asyncio.BaseTransport | None) -> AsyncIterator[None]:
        """Around the handling of a request: meanwhile its connection is not up for eviction."""
        connection = self._by_transport.get(transport) if transport else None
        if connection is None:
            yield
            return
        connection.begin_request()
        self._waiting.pop(connection, None)
        try:
            yield
        finally:
            if connection.transport in self._by_transport:
                self._waiting[connection] = None

    def admit(self, connection: _Connection) -> bool:
        """Takes a new connection in, if need be in place of a waiting one; False when all are busy."""
        client = self._limited_client(connection.transport)
        if client and self._by_client[client] >= self._most_per_address and not self._evict(client):
            return False
        if len(self) >= self._most and not self._evict(None):
            return False
        connection.client = client
        self._by_client[client] += 1
        self._by_transport[connection.transport] = connection
        self._waiting[connection] = None
        return True

    def forget(self, connection: _Connection) -> None:
        """Strikes a connection off; fine twice."""
        if self._by_transport.pop(connection.transport, None) is None:
            return
        self._waiting.pop(connection, None)
        self._by_client[connection.client] -= 1
        if not self._by_client[connection.client]:
            del self._by_client[connection.client]

    def _evict(self, client: str | None) -> bool:
        for connection in self._waiting:
            # One with unsent data has been served, and its answer is still on the way.
            if client in (None, connection.client) and not connection.transport.get_write_buffer_size():
                self.forget(connection)
                connection.transport.close()
                return True
        return False

    def _limited_client(self, transport: asyncio.Transport) -> str:
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        parsed = parse_address(address)
        if parsed is None or parsed.is_loopback or self._peers.trusts(address):
            return ""
        return client_group(address)


class _Connection(asyncio.Protocol):
    """Passes everything on to aiohttp's protocol, and keeps the time."""

    transport: asyncio.Transport

    def __init__(self, owner: Connections, inner: web.RequestHandler) -> None:
        self.client = ""
        self._owner = owner
        self._inner = inner
        self._admitted = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def begin_request(self) -> None:
        """The first request's headers have come in time."""
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._admitted = self._owner.admit(self)
        if not self._admitted:
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(self._owner.first_request_seconds, self.transport.close)
        self._inner.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        for timer in (self._deadline, self._stall):
            if timer:
                timer.cancel()
        if self._admitted:
            self._owner.forget(self)
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if self._admitted:
            self._inner.data_received(data)

    def eof_received(self) -> None:
        if self._admitted:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._admitted:
            self._stall = asyncio.get_running_loop().call_later(self._owner.stall_seconds, self.transport.abort)
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._stall:
            self._stall.cancel()
            self._stall = None
        if self._admitted:
            self._inner.resume_writing()
