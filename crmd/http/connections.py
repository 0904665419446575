"""Limits what connections may cost: how many there are, and how long one may keep us waiting.

aiohttp times out neither headers nor stalled readers. Each connection's protocol is wrapped here, and the
middleware says when a request's headers have come.

Whoever connects is let in. When all places are taken, a connection gives way that waits for its client: one
without a request first, then one whose client does not read, then the slowest body. Where there is none, the
newcomer gets one of the spare places, in which probes are answered and everything else is told to come back.

Bodies are also weighed: what all of them hold in memory is bounded, and over that those that cost most give way.
"""

from __future__ import annotations

import asyncio
import resource
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import cast

from aiohttp import web

from crmd.http.peers import Peers, client_group, parse_address
from crmd.http.portions import PORTION_LINES, Portions, Turns, has_many_lines, next_lines, portion_end
from crmd.http.problems import HttpProblem

MAX_CONNECTIONS = 1024
"""A program that sends its requests at once has hundreds from one address."""
SPARE_CONNECTIONS = 128
"""Beyond them, for requests that are not known yet."""
SHARE_PER_ADDRESS = 0.25
"""From this part of all on, one client makes room at its own cost. Loopback and trusted proxies stand for many."""
MAX_SLOW_BODIES = 128
"""Each may hold some megabytes in memory."""
MAX_BODY_BYTES = 256 * 1024 * 1024
"""Held of all bodies together: 32 of the largest that a request may have."""
MADE_ROOM = 7 / 8
"""Of it is left to bodies once some have given way, so that not each piece that comes has us compare all."""
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
LINGER_TIMES = 10
"""So often it gets as long again, as many clients read only once they have sent everything."""
LINGER_BYTES = 64 * 1024
"""For that it has to have sent this much meanwhile."""
MAX_LINGERING = 1024
"""With a body that was cut, and time to read why, beside those that count. Of more, the first are closed."""


def affordable_connections() -> int:
    """MAX_CONNECTIONS, or half of the files that this process may open where that is less."""
    return _affordable(MAX_CONNECTIONS, 2)


def affordable_lingering() -> int:
    """MAX_LINGERING, or a quarter of the files that this process may open where that is less."""
    return _affordable(MAX_LINGERING, 4)


