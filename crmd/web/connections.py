"""Bounds what connections may cost: how many there are, and how long one may keep us waiting.

aiohttp times out neither headers nor stalled readers. Each connection's protocol is wrapped here, and the
middleware says when a request's headers have come.

Whoever connects is let in. When all places are taken, a connection gives way that waits for its client: one
without a request first, then one whose client does not read, then the slowest body. Where there is none, the
newcomer gets one of the spare places, in which probes are answered and everything else is told to come back.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web

from crmd.web.peers import Peers, client_group, parse_address
from crmd.web.portions import PORTION_LINES, Portions, has_many_lines, next_lines, portion_end
from crmd.web.problems import Problem

MAX_CONNECTIONS = 1024
"""A program that sends its requests at once has hundreds from one address."""
SPARE_CONNECTIONS = 128
"""Beyond them, for requests that are not known yet."""
SHARE_PER_ADDRESS = 0.25
"""From this part of all on, one client makes room at its own cost. Loopback and trusted proxies stand for many."""
MAX_SLOW_BODIES = 128
"""Each may hold some megabytes in memory."""
FIRST_REQUEST_SECONDS = 10.0
"""From the connection to the end of its first request's headers. Later ones have aiohttp's keep-alive timeout."""
STALL_SECONDS = 30.0
"""How long a client may not read what we send."""
REQUEST_GRACE_SECONDS = 0.25
"""Who has connected so lately does not give way for want of a request, unless the spare places are taken too."""
GRACE_SECONDS = 1.0
"""Who has not read for less, or not sent a body for less, does not give way."""
SLOW_BODY_SECONDS = 5.0
"""From then on a body is slow, where there is room for it otherwise."""
LOOKED_AT = 64
"""Bodies that are compared to find the slowest."""
LOOK_SECONDS = (0.0, 0.0, 0.0, 0.001, 0.003, 0.01, 0.03)
"""When we look whether aiohttp, which had enough of a body, takes more of it; the last one repeats."""
LINGER_SECONDS = 1.0
"""How long one that gives way, or whose body is not read to its end, may take to read why."""


def affordable_connections() -> int:
    """MAX_CONNECTIONS, or half of the files that this process may open where that is less."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(32, soft // 2))


