"""What slow, idle and many connections may cost. Real sockets."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network

import pytest
from aiohttp import web as aioweb

from crmd.http.connections import Connections
from crmd.http.peers import Peers
from tests.support.http import Site
from tests.support.rawhttp import RawConnection
from tests.support.wait import HANG_S, wait_until

ANSWERS_S = 0.5
"""Five milliseconds on a machine at rest; the clients that hang on do so for ten seconds."""
HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@asynccontextmanager
async def served(connections: Connections) -> AsyncIterator[tuple[str, int]]:
    """A bare application behind the given bounds."""

    @aioweb.middleware
    async def outermost(request: aioweb.Request, handler: object) -> aioweb.StreamResponse:
        async with connections.request(request):
            return await handler(request)  # type: ignore[operator, no-any-return]

    async def slow(request: aioweb.Request) -> aioweb.Response:
        await asyncio.sleep(float(request.query.get("seconds", "0")))
        return aioweb.Response(body=b"x" * int(request.query.get("bytes", "2")))

    app = aioweb.Application(middlewares=[outermost])
    app.router.add_get("/livez", slow)
    runner = aioweb.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server
    factory = connections.wrap(runner.server)
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await runner.cleanup()


def livez(query: str) -> bytes:
    return f"GET /livez?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def bounds(**options: float) -> Connections:
    return Connections(Peers(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("first", [b"", b"GET /livez HT", HEAD, HEAD + b"X-Slow: "])
async def test_who_sends_no_whole_request_is_cut_off(first: bytes) -> None:
    connections = bounds(first_request_seconds=0.2)
    async with served(connections) as address:
        async with await RawConnection.open(address, first) as client:
            assert await client.closed()
        await wait_until(lambda: len(connections) == 0)


async def test_who_drips_a_byte_now_and_then_is_cut_off_too() -> None:
    async with (
        served(bounds(first_request_seconds=0.3)) as address,
        await RawConnection.open(address) as client,
        asyncio.timeout(HANG_S),
    ):
        while not client.is_closed():
            client.send(b"G")
            await asyncio.sleep(0.05)


async def test_a_request_in_time_is_served_however_long_it_takes() -> None:
    async with (
        served(bounds(first_request_seconds=0.4)) as address,
        await RawConnection.open(address, livez("seconds=0.8")) as client,
    ):
        assert (await client.answer()).status == 200


async def test_who_does_not_read_is_cut_off() -> None:
    connections = bounds(stall_seconds=0.3)
    async with served(connections) as address, await RawConnection.open(address, livez("bytes=50000000")):
        await wait_until(lambda: len(connections) == 1)
        await wait_until(lambda: len(connections) == 0)


async def test_when_full_the_longest_waiting_gives_way_and_the_busy_stay() -> None:
    connections = bounds(most=4, request_grace_seconds=0.0)
    async with served(connections) as address:
        busy = await RawConnection.open(address, livez("seconds=1"))
        await wait_until(lambda: len(connections) == 1 and not connections._waiting)
        idle = [await RawConnection.open(address) for _ in range(3)]
        await wait_until(lambda: len(connections) == 4)
        late = await RawConnection.open(address, HEAD + b"\r\n")
        assert (await late.answer()).status == 200
        assert await idle[0].closed()
        assert (await busy.answer()).status == 200
        assert not idle[1].is_closed()
        for client in (busy, late, *idle):
            await client.close()


async def test_when_all_are_busy_the_spare_places_are_left_and_then_none() -> None:
    connections = bounds(most=2, spare=1)
    async with served(connections) as address:
        busy = [await RawConnection.open(address, livez("seconds=1")) for _ in range(3)]
        await wait_until(lambda: connections.busy == 3)
        assert not connections.has_room()
        late = await RawConnection.open(address)
        assert await late.closed()
        assert [(await client.answer()).status for client in busy] == [200, 200, 200]
        for client in (late, *busy):
            await client.close()


async def test_loopback_and_trusted_proxies_have_no_limit_of_their_own_and_others_do() -> None:
    class Transport:
        def __init__(self, address: str) -> None:
            self.address = address

        def get_extra_info(self, name: str) -> tuple[str, int]:
            return self.address, 1

    connections = Connections(Peers([ip_network("10.0.0.0/8")]))
    found = {
        address: connections._limited_client(Transport(address))  # type: ignore[arg-type]
        for address in ("127.0.0.1", "::1", "10.1.2.3", "192.0.2.1", "2001:db8::5")
    }
    assert found == {
        "127.0.0.1": "",
        "::1": "",
        "10.1.2.3": "",
        "192.0.2.1": "192.0.2.1",
        "2001:db8::5": "2001:db8::/64",
    }


class OneAddress(Connections):
    """As if all came from one address that is neither loopback nor a proxy."""

    def _limited_client(self, transport: asyncio.Transport) -> str:
        return "someone"


async def test_one_address_may_have_all_places_and_makes_room_at_its_own_cost() -> None:
    connections = OneAddress(Peers(), most=4, spare=0)
    async with served(connections) as address:
        idle = [await RawConnection.open(address) for _ in range(4)]
        await wait_until(lambda: connections._by_client == {"someone": 4})
        late = await RawConnection.open(address, HEAD + b"\r\n")
        assert (await late.answer()).status == 200
        assert await idle[0].closed()
        for client in (late, *idle):
            await client.close()
        await wait_until(lambda: not connections._by_client)


async def test_probes_answer_while_forty_slow_clients_hang_on(web: Site) -> None:
    slow = [await RawConnection.open(web.server.address, HEAD) for _ in range(40)]
    took = []
    for _ in range(50):
        began = time.monotonic()
        assert (await web.call("GET", "/livez", auth=False))[0] == 200
        took.append(time.monotonic() - began)
    assert statistics.median(took) < ANSWERS_S
    for client in slow:
        await client.close()
    await wait_until(lambda: len(web.server.connections) <= 1)


async def test_a_body_that_does_not_come_is_408(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.http.bodies.BODY_SECONDS", 0.2)
    head = "POST /api/v1/queues/email/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
    more = f"{web.headers['Authorization']}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    async with await RawConnection.open(web.server.address, (head + more).encode()) as client:
        assert (await client.answer()).status == 408


@pytest.mark.faults
async def test_five_hundred_slow_clients_do_not_keep_others_out(web: Site) -> None:
    slow = [await RawConnection.open(web.server.address, HEAD if n % 2 else b"") for n in range(500)]
    began = time.monotonic()
    took = []
    while len(web.server.connections) > 1 and time.monotonic() - began < 35:
        start = time.monotonic()
        assert (await web.call("GET", "/livez", auth=False))[0] == 200
        took.append(time.monotonic() - start)
        await asyncio.sleep(0.02)
    assert len(web.server.connections) <= 1
    assert sorted(took)[int(len(took) * 0.99)] < 0.05
    for client in slow:
        await client.close()
