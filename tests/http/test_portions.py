"""What takes long to parse is parsed in portions, and comes whole. Real sockets."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web as aioweb

from crmd.http.connections import Connections
from crmd.http.peers import Peers
from crmd.http.portions import LINE_BYTES, MOST_LINES, PORTION_LINES, Portions, next_lines, portion_end
from tests.support.rawhttp import RawConnection
from tests.support.wait import wait_until

CRUMBS = 20_000
TEXT = bytes(97 + number % 26 for number in range(CRUMBS))
HEAD = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
IN_CRUMBS = CHUNKED + b"".join(b"1\r\n%c\r\n" % letter for letter in TEXT) + b"0\r\n\r\n"


class Fed:
    """What aiohttp was given: the lines of each call, and those of each turn of the loop."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.turns: Counter[int] = Counter()
        self.turn = 0

    def note(self, data: bytes) -> None:
        lines = data.count(b"\n")
        self.calls.append(lines)
        self.turns[self.turn] += lines

    async def count_turns(self) -> None:
        while True:
            self.turn += 1
            await asyncio.sleep(0)


@pytest.fixture
async def fed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fed]:
    fed = Fed()
    receive = aioweb.RequestHandler.data_received

    def noting(self: aioweb.RequestHandler, data: bytes) -> None:
        fed.note(data)
        receive(self, data)

    monkeypatch.setattr(aioweb.RequestHandler, "data_received", noting)
    counter = asyncio.create_task(fed.count_turns())
    yield fed
    counter.cancel()


class Server:
    """Answers with the body, which it reads once it is told to."""

    def __init__(self) -> None:
        self.connections = Connections(Peers(()))
        self.connections.portions = Portions(turn_seconds=0.0)
        self.reads = asyncio.Event()
        self.reads.set()
        self.address = ("", 0)

    async def echo(self, request: aioweb.Request) -> aioweb.Response:
        async with self.connections.request(request):
            if request.path == "/refused":
                return aioweb.Response(status=401)
            await self.reads.wait()
            return aioweb.Response(body=await request.read())


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    made = Server()
    app = aioweb.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/{path:.*}", made.echo)
    runner = aioweb.AppRunner(app, access_log=None, shutdown_timeout=0.1, read_bufsize=8192)
    await runner.setup()
    assert runner.server
    factory = made.connections.wrap(runner.server)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    made.address = server.sockets[0].getsockname()
    try:
        yield made
    finally:
        server.close()
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as made:
        yield made


async def bodies(server: Server, requests: list[bytes], *, answers: int = 1) -> list[bytes]:
    """The answers to requests that are sent at once, each on a connection of its own."""
    async with AsyncExitStack() as stack:
        connections = [
            await stack.enter_async_context(await RawConnection.open(server.address, request))
            for request in requests
        ]
        told = [await one.answer() for one in connections for _ in range(answers)]
        assert {answer.status for answer in told} == {200}
        return [answer.body for answer in told]


async def test_tiny_chunks_are_parsed_a_portion_a_turn_and_come_whole(server: Server, fed: Fed) -> None:
    assert await bodies(server, [IN_CRUMBS] * 4) == [TEXT] * 4
    assert max(fed.calls) <= MOST_LINES
    # What fits one portion, such as the end of a body, is parsed as it comes: of each connection once a turn.
    assert max(fed.turns.values()) <= 5 * MOST_LINES


async def test_tiny_chunks_wait_while_nobody_reads_them(server: Server, fed: Fed) -> None:
    server.reads.clear()
    async with await RawConnection.open(server.address, IN_CRUMBS) as connection:
        waiting = server.connections.portions._waiting
        (held,) = await wait_until(lambda: list(server.connections._by_transport.values()), 10.0, "it is there")
        await wait_until(lambda: held._inner_holds and not waiting, 10.0, "aiohttp has enough")
        assert 0 < sum(fed.calls) < 2 * CRUMBS
        server.reads.set()
        answer = await connection.answer()
        assert answer.body == TEXT


async def test_a_body_of_known_length_is_parsed_as_it_comes(server: Server, fed: Fed) -> None:
    body = b"49170123,Ada\r\n" * 50_000
    async with await RawConnection.open(server.address, HEAD + b"Content-Length: %d\r\n\r\n" % len(body)) as one:
        await wait_until(lambda: server.connections.busy == 1, 10.0, "the request is known")
        one.send(body)
        answer = await one.answer()
        assert answer.body == body
    assert max(fed.calls) > 2 * MOST_LINES


async def test_what_follows_a_body_of_known_length_is_parsed_in_portions(server: Server, fed: Fed) -> None:
    first = HEAD + b"Content-Length: 5\r\n\r\n"
    async with await RawConnection.open(server.address, first) as one:
        await wait_until(lambda: server.connections.busy == 1, 10.0, "the request is known")
        one.send(b"12345" + IN_CRUMBS)
        for expected in (b"12345", TEXT):
            answer = await one.answer()
            assert answer.body == expected
    assert max(fed.calls) <= MOST_LINES


async def test_a_hundred_requests_in_one_packet_are_answered(server: Server, fed: Fed) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert await bodies(server, [request * 100], answers=100) == [b""] * 100
    assert max(fed.calls) <= MOST_LINES


async def test_many_header_lines_are_refused_after_a_portion_or_a_few(server: Server, fed: Fed) -> None:
    request = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 50_000 + b"\r\n"
    async with await RawConnection.open(server.address, request) as one:
        answer = await one.answer()
        assert answer.status == 400
    assert max(fed.calls) <= MOST_LINES


async def test_nothing_is_left_of_who_goes_away(server: Server, fed: Fed) -> None:
    server.reads.clear()
    one = await RawConnection.open(server.address, IN_CRUMBS)
    await wait_until(lambda: server.connections.busy == 1, 10.0, "the request is known")
    await one.close()
    waiting = server.connections.portions._waiting
    server.reads.set()
    await wait_until(lambda: not len(server.connections) and not waiting, 10.0, "it is gone")


@pytest.mark.parametrize("data", [b"\r\n" * 5000, b"1\r\na\r\n" * 5000, b"x" * 99_999, b"\n" * 5000])
@pytest.mark.parametrize("lines", [PORTION_LINES, MOST_LINES])
def test_portions_have_so_many_lines_and_leave_nothing_out(data: bytes, lines: int) -> None:
    start = 0
    while start < len(data):
        end = portion_end(data, start, lines)
        assert start < end <= min(len(data), start + lines * LINE_BYTES)
        assert data.count(b"\n", start, end) <= lines
        start = end


def test_portions_grow_where_lines_are_cheap_and_no_further_than_that() -> None:
    assert next_lines(PORTION_LINES, 0.0) == 2 * PORTION_LINES
    assert next_lines(MOST_LINES, 0.0) == MOST_LINES
    assert next_lines(MOST_LINES, 1.0) == PORTION_LINES


async def test_what_is_left_of_a_body_that_is_not_read_is_not_parsed(server: Server, fed: Fed) -> None:
    request = IN_CRUMBS.replace(b"POST /", b"POST /refused", 1)
    async with await RawConnection.open(server.address, request) as one:
        answer = await one.answer()
        assert answer.status == 401
        assert await one.closed()
    assert sum(fed.calls) < CRUMBS
