"""Malformed bodies, and what is left of a connection that was closed. Real sockets."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from aiohttp import http_parser, web, web_protocol

from crmd.http import bodies, protocol
from tests.support.http import Site, site
from tests.support.rawhttp import RawConnection
from tests.support.wait import wait_until

CRUMBS = b"1\r\n \r\n" * 500
"""More than one portion, and more than aiohttp buffers at once."""
FORM = "Content-Type: multipart/form-data; boundary=b"
JSON = "Content-Type: application/json"


def post(web: Site, path: str, *fields: str, login: bool = True) -> bytes:
    """The head of a request with a chunked body."""
    fields = ("Host: localhost", "Transfer-Encoding: chunked", *fields)
    if login:
        fields = (f"Authorization: {web.headers['Authorization']}", *fields)
    return "\r\n".join((f"POST {path} HTTP/1.1", *fields, "", "")).encode()


def handlers(web: Site) -> list[web_protocol.RequestHandler]:
    """aiohttp's part of each connection."""
    return [one._inner for one in web.server.connections._by_transport.values()]


@pytest.mark.parametrize("parser", [http_parser.HttpRequestParser, http_parser.HttpRequestParserPy])
async def test_a_malformed_body_is_400(web: Site, monkeypatch: pytest.MonkeyPatch, parser: Any) -> None:
    monkeypatch.setattr(web_protocol, "HttpRequestParser", parser)
    head = post(web, "/api/v1/queues/email/jobs", JSON)
    async with await RawConnection.open(web.server.address, head + b"2\r\n{}\r\n") as connection:
        await wait_until(lambda: web.server.connections.busy == 1)
        connection.send(b"zz\r\n")
        answer = await connection.answer()
        assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json")
        assert answer.json["detail"].startswith("the body cannot be read: ")
        assert await connection.closed()


@pytest.mark.parametrize("bad", [b"zz\r\n", b"0\r\nbad trailer\0\r\n\r\n", b"1\r\nxx\r\n"])
async def test_a_body_of_many_chunks_is_refused_at_its_first_mistake(web: Site, bad: bytes) -> None:
    request = post(web, "/api/v1/queues/email/jobs", JSON) + CRUMBS + bad + CRUMBS
    async with await RawConnection.open(web.server.address, request) as connection:
        answer = await connection.answer()
        assert answer.status == 400


async def test_a_malformed_upload_is_400(crm: Site) -> None:
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
    request = post(crm, "/api/v1/files", FORM) + b"%x\r\n%b\r\n" % (len(part), part) + CRUMBS + b"zz\r\n"
    async with await RawConnection.open(crm.server.address, request) as connection:
        answer = await connection.answer()
        assert (answer.status, answer.headers["Content-Type"]) == (400, "application/problem+json")


async def test_a_mistake_is_kept_once(web: Site) -> None:
    """Also where nobody reads the body: aiohttp reads on for ten seconds after the answer."""
    request = post(web, "/api/v1/queues/email/jobs", JSON, login=False) + CRUMBS + b"zz\r\n" + CRUMBS
    async with await RawConnection.open(web.server.address, request) as connection:
        [handler] = await wait_until(lambda: handlers(web))
        answer = await connection.answer()
        assert answer.status == 401
        await wait_until(lambda: len(web.server.connections) == 0)
        assert len(handler._messages) <= 1


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /liv",
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"G\0T /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"ABORT",
        b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + CRUMBS + b"zz\r\n",
    ],
    ids=[
        "nothing",
        "half a line",
        "kept alive",
        "closed",
        "bad method",
        "bad header",
        "aborted body",
        "bad chunk",
    ],
)
async def test_a_closed_connection_is_freed_without_the_garbage_collector(web: Site, sent: bytes) -> None:
    if sent == b"ABORT":
        sent = post(web, "/api/v1/queues/email/jobs", JSON) + CRUMBS
    gc.collect()
    gc.disable()
    try:
        async with await RawConnection.open(web.server.address, sent) as connection:
            await wait_until(lambda: len(web.server.connections) == 1)
            [handler] = map(weakref.ref, handlers(web))
            if sent.endswith(CRUMBS):
                await wait_until(lambda: web.server.connections.busy == 1)
            elif sent.endswith(b"\n"):
                assert await connection.answer()
        await wait_until(lambda: handler() is None, 5.0, "the connection is freed")
    finally:
        gc.enable()


async def nothing(_: web.BaseRequest) -> web.Response:
    return web.Response()


async def test_aiohttp_keeps_what_it_parsed_where_it_is_looked_for(caplog: pytest.LogCaptureFixture) -> None:
    """With the versions that are allowed: `make faults` installs the oldest and the newest."""
    make = protocol.request_handlers(web.Server(nothing))
    assert isinstance(make(), protocol._StrictRequestHandler)
    assert caplog.messages == []


@pytest.mark.parametrize("private", ["_messages", "_keepalive_handle"])
async def test_an_aiohttp_that_has_changed_inside_is_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, private: str
) -> None:
    def forget(handler: web.RequestHandler, *arguments: Any, **options: Any) -> None:
        begin(handler, *arguments, **options)
        delattr(handler, private)

    begin = web.RequestHandler.__init__
    monkeypatch.setattr(web.RequestHandler, "__init__", forget)
    make = protocol.request_handlers(web.Server(nothing))
    assert not isinstance(make(), protocol._StrictRequestHandler)
    [told] = caplog.messages
    assert "keeps what it has parsed where crmd does not find it" in told


async def test_an_aiohttp_that_has_changed_inside_serves_all_the_same(
    store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_keeps_what_it_parsed", lambda _: False)
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.2)
    job = b'{"job": "greet", "payload": {"name": "Ada"}}'
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(job), job)
    async with site(store_url) as made:
        head = post(made, "/api/v1/queues/email/jobs", JSON)
        async with await RawConnection.open(made.server.address, head + b"2\r\n{}\r\n") as connection:
            await wait_until(lambda: made.server.connections.busy == 1)
            connection.send(b"zz\r\n")
            assert (await connection.answer()).status == 408
        async with await RawConnection.open(made.server.address, head + whole) as connection:
            assert (await connection.answer()).status == 201
