"""Bodies in a coding are refused as they are, never unpacked, whichever of aiohttp's parsers serves."""

from __future__ import annotations

import gzip
import zlib

import pytest
from aiohttp import compression_utils, http_parser, web_protocol

from tests.support.http import Site
from tests.support.rawhttp import Answer, RawConnection

BOMB = gzip.compress(bytes(8_000_000))
PATHS = ("/", "/health", "/livez", "/nowhere", "/webhooks/whatsapp", "/api/v1/files", "/api/v1/queues/email/jobs")
CODINGS = (
    "Content-Encoding: gzip",
    "content-encoding: GZIP",
    "Content-Encoding: deflate",
    "Content-Encoding: br",
    "Content-Encoding: zstd",
    "Content-Encoding: x-gzip",
    "Content-Encoding: identity, gzip",
    "Content-Encoding: gzip, gzip",
    "Content-Encoding: identity\r\nContent-Encoding: gzip",
    "Content-Encoding: gzip\r\nContent-Encoding: identity",
    "Content-Encoding: \xff",
)


@pytest.fixture(params=["c", "python"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serves with each of aiohttp's parsers; gives the codings that something began to unpack."""
    made = http_parser.HttpRequestParserC if request.param == "c" else http_parser.HttpRequestParserPy
    monkeypatch.setattr(web_protocol, "HttpRequestParser", made)
    unpacked: list[str] = []
    real = compression_utils.ZLibDecompressor

    def noted(encoding: str | None = None, **options: object) -> object:
        unpacked.append(str(encoding))
        return real(encoding, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(http_parser, "ZLibDecompressor", noted)
    return unpacked


async def refused(web: Site, head: str, body: bytes) -> Answer:
    """The answer to a request, after which the connection has to close."""
    head = f"{head}\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n"
    async with await RawConnection.open(web.server.address, head.encode("latin-1") + body) as connection:
        answer = await connection.answer()
        assert await connection.closed()
        return answer


def check(answer: Answer) -> None:
    assert (answer.status, answer.headers["Content-Type"]) == (415, "application/problem+json")
    assert answer.headers["Connection"] == "close"
    assert "send it as it is" in answer.json["detail"]


@pytest.mark.parametrize("login", [False, True])
async def test_a_compressed_body_is_refused_whatever_the_path(web: Site, parser: list[str], login: bool) -> None:
    more = f"\r\nAuthorization: {web.headers['Authorization']}" if login else ""
    for path in PATHS:
        for coding in CODINGS:
            length = f"Content-Length: {len(BOMB)}"
            check(await refused(web, f"POST {path} HTTP/1.1{more}\r\n{coding}\r\n{length}", BOMB))
    assert parser == []


async def test_a_compressed_body_in_chunks_is_refused_too(web: Site, parser: list[str]) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BOMB), BOMB)
    for codings in ("Content-Encoding: gzip\r\nTransfer-Encoding: chunked", "Transfer-Encoding: gzip, chunked"):
        check(await refused(web, f"POST /webhooks/whatsapp HTTP/1.1\r\n{codings}", chunked))
    assert parser == []


async def test_what_claims_to_be_compressed_and_is_not_is_no_error_of_ours(web: Site, parser: list[str]) -> None:
    broken = [b"{}", BOMB[:40], BOMB[:-9] + b"\0" * 9, zlib.compress(b"{}")]
    for body in broken:
        head = f"POST /livez HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}"
        check(await refused(web, head, body))
    assert parser == []


async def test_identity_and_a_header_without_a_body_are_fine(web: Site, parser: list[str]) -> None:
    body = b'{"job": "greet", "payload": {"name": "Ada"}}'
    head = (
        f"Host: localhost\r\nAuthorization: {web.headers['Authorization']}\r\nContent-Type: application/json\r\n"
    )
    for coding in ("identity", "Identity", "", "identity, identity"):
        request = f"POST /api/v1/queues/email/jobs HTTP/1.1\r\n{head}Content-Encoding: {coding}\r\n"
        async with await RawConnection.open(
            web.server.address, f"{request}Content-Length: {len(body)}\r\n\r\n".encode() + body
        ) as connection:
            answer = await connection.answer()
            assert answer.status == 201
    request = f"GET /api/v1/queues HTTP/1.1\r\n{head}Content-Encoding: gzip\r\n\r\n"
    async with await RawConnection.open(web.server.address, request.encode()) as connection:
        answer = await connection.answer()
        assert answer.status == 200


async def test_an_upload_that_declares_a_coding_is_refused_and_a_gzip_file_is_kept_as_it_is(
    crm: Site, parser: list[str]
) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/gzip"}
    await crm.expect(415, "POST", "/api/v1/files?name=a.csv.gz", data=BOMB, headers=headers)
    headers = {"Content-Type": "application/gzip"}
    status, body, _ = await crm.call("POST", "/api/v1/files?name=a.csv.gz", data=BOMB, headers=headers)
    assert (status, body["size_bytes"]) == (201, len(BOMB))
    assert parser == []