def _affordable(wanted: int, part: int) -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(32, soft // part))


class Connections:
    """All connections of one server."""

    def __init__(
        self,
        peers: Peers,
        *,
        most: int = MAX_CONNECTIONS,
        spare: int = SPARE_CONNECTIONS,
        most_slow_bodies: int = MAX_SLOW_BODIES,
        most_body_bytes: int = MAX_BODY_BYTES,
        most_lingering: int = MAX_LINGERING,
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
        self.turns = Turns()
        self._peers = peers
        self._spare = spare
        self._share = max(1, int(most * SHARE_PER_ADDRESS))
        self._most_slow_bodies = most_slow_bodies
        self._most_body_bytes = most_body_bytes
        self._most_lingering = most_lingering
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
        self._lingering: dict[_Connection, None] = {}
        """With a body that was cut, and not closed yet; the longest first."""
        self._body_bytes = 0
        """What the bodies of all requests under way hold, whole ones too."""
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
    async def request(self, request: web.Request, *, streamed: bool = False) -> AsyncIterator[None]:
        """Around the handling of a request: meanwhile its connection gives way for its body at most.

        A body that is streamed to disk is not weighed.
        """
        connection = self._of(request)
        if connection is None:
            yield
            return
        connection.begin_request(request, weighed=not streamed)
        self._waiting.pop(connection, None)
        if not request.content.is_eof():
            self._bodies[connection] = None
            self._trim_bodies()
        connection.weigh_body()
        try:
            yield
        finally:
            self._bodies.pop(connection, None)
            connection.free_body()
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

    async def next_piece(self, request: web.Request) -> None:
        """Waits for the turn of a request to take more of its body, or until the body is cut."""
        connection = self._of(request)
        await (connection.next_piece() if connection is not None else asyncio.sleep(0))

    def free_body(self, request: web.Request) -> None:
        """A request that lasts does not hold its body any more."""
        connection = self._of(request)
        if connection is not None:
            connection.free_body()

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
        """Strikes a connection off; idempotent."""
        self._lingering.pop(connection, None)
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

    def add_body_bytes(self, count: int) -> None:
        """Bodies hold this much more, or less; over the limit, the bodies that cost most give way at once."""
        self._body_bytes += count
        if count <= 0 or self._body_bytes <= self._most_body_bytes:
            return
        now = time.monotonic()
        coming = [one for one in self._bodies if one.held_bytes and not one.has_whole_body()]
        coming.sort(key=lambda connection: connection.body_cost(now))
        while coming and self._body_bytes > self._most_body_bytes * MADE_ROOM:
            self._cut(coming.pop(), "too many large bodies came at once; send it again")

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
        self._cut(slowest, "the body came too slowly while others waited; send it again")
        return True

    def _cut(self, connection: _Connection, detail: str) -> None:
        self.forget(connection)
        if len(self._lingering) >= self._most_lingering:
            first = next(iter(self._lingering))
            del self._lingering[first]
            first.transport.abort()
        self._lingering[connection] = None
        connection.cut_body(detail)

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
        self._turn: asyncio.Future[None] | None = None
        """While whoever reads the body waits for its turn."""
        self.began_at = 0.0
        """When its request began, on `time.monotonic()`."""
        self.stalled_at = 0.0
        self.held_bytes = 0
        """What of its request's body is in memory, as far as it was weighed."""
        self._owner = owner
        self._inner = inner
        self._listens = False
        self._admitted = False
        self._request: web.Request | None = None
        self._answered = False
        self._weighed = False
        """Whether more of the body is to be weighed as it comes."""
        self._length = 0
        """The request's Content-Length, 0 where there is none."""
        self._backlog = b""
        """Received, and fed to aiohttp up to an offset. While there is one, we hold the reading."""
        self._fed = 0
        self._portion_lines = PORTION_LINES
        self._looks = 0
        self._dropped_bytes = 0
        """Since it was last looked at."""
        self._inner_holds = False
        """Whether aiohttp holds the reading as well."""
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None

    def begin_request(self, request: web.Request, *, weighed: bool) -> None:
        """A request's headers have come, the first one's in time."""
        self.began_at = time.monotonic()
        self._request = request
        self._answered = False
        self._weighed = weighed
        self._length = 0 if "Transfer-Encoding" in request.headers else request.content_length or 0
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def end_request(self) -> None:
        """The request is answered. What is left of its body is not parsed where that takes long."""
        self._answered = True
        if self._request is not None and isinstance(error := self._request.content.exception(), BaseException):
            error.__traceback__ = None  # it holds whoever read the body, and with them the request
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

    def body_cost(self, now: float) -> float:
        """Bytes held, times seconds: a body that was left lying costs more than one that comes in quickly."""
        return self.held_bytes * (now - self.began_at)

    def weigh_body(self) -> None:
        """Counts what has come of the body since it was last weighed."""
        if self._weighed and (more := self.body_bytes - self.held_bytes):
            self.held_bytes += more
            self._owner.add_body_bytes(more)

    def free_body(self) -> None:
        """The body is not held any more, and what still comes of it is not kept."""
        self._weighed = False
        self._owner.add_body_bytes(-self.held_bytes)
        self.held_bytes = 0

    async def next_piece(self) -> None:
        """Returns when it is this body's turn, or when it is cut."""
        self._turn = asyncio.get_running_loop().create_future()
        self._owner.turns.add(self._take_turn)
        await self._turn

    def _take_turn(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def cut_body(self, detail: str) -> None:
        """Ends the request: whoever reads its body gets an HttpProblem 408."""
        self.free_body()
        self._take_turn()
        if self._request is not None:
            headers = {"Connection": "close", "Retry-After": "1"}
            with suppress(RuntimeError):  # somebody waits for more: nothing is buffered
                self._request.content.read_nowait()
            self._request.content.set_exception(HttpProblem(408, detail, headers=headers, lingers=True))
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
        self._deadline = self._stall = None  # they refer to us
        self._listens = False
        self._backlog = b""
        self.lost.set()
        if self._admitted:
            self._owner.forget(self)
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if not self._listens:
            self._drop(len(data))
            return
        if self._backlog:
            # aiohttp has resumed the reading, as it does at the end of a body and when it takes more.
            self._backlog, self._fed = self._backlog[self._fed :] + data, 0
            self._inner_holds = False
            self.transport.pause_reading()
        elif len(data) <= self._body_left() or not has_many_lines(data):
            self._inner.data_received(data)
            self.weigh_body()
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
        self.weigh_body()
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
        asyncio.get_running_loop().call_later(LINGER_SECONDS, self._linger, LINGER_TIMES)

    def _linger(self, times: int) -> None:
        """Closes the connection, unless its client is still busy sending."""
        dropped, self._dropped_bytes = self._dropped_bytes, 0
        if dropped < LINGER_BYTES or not times:
            self.transport.abort()
        else:
            asyncio.get_running_loop().call_later(LINGER_SECONDS, self._linger, times - 1)

    def _drop(self, count: int) -> None:
        """Passes over what has come, and reads on in turn with everybody else's bodies."""
        self._dropped_bytes += count
        self.transport.pause_reading()
        self._owner.turns.add(self._read_on)

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.transport.resume_reading()

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
