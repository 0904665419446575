"""Everybody gets an answer, whoever holds connections: slow bodies, waits, streams, clients that do not read."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from tests.support.http import Site, site, token_table
from tests.support.rawhttp import RawConnection, ask
from tests.support.wait import wait_until

PLACES = 16
HELD = PLACES // 2
HELD_BY_ONE = PLACES // 4
TOKENS = {
    "shop": token_table("s3cret", "enqueue", "read", queues=("email",)),
    "till": token_table("0ther", "enqueue", "read"),
    "desk": token_table("th1rd", "read"),
}
HOOK = {"app_secret": "shh", "verify_token": "tell"}
SLOW_BODY = b"POST /webhooks/whatsapp HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
STREAM = "/api/v1/events"
WAIT = "/api/v1/queues/email/jobs/later?wait=5m"


@asynccontextmanager
async def small(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server with few places, whose clients have no time to lose."""
    monkeypatch.setattr("crmd.http.connections.MAX_CONNECTIONS", PLACES)
    async with site(store_url, auth={"tokens": TOKENS}, whatsapp=HOOK) as made:
        made.server.connections._grace_seconds = 0.0
        made.server.connections._request_grace_seconds = 0.0
        yield made


@pytest.fixture
async def crowded(store_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    async with small(store_url, monkeypatch) as made:
        yield made


def get(path: str, token: str = "") -> bytes:
    login = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{login}\r\n".encode()


def post(body: object, token: str, query: str = "") -> bytes:
    raw = json.dumps(body).encode()
    head = f"POST /api/v1/queues/email/jobs{query} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json"
    return f"{head}\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


async def delayed_job(web: Site) -> None:
    """Adds the job that is waited for."""
    body = {"job": "greet", "payload": {"name": "Ada"}, "key": "later", "delay": "1h"}
    assert (await web.call("POST", "/api/v1/queues/email/jobs", json=body))[0] == 201


async def check_all_is_answered(web: Site) -> None:
    """Probes, metrics and a new job; the web session has a connection of its own for each."""
    for path in ("/health", "/livez", "/readyz", "/metrics"):
        answer = await ask(web.server.address, get(path))
        assert answer.status == 200
    answer = await ask(web.server.address, post({"job": "greet", "payload": {"name": "Ada"}}, "0ther"))
    assert answer.status == 201


async def hold(stack: AsyncExitStack, web: Site, count: int, request: bytes) -> list[RawConnection]:
    """Connections that are held open."""
    return [
        await stack.enter_async_context(await RawConnection.open(web.server.address, request))
        for _ in range(count)
    ]


async def statuses(connections: list[RawConnection], *, streams: bool = False) -> Counter[int]:
    """What they are answered."""
    answers = [await one.answer_if_any(head=streams) for one in connections]
    return Counter(answer.status if answer else 0 for answer in answers)


async def test_slow_bodies_give_way_and_are_told_why(crowded: Site) -> None:
    async with AsyncExitStack() as stack:
        slow = await hold(stack, crowded, PLACES, SLOW_BODY)
        await wait_until(lambda: crowded.server.connections.busy == PLACES)
        await check_all_is_answered(crowded)
        answer = await slow[0].answer()
        assert (answer.status, answer.headers["Connection"]) == (408, "close")
        assert "too slowly" in answer.json["detail"]
        assert await slow[0].closed()


async def test_the_slowest_body_gives_way(crowded: Site) -> None:
    async with AsyncExitStack() as stack:
        slow = await hold(stack, crowded, PLACES, SLOW_BODY)
        await wait_until(lambda: crowded.server.connections.busy == PLACES)
        for number, one in enumerate(slow):
            if number != 7:
                one.send(b" " * 500)
        await wait_until(lambda: sum(one.body_bytes for one in crowded.server.connections._bodies) > 7500)
        await check_all_is_answered(crowded)
        answer = await slow[7].answer()
        assert answer.status == 408


async def test_slow_bodies_are_held_to_their_number_where_there_is_room(store_url: str) -> None:
    async with site(store_url, whatsapp=HOOK) as made, AsyncExitStack() as stack:
        connections = made.server.connections
        connections._most_slow_bodies, connections._slow_body_seconds = 5, 0.0
        connections._grace_seconds = 0.05
        answers = [asyncio.create_task(one.answer()) for one in await hold(stack, made, 20, SLOW_BODY)]
        await wait_until(lambda: sum(answer.done() for answer in answers) == 15, what="all but five are answered")
        assert {answer.result().status for answer in answers if answer.done()} == {408}
        assert connections.busy == 5
        for answer in answers:
            answer.cancel()


async def test_large_bodies_give_way_when_they_hold_too_much_together(store_url: str) -> None:
    head = b"POST /webhooks/whatsapp HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
    async with site(store_url, auth={"tokens": TOKENS}, whatsapp=HOOK) as made, AsyncExitStack() as stack:
        connections = made.server.connections
        connections._most_body_bytes = 1_000_000
        held = await hold(stack, made, 20, head + b" " * 300_000)
        await wait_until(lambda: len(connections._bodies) <= 3 and connections._body_bytes)
        assert connections._body_bytes <= 1_000_000
        await check_all_is_answered(made)
        for one in held:
            one.send(b" " * 100_000)
        found = await statuses(held)
        assert found.keys() <= {401, 408, 429}
        assert found[408] >= 17
        assert found[401] + found[429] >= 1
        await wait_until(lambda: not connections._body_bytes, what="nothing is held once all are answered")


async def test_those_that_gave_way_are_held_to_a_number(store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not count among the connections, so that one large body after the other would add up."""
    monkeypatch.setattr("crmd.http.connections.LINGER_SECONDS", 300.0)
    head = b"POST /webhooks/whatsapp HTTP/1.1\r\nHost: x\r\nContent-Length: 400000\r\n\r\n"
    async with site(store_url, whatsapp=HOOK) as made, AsyncExitStack() as stack:
        connections = made.server.connections
        connections._most_body_bytes, connections._most_lingering = 1_000_000, 5
        await hold(stack, made, 20, head + b" " * 300_000)
        assert made.server._runner
        server = made.server._runner.server
        assert server
        await wait_until(lambda: connections._lingering and len(server.connections) <= 8, what="12 are closed")
        assert len(connections._lingering) == 5
    await wait_until(lambda: not connections._lingering)


@pytest.mark.parametrize("path", ["/api/v1/queues/email/jobs", "/api/v1/files?name=a.csv"])
async def test_a_body_that_is_cut_as_data_comes_is_not_taken_for_a_whole_one(crm: Site, path: str) -> None:
    login = crm.headers["Authorization"]
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {login}\r\nContent-Length: 1000\r\n"
    request = f"{head}Content-Type: application/json\r\n\r\n{{".encode()
    connections = crm.server.connections
    async with await RawConnection.open(crm.server.address, request) as client:
        await wait_until(lambda: any(one._request and one.body_bytes for one in connections._bodies))
        [cut] = connections._bodies
        assert cut._request
        content = cut._request.content
        await wait_until(lambda: content._waiter is not None, what="its reader waits for more")
        content.feed_data(b"}")  # its reader is woken, and has not run yet
        connections._cut(cut, "it gave way")
        answer = await client.answer()
        assert (answer.status, answer.json["detail"]) == (408, "it gave way")


async def test_a_body_that_is_streamed_to_disk_is_not_weighed(crm: Site) -> None:
    connections = crm.server.connections
    connections._most_body_bytes = 1_000
    head = "POST /api/v1/files?name=a HTTP/1.1\r\nHost: localhost\r\nAuthorization"
    request = f"{head}: {crm.headers['Authorization']}\r\nContent-Length: 300000\r\n\r\n".encode() + b"x" * 200_000
    async with await RawConnection.open(crm.server.address, request) as upload:
        await wait_until(lambda: sum(one.body_bytes for one in connections._bodies) == 200_000)
        assert connections._body_bytes == 0
        upload.send(b"x" * 100_000)
        answer = await upload.answer()
        assert answer.status == 201


async def test_a_request_that_waits_does_not_hold_its_body(crowded: Site) -> None:
    connections = crowded.server.connections
    request = post({"job": "greet", "payload": {"name": "Ada"}, "delay": "1h"}, "s3cret", "?wait=5m")
    async with await RawConnection.open(crowded.server.address, request):
        await wait_until(lambda: crowded.server.long_requests._by_principal["token:shop"] == 1)
        await wait_until(lambda: connections._body_bytes == 0)


async def test_clients_that_do_not_read_give_way(crowded: Site) -> None:
    async with AsyncExitStack() as stack:
        request = get("/admin/queues/static/pico.min.css", "th1rd") * 400
        for _ in range(PLACES):
            await stack.enter_async_context(await RawConnection.deaf(crowded.server.address, request))
        await wait_until(lambda: len(crowded.server.connections._stalled) == PLACES, 20.0)
        await check_all_is_answered(crowded)


@pytest.mark.parametrize("request_", [get(STREAM, "s3cret"), get(WAIT, "s3cret")], ids=["streams", "waits"])
async def test_one_token_has_its_part_of_the_waits_and_streams(crowded: Site, request_: bytes) -> None:
    await delayed_job(crowded)
    async with AsyncExitStack() as stack:
        await hold(stack, crowded, HELD_BY_ONE, request_)
        await wait_until(lambda: crowded.server.long_requests._by_principal["token:shop"] == HELD_BY_ONE)
        for path in (STREAM, WAIT):
            answer = await ask(crowded.server.address, get(path, "s3cret"))
            assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
            assert "waits and streams" in answer.json["detail"]
        await hold(stack, crowded, HELD - HELD_BY_ONE, get(STREAM, "0ther"))
        await wait_until(lambda: crowded.server.long_requests._by_principal.total() == HELD)
        answer = await ask(crowded.server.address, get(WAIT, "th1rd"))
        assert answer.status == 503
        await check_all_is_answered(crowded)
    await wait_until(
        lambda: not crowded.server.long_requests._by_principal, what="places are free once clients have gone"
    )


async def test_a_wait_that_finds_no_place_adds_no_job(crowded: Site) -> None:
    await delayed_job(crowded)
    async with AsyncExitStack() as stack:
        await hold(stack, crowded, HELD_BY_ONE, get(WAIT, "s3cret"))
        await wait_until(lambda: crowded.server.long_requests._by_principal["token:shop"] == HELD_BY_ONE)
        body = {"job": "greet", "payload": {"name": "Ada"}, "key": "mine"}
        answer = await ask(crowded.server.address, post(body, "s3cret", "?wait=5s"))
        assert answer.status == 503
        assert (await crowded.call("GET", "/api/v1/queues/email/jobs/mine"))[0] == 404
        answer = await ask(crowded.server.address, post(body, "s3cret"))
        assert answer.status == 201


async def test_while_every_connection_is_busy_probes_answer_and_others_come_back(
    crowded: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that does not answer keeps them busy."""
    stuck, ends = 0, asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        nonlocal stuck
        stuck += 1
        await ends.wait()

    monkeypatch.setattr(crowded.harness.inspector, "job", hang)
    async with AsyncExitStack() as stack:
        await hold(stack, crowded, PLACES, get("/api/v1/queues/email/jobs/x", "s3cret"))
        await wait_until(lambda: stuck == PLACES)
        for path in ("/health", "/livez", "/readyz", "/metrics"):
            answer = await ask(crowded.server.address, get(path))
            assert answer.status == 200
        answer = await ask(crowded.server.address, get("/api/v1/queues", "s3cret"))
        assert (answer.status, answer.headers["Retry-After"], answer.headers["Connection"]) == (503, "1", "close")
        ends.set()


async def test_five_hundred_requests_at_once_from_one_address_are_answered(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crmd.http.connections.Connections._limited_client", lambda *_: "192.0.2.1")
    async with site(store_url, auth={"tokens": TOKENS}) as made:
        request = post({"job": "greet", "payload": {"name": "Ada"}}, "s3cret")
        answers = await asyncio.gather(*(ask(made.server.address, request) for _ in range(500)))
        assert Counter(answer.status if answer else 0 for answer in answers) == {201: 500}


async def test_what_is_too_much_at_once_is_told_to_come_back_and_not_cut_off(crowded: Site) -> None:
    crowded.server.connections._request_grace_seconds = 30.0
    request = post({"job": "greet", "payload": {"name": "Ada"}}, "s3cret", "?wait=100ms")
    answers = await asyncio.gather(*(ask(crowded.server.address, request) for _ in range(PLACES * 4)))
    found = Counter(answer.status if answer else 0 for answer in answers)
    assert found.keys() <= {202, 503}
    assert all(answer and (answer.status == 202 or "Retry-After" in answer.headers) for answer in answers)