class Connections:
    """All connections of one server."""

    def __init__(
        self,
        peers: Peers,
        *,
        most: int = MAX_CONNECTIONS,
        spare: int = SPARE_CONNECTIONS,
        most_slow_bodies: int = MAX_SLOW_BODIES,
        first_request_seconds: float = FIRST_REQUEST_SECONDS,
        stall_seconds: float = STALL_SECONDS,
        request_grace_seconds: float = REQUEST_GRACE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
        slow_body_seconds: float = SLOW_BODY_SECONDS,
    ) -> None:
        self.most = most
        self.first_request_seconds = first_request_seconds
        self.stall_seconds = stall_seconds
        self.portions = Portions()
        self._peers = peers
        self._spare = spare
        self._share = max(1, int(most * SHARE_PER_ADDRESS))
        self._most_slow_bodies = most_slow_bodies
        self._request_grace_seconds = request_grace_seconds
        self._grace_seconds = grace_seconds
        self._slow_body_seconds = slow_body_seconds
        self._by_transport: dict[asyncio.BaseTransport, _Connection] = {}
        self._by_client: Counter[str] = Counter()
        self._waiting: OrderedDict[_Connection, float] = OrderedDict()
        """Without a request, the longest first, and since when."""
        self._stalled: OrderedDict[_Connection, None] = OrderedDict()
        """With an answer that is not read, the longest first."""
        self._bodies: dict[_Connection, None] = {}
        """With a request whose body is not whole, or was not when it was last looked at; the oldest first."""
        self._trim: asyncio.TimerHandle | None = None

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
    async def request(self, request: web.Request) -> AsyncIterator[None]:
        """Around the handling of a request: meanwhile its connection gives way for a slow body at most."""
        connection = self._of(request)
        if connection is None:
            yield
            return
        connection.begin_request(request)
        self._waiting.pop(connection, None)
        if not request.content.is_eof():
            self._bodies[connection] = None
            self._trim_bodies()
        try:
            yield
        finally:
            self._bodies.pop(connection, None)
            connection.end_request()
            if connection.transport in self._by_transport:
                self._waiting[connection] = time.monotonic()

    def has_room(self) -> bool:
        """Whether a request may be handled that is no probe; makes room where that is possible."""
        return len(self) <= self.most or self._evict(None)

    async def gone(self, request: web.Request) -> None:
        """Waits until a request's client has closed the connection, or lost it."""
        connection = self._of(request)
        if connection is not None:
            await connection.lost.wait()

    def admit(self, connection: _Connection) -> bool:
        """Takes a new connection in, if need be in place of another; False when the spare places are taken too."""
        client = self._limited_client(connection.transport)
        if len(self) >= self.most:
            at_own_cost = client if client and self._by_client[client] >= self._share else None
            full = not self._evict(at_own_cost) and len(self) >= self.most + self._spare
            # A flood: whoever has sent nothing gives way, however new the connection is.
            if full and not self._evict_waiting(None, 0.0):
                return False
        connection.client = client
        self._by_client[client] += 1
        self._by_transport[connection.transport] = connection
        self._waiting[connection] = time.monotonic()
        return True

    def forget(self, connection: _Connection) -> None:
        """Strikes a connection off; fine twice."""
        if self._by_transport.pop(connection.transport, None) is None:
            return
        self._waiting.pop(connection, None)
        self._stalled.pop(connection, None)
        self._bodies.pop(connection, None)
        self._by_client[connection.client] -= 1
        if not self._by_client[connection.client]:
            del self._by_client[connection.client]

    def note_reading(self, connection: _Connection, *, reads: bool) -> None:
        """A client has stopped to read what we send, or goes on."""
        if reads:
            self._stalled.pop(connection, None)
        elif connection.transport in self._by_transport:
            self._stalled[connection] = None

    def _of(self, request: web.Request) -> _Connection | None:
        return self._by_transport.get(request.transport) if request.transport else None

    def _evict(self, client: str | None) -> bool:
        """Makes one connection give way, of one client or whosesoever; False where none can."""
        if self._evict_waiting(client, self._request_grace_seconds):
            return True
        now = time.monotonic()
        for connection in _of_client(self._stalled, client):
            if now - connection.stalled_at >= self._grace_seconds:
                self.forget(connection)
                connection.transport.abort()
                return True
        return self._cut_slowest_body(client, self._grace_seconds)

    def _evict_waiting(self, client: str | None, after_seconds: float) -> bool:
        until = time.monotonic() - after_seconds
        for connection in _of_client(self._waiting, client):
            if self._waiting[connection] > until:
                return False
            # One with unsent data has been served, and its answer is still on the way.
            if not connection.transport.get_write_buffer_size():
                self.forget(connection)
                connection.transport.close()
                return True
        return False

    def _trim_bodies(self) -> None:
        """Holds the slow bodies to their number: now, and again while young ones are too many."""
        if self._trim:
            self._trim.cancel()
            self._trim = None
        if len(self._bodies) <= self._most_slow_bodies:
            return
        for connection in [one for one in self._bodies if one.has_whole_body()]:
            del self._bodies[connection]
        while len(self._bodies) > self._most_slow_bodies:
            if not self._cut_slowest_body(None, self._slow_body_seconds):
                loop = asyncio.get_running_loop()
                self._trim = loop.call_later(self._grace_seconds, self._trim_bodies)
                return

    def _cut_slowest_body(self, client: str | None, after_seconds: float) -> bool:
        """The slowest of the first LOOKED_AT that have taken so long gives way; False where there is none."""
        now = time.monotonic()
        slow: list[_Connection] = []
        for connection in _of_client(tuple(self._bodies), client):
            if len(slow) == LOOKED_AT or now - connection.began_at < after_seconds:
                break
            if connection.has_whole_body():
                del self._bodies[connection]
            else:
                slow.append(connection)
        if not slow:
            return False
        slowest = min(slow, key=lambda connection: connection.body_rate(now))
        self.forget(slowest)
        slowest.cut_body()
        return True

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
        self.lost = asyncio.Event()
        self.began_at = 0.0
        """When its request began, on `time.monotonic()`."""
        self.stalled_at = 0.0
        self._owner = owner
        self._inner = inner
        self._listens = False
        self._admitted = False
        self._request: web.Request | None = None
        self._answered = False
        self._length = 0
        """The request's Content-Length, 0 where there is none."""
        self._backlog = b""
        """Received, and fed to aiohttp up to an offset. While there is one, we hold the reading."""
        self._fed = 0
        self._portion_lines = PORTION_LINES
        self._looks = 0
        self._inner_holds = False
        """Whether aiohttp holds the reading as well."""
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def begin_request(self, request: web.Request) -> None:
        """A request's headers have come, the first one's in time."""
        self.began_at = time.monotonic()
        self._request = request
        self._answered = False
        self._length = 0 if "Transfer-Encoding" in request.headers else request.content_length or 0
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def end_request(self) -> None:
        """The request is answered. What is left of its body is not parsed where that takes long."""
        self._answered = True
        if self._backlog and not self.has_whole_body():
            self._stop_listening()

    def has_whole_body(self) -> bool:
        """Whether nothing of the request's body is outstanding."""
        return self._request is None or self._request.content.is_eof()

    @property
    def body_bytes(self) -> int:
        """How much of the request's body has come."""
        return self._request.content.total_bytes if self._request else 0

    def body_rate(self, now: float) -> float:
        """Bytes of the body a second since the request began."""
        return self.body_bytes / max(now - self.began_at, 0.001)

    def cut_body(self) -> None:
        """Ends the request: whoever reads its body gets a Problem 408."""
        if self._request is not None:
            detail = "the body came too slowly while others waited; send it again"
            headers = {"Connection": "close", "Retry-After": "1"}
            self._request.content.set_exception(Problem(408, detail, headers=headers))
        self._stop_listening()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._admitted = self._listens = self._owner.admit(self)
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
        self._listens = False
        self._backlog = b""
        self.lost.set()
        if self._admitted:
            self._owner.forget(self)
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if not self._listens:
            return
        if self._backlog:
            # aiohttp has resumed the reading, as it does at the end of a body and when it takes more.
            self._backlog, self._fed = self._backlog[self._fed :] + data, 0
            self._inner_holds = False
            self.transport.pause_reading()
        elif len(data) <= self._body_left() or not has_many_lines(data):
            self._inner.data_received(data)
        elif self._answered and not self.has_whole_body():
            self._stop_listening()
        else:
            self._backlog, self._fed = data, 0
            self._inner_holds = False
            self.transport.pause_reading()
            self._owner.portions.add(self)

    def feed_portion(self) -> bool:
        """Feeds aiohttp a portion of the backlog; whether another can follow in the same turn."""
        if not self._backlog or self.transport.is_closing():
            self._backlog = b""
            return False
        if self._inner_holds and not self.transport.is_reading():
            self._look_later()
            return False
        end = max(portion_end(self._backlog, self._fed, self._portion_lines), self._fed + self._body_left())
        portion = self._backlog[self._fed : end]
        self._fed = end
        last = end >= len(self._backlog)
        if last:
            self._backlog = b""
        # So that it shows afterwards whether aiohttp has paused it.
        self.transport.resume_reading()
        began = time.monotonic()
        try:
            self._inner.data_received(portion)
        except BaseException:
            self.transport.abort()
            raise
        self._portion_lines = next_lines(self._portion_lines, time.monotonic() - began)
        if last or self.transport.is_closing():
            return False
        self._inner_holds = not self.transport.is_reading()
        self.transport.pause_reading()
        if self._inner_holds:
            self._looks = 0
            self._look_later()
        return not self._inner_holds

    def _look_later(self) -> None:
        seconds = LOOK_SECONDS[min(self._looks, len(LOOK_SECONDS) - 1)]
        self._looks += 1
        asyncio.get_running_loop().call_later(seconds, self._owner.portions.add, self)

    def _stop_listening(self) -> None:
        """Reads on and drops it, so that the client reads our answer, and then closes the connection."""
        self._listens = False
        self._backlog = b""
        if self._request is not None:
            self._request.content.feed_eof()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self.transport.abort)

    def _body_left(self) -> int:
        """How much has to come of a body whose length is known: one call of the parser, whatever is in it."""
        return max(0, self._length - self.body_bytes) if self._length else 0

    def eof_received(self) -> None:
        if self._admitted:
            self._inner.eof_received()

    def pause_writing(self) -> None:
        if self._admitted:
            self.stalled_at = time.monotonic()
            self._owner.note_reading(self, reads=False)
            self._stall = asyncio.get_running_loop().call_later(self._owner.stall_seconds, self.transport.abort)
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._stall:
            self._stall.cancel()
            self._stall = None
        if self._admitted:
            self._owner.note_reading(self, reads=True)
            self._inner.resume_writing()


def _of_client(connections: Iterable[_Connection], client: str | None) -> Iterator[_Connection]:
    return (connection for connection in connections if client in (None, connection.client))
