"""Routes that are made when a path of theirs is first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from crmd.http.late_routes import LateRoutes
from crmd.http.route_table import RouteTable
from crmd.http.routes import Access, Route
from tests.support.wait import wait_until

Client = TestClient[web.Request, web.Application]


async def say(request: web.Request) -> web.Response:
    return web.Response(text=f"{request.method} {request.match_info.get('id', 'all')}")


class Things:
    """The routes under /things; making them waits until it may go on, or fails."""

    def __init__(self) -> None:
        self.made = 0
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def make(self) -> Sequence[Route]:
        self.made += 1
        await self.go_on.wait()
        if self.error:
            raise self.error
        return [
            Route("GET", "/things", say, Access.READ),
            Route("DELETE", "/things/{id}", say, Access.OPERATE, row_id=True),
        ]


@pytest.fixture
async def things() -> Things:
    return Things()


@pytest.fixture
async def table(things: Things) -> RouteTable:
    early = [Route("GET", "/early", say, Access.OPEN), Route("GET", "/things-of-others", say, Access.OPEN)]
    return RouteTable("/base", early, [LateRoutes("/things", things.make)])


@pytest.fixture
async def client(table: RouteTable) -> AsyncIterator[Client]:
    @web.middleware
    async def access(request: web.Request, handler: object) -> web.StreamResponse:
        response: web.StreamResponse = await handler(request)  # type: ignore[operator]
        response.headers["Access"] = table.find(request).access
        response.headers["Label"] = request.match_info.route.resource.canonical  # type: ignore[union-attr]
        return response

    app = web.Application(middlewares=[access])
    table.register(app)
    async with TestClient(TestServer(app)) as made:
        yield made


async def ask(client: Client, method: str, path: str) -> tuple[int, str]:
    async with client.request(method, "/base" + path) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize("path", ["/early", "/things-of-others", "/nothing"])
async def test_other_paths_make_none(client: Client, things: Things, table: RouteTable, path: str) -> None:
    await ask(client, "GET", path)
    assert (things.made, len(table.routes)) == (0, 2)


async def test_they_answer_as_others_do(client: Client, things: Things, table: RouteTable) -> None:
    assert await ask(client, "DELETE", "/things/7") == (200, "DELETE 7")
    assert await ask(client, "GET", "/things") == (200, "GET all")
    assert await ask(client, "HEAD", "/things") == (200, "")
    assert (things.made, len(table.routes)) == (1, 4)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("GET", "/things/7/parts", 404, None),
        ("GET", "/things/", 404, None),
        ("POST", "/things", 405, "GET,HEAD"),
        ("GET", "/things/7", 405, "DELETE"),
    ],
)
async def test_what_they_do_not_know(
    client: Client, method: str, path: str, status: int, allowed: str | None
) -> None:
    async with client.request(method, "/base" + path) as answer:
        assert (answer.status, answer.headers.get("Allow")) == (status, allowed)


async def test_middlewares_see_the_route(client: Client) -> None:
    async with client.delete("/base/things/7") as answer:
        assert (answer.headers["Access"], answer.headers["Label"]) == ("operate", "/base/things/{id}")


async def test_who_asks_meanwhile_waits_for_the_same(client: Client, things: Things) -> None:
    things.go_on.clear()
    asking = [asyncio.create_task(ask(client, "GET", "/things")) for _ in range(3)]
    await wait_until(lambda: things.made > 0, 5)
    assert await ask(client, "GET", "/early") == (200, "GET all")
    things.go_on.set()
    assert await asyncio.gather(*asking) == [(200, "GET all")] * 3
    assert things.made == 1


async def test_what_could_not_be_made_is_made_again(client: Client, things: Things) -> None:
    things.error = RuntimeError("the disk is gone")
    assert (await ask(client, "GET", "/things"))[0] == 500
    things.error = None
    assert await ask(client, "GET", "/things") == (200, "GET all")
