"""Errors: their form, their ids, and what they keep to themselves."""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from crmd.errors import StoreFull
from crmd.http.problems import HttpProblem, problems
from tests.support.http import Site
from tests.support.rawhttp import RawConnection
from tests.support.wait import wait_until


async def test_an_error_is_a_problem_document_whose_id_is_logged(
    web: Site, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crmd")
    status, body, headers = await web.call("GET", "/api/v1/queues/email/jobs/nope")
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert body.keys() == {"type", "title", "status", "detail", "instance", "id", "error"}
    assert (body["status"], body["title"], body["instance"]) == (
        404,
        "Not Found",
        "/api/v1/queues/email/jobs/nope",
    )
    [record] = [record for record in caplog.records if record.message == "http.problem"]
    assert record.fields["id"] == body["id"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/nowhere", 404), ("GET", "/", 404), ("PUT", "/health", 405), ("OPTIONS", "/health", 405)],
)
async def test_aiohttps_own_errors_are_problems_too(web: Site, method: str, path: str, status: int) -> None:
    found, body, headers = await web.call(method, path)
    assert (found, body["status"], headers["Content-Type"]) == (status, status, "application/problem+json")
    if status == 405:
        assert headers["Allow"] == "GET,HEAD"


async def test_a_defect_shows_its_id_and_nothing_else(
    web: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("a secret in /srv/path")

    monkeypatch.setattr(web.harness.inspector, "job", broken)
    body = await web.expect(500, "GET", "/api/v1/queues/email/jobs/x")
    assert "secret" not in str(body)
    assert "Traceback" not in str(body)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.fields["id"] == body["id"]  # type: ignore[attr-defined]
    assert record.exc_info
    assert "ZeroDivisionError" in caplog.text


async def test_a_full_store_is_507(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web.harness.store, "memory_ratio", 0.95)
    body = {"job": "greet", "payload": {"name": "Ada"}}
    assert "95% full" in await web.problem(507, "POST", "/api/v1/queues/email/jobs", json=body)
    assert StoreFull.__doc__


async def test_every_answer_bears_the_security_headers(web: Site) -> None:
    for path in ("/health", "/nowhere", "/admin/queues", "/metrics", "/admin/queues/static/app.js"):
        _, _, headers = await web.call("GET", path)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == ("no-cache" if "static" in path else "no-store")


async def test_a_flood_of_errors_does_not_flood_the_log(web: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "crmd")
    for number in range(60):
        await web.call("GET", f"/nowhere/{number}")
    assert 20 <= len(caplog.records) < 30


async def test_what_is_no_http_leaves_no_traceback(web: Site, caplog: pytest.LogCaptureFixture) -> None:
    import asyncio

    for junk in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"GET / SPDY/9\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(*web.server.address)
        writer.write(junk)
        assert b" 400 " in await reader.read()
        writer.close()
        await writer.wait_closed()
    assert caplog.records == []


async def test_a_client_that_hangs_up_leaves_no_traceback(web: Site, caplog: pytest.LogCaptureFixture) -> None:
    login = f"Authorization: {web.headers['Authorization']}\r\nContent-Type: application/json\r\n"
    head = f"POST /api/v1/queues/email/jobs HTTP/1.1\r\nHost: localhost\r\n{login}Content-Length: 9\r\n\r\n{{"
    async with await RawConnection.open(web.server.address, head.encode()):
        await wait_until(lambda: web.server.connections.busy == 1)
    await wait_until(lambda: len(web.server.connections) == 0)
    assert (await web.call("GET", "/livez", auth=False))[0] == 200
    assert caplog.records == []


async def test_a_refused_request_is_freed_without_the_garbage_collector() -> None:
    class Body(bytearray):
        """What a handler has read."""

    held: list[weakref.ref[Body]] = []

    async def refuse(request: web.Request) -> web.StreamResponse:
        body = Body(1_000)
        held.append(weakref.ref(body))
        raise HttpProblem(401, f"{len(body)} bytes with a wrong signature")

    async def lose(request: web.Request) -> web.StreamResponse:
        body = Body(1_000)
        held.append(weakref.ref(body))
        raise lost

    lost = ConnectionResetError("the client left")  # kept, as a body's stream keeps it
    middleware, request = problems(), make_mocked_request("POST", "/")
    gc.disable()
    try:
        response = await middleware(request, refuse)
        assert response.status == 401
        with contextlib.suppress(ConnectionResetError):
            await middleware(request, lose)
        assert [body() for body in held] == [None, None]
    finally:
        gc.enable()


async def test_a_request_to_nowhere_is_freed_without_the_garbage_collector() -> None:
    kept = web.HTTPNotFound()  # as the request's match keeps it

    async def nowhere(request: web.Request) -> web.StreamResponse:
        raise kept

    response = await problems()(make_mocked_request("GET", "/nowhere"), nowhere)
    assert response.status == 404
    assert kept.__traceback__ is None
