"""Files over HTTP: taken as they come, given back as they were, and nothing half done."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import update

from crmd.crm.database.types import utc_now
from crmd.crm.files.tables import File
from crmd.http import uploads
from tests.support.http import PASSWORD, USER, Site, site, token_table
from tests.support.wait import wait_until

FILES = "/api/v1/files"
LIMIT = 1_000_000  # that of the fixture


def left(crm: Site) -> list[Path]:
    return list(crm.parts.files.folder.iterdir())


async def add(crm: Site, data: Any, path: str = FILES, **options: Any) -> dict[str, Any]:
    status, body, headers = await crm.call("POST", path, data=data, **options)
    assert status == 201, body
    assert headers["Location"].endswith(f"{FILES}/{body['id']}")
    assert isinstance(body, dict)
    return body


async def bytes_of(crm: Site, file_id: str, **headers: str) -> tuple[int, bytes, Any]:
    url = f"{crm.url}{FILES}/{file_id}"
    async with crm.session.get(url, headers={**crm.headers, **headers}) as response:
        return response.status, await response.read(), response.headers


async def test_a_body_comes_back_as_it_was(crm: Site) -> None:
    data = os.urandom(700_000)
    kept = await add(crm, data, f"{FILES}?name=f%C3%BCr+%221%22.csv", headers={"Content-Type": "text/csv"})
    assert (kept["name"], kept["media_type"], kept["size_bytes"]) == ('für "1".csv', "text/csv", len(data))
    assert kept["expires_at"].endswith("Z")
    status, found, headers = await bytes_of(crm, kept["id"])
    assert (status, found) == (200, data)
    assert headers["Content-Type"] == "text/csv"
    disposition = "attachment; filename=\"f_r _1_.csv\"; filename*=UTF-8''f%C3%BCr%20%221%22.csv"
    assert headers["Content-Disposition"] == disposition
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


async def test_a_form_comes_back_as_it_was(crm: Site) -> None:
    form = aiohttp.FormData(quote_fields=False)  # as browsers and curl send names
    form.add_field("note", "passed over")
    form.add_field("file", b"a;b\n", filename="../../für.csv", content_type="text/csv")
    kept = await add(crm, form)
    assert (kept["name"], kept["media_type"], kept["size_bytes"]) == ("für.csv", "text/csv", 4)
    assert (await bytes_of(crm, kept["id"]))[1] == b"a;b\n"


async def test_the_name_may_be_in_a_header(crm: Site) -> None:
    headers = {"Content-Disposition": "attachment; filename*=UTF-8''%C3%BC.csv"}
    assert (await add(crm, b"x", headers=headers))["name"] == "ü.csv"
    assert (await add(crm, b"x", f"{FILES}?name=b.csv", headers=headers))["name"] == "b.csv"
    assert (await add(crm, b"x"))["name"] == "file"


async def test_json_is_a_file_as_any_other(crm: Site) -> None:
    kept = await add(crm, b'{"job": 1}', headers={"Content-Type": "application/json"})
    assert kept["media_type"] == "application/json"
    plain = await add(crm, b"x", headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert plain["media_type"] == "application/octet-stream"


async def test_parts_are_given_for_ranges(crm: Site) -> None:
    kept = await add(crm, b"0123456789")
    for wanted, part in (
        ("bytes=2-4", b"234"),
        ("bytes=7-", b"789"),
        ("bytes=-3", b"789"),
        ("bytes=0-99", b"0123456789"),
    ):
        status, found, headers = await bytes_of(crm, kept["id"], Range=wanted)
        assert (status, found) == (206, part)
        assert headers["Content-Range"].endswith("/10")
    for wanted in ("bytes=10-", "bytes=5-3", "lines=1-2"):
        status, _, headers = await bytes_of(crm, kept["id"], Range=wanted)
        assert (status, headers["Content-Range"]) == (416, "bytes */10")
        assert headers["Content-Type"] == "application/problem+json"


async def test_head_tells_without_sending(crm: Site) -> None:
    kept = await add(crm, b"0123456789")
    status, body, headers = await crm.call("HEAD", f"{FILES}/{kept['id']}")
    assert (status, body, headers["Content-Length"]) == (200, "", "10")
    status, _, again = await crm.call("GET", f"{FILES}/{kept['id']}", headers={"If-None-Match": headers["ETag"]})
    assert status == 304
    assert again["ETag"] == headers["ETag"]


async def test_what_is_not_there_is_not_found(crm: Site) -> None:
    kept = await add(crm, b"x")
    async with crm.parts.database.transaction() as session:
        await session.execute(update(File).values(expires_at=utc_now() - timedelta(seconds=1)))
    for file_id in (kept["id"], "0" * 32, "nope", "%2e%2e%2frecords.sqlite"):
        await crm.expect(404, "GET", f"{FILES}/{file_id}")


async def test_over_the_limit_nothing_is_kept(crm: Site) -> None:
    """Announced, and not announced; as a body and in a form."""

    async def unannounced() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b"x" * 100_000

    form = aiohttp.FormData()
    form.add_field("file", BytesIO(b"x" * (LIMIT + 1)), filename="a")
    for data in (BytesIO(b"x" * (LIMIT + 100_000)), BytesIO(b"x" * (LIMIT + 1)), unannounced(), form):
        assert (
            await crm.problem(413, "POST", FILES, data=data)
            == "the file is over 1,000,000 bytes (files.max_bytes)"
        )
    assert left(crm) == []
    assert (await add(crm, BytesIO(b"x" * LIMIT)))["size_bytes"] == LIMIT


async def test_nothing_is_no_file(crm: Site) -> None:
    without_file = aiohttp.FormData()
    without_file.add_field("file", "text", content_type="text/plain")
    empty = aiohttp.FormData()
    empty.add_field("file", b"", filename="a.csv")
    multipart = aiohttp.MultipartWriter("mixed")
    multipart.append("text")
    for data in (None, b"", empty, without_file, multipart):
        await crm.expect(422, "POST", FILES, data=data)
    assert left(crm) == []


async def test_a_form_that_cannot_be_read_is_told(crm: Site) -> None:
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        status, body, _ = await crm.call("POST", FILES, data=b"no form at all", headers={"Content-Type": kind})
        assert status in (400, 422), body
    assert left(crm) == []


async def test_an_unknown_parameter_is_refused(crm: Site) -> None:
    assert (await crm.call("POST", f"{FILES}?nme=a", data=b"x"))[0] == 422


async def test_a_client_that_goes_leaves_nothing(crm: Site) -> None:
    writer = await begin(crm, announced=100_000, sent=b"x" * 50_000)
    await wait_until(lambda: left(crm))
    writer.close()
    await wait_until(lambda: not left(crm))


async def test_a_client_that_says_nothing_is_not_waited_for(crm: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "SILENT_SECONDS", 0.1)
    reader, writer = await connect(crm)
    writer.write(head(crm, 100) + b"x")
    assert b" 408 " in await reader.readline()
    await wait_until(lambda: not left(crm))
    writer.close()


async def test_a_full_disk_is_told_and_cleaned_up(crm: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("crmd.crm.files.routes.os.write", write)
    assert (
        await crm.problem(507, "POST", FILES, data=b"x")
        == "the disk of the files is full: No space left on device"
    )
    assert left(crm) == []


async def test_without_the_database_it_says_so(web: Site) -> None:
    status, body, headers = await web.call("GET", f"{FILES}/{'0' * 32}")
    assert (status, body["detail"]) == (503, "the records are not available: not opened yet")
    assert headers["Retry-After"]


async def test_scopes(crm: Site, store_url: str) -> None:
    """A token for one queue may add files for its jobs, and fetch what they made."""
    tokens = {
        "adder": token_table("adder-1", "enqueue", queues=("import",)),
        "reader": token_table("reader-1", "read"),
    }
    parts = crm.parts
    async with site(store_url, auth={"tokens": tokens}, database=parts.database, files=parts.files) as other:
        adder, reader = ({"Authorization": f"Bearer {name}-1"} for name in ("adder", "reader"))
        assert (await other.call("POST", FILES, auth=False, data=b"x"))[0] == 401
        assert (await other.call("POST", FILES, auth=False, data=b"x", headers=reader))[0] == 403
        kept = await other.expect(201, "POST", FILES, auth=False, data=b"x", headers=adder)
        assert (await other.call("GET", f"{FILES}/{kept['id']}", auth=False, headers=adder))[0] == 403
        assert (await other.call("GET", f"{FILES}/{kept['id']}", auth=False, headers=reader))[0] == 200


async def connect(crm: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*crm.server.address)


def head(crm: Site, announced: int) -> bytes:
    credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return (
        f"POST {FILES} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {credentials}\r\n"
        f"Content-Length: {announced}\r\n\r\n"
    ).encode()


async def begin(crm: Site, announced: int, sent: bytes) -> asyncio.StreamWriter:
    """Sends the beginning of an upload."""
    _, writer = await connect(crm)
    writer.write(head(crm, announced) + sent)
    await writer.drain()
    return writer


# What one may keep


def limit(crm: Site, **limits: int) -> None:
    crm.parts.files.configure(replace(crm.parts.files.limits, **limits), 3600.0)


async def test_one_keeps_so_many_uploads_and_another_has_a_quota_of_its_own(crm: Site, store_url: str) -> None:
    tokens = {name: token_table(name, "enqueue") for name in ("shop", "till")}
    limit(crm, quota_files=3)
    database, files = crm.parts.database, crm.parts.files
    async with site(store_url, auth={"tokens": tokens}, database=database, files=files) as other:

        async def post(name: str) -> tuple[int, Any, Any]:
            headers = {"Authorization": f"Bearer {name}"}
            return await other.call("POST", FILES, auth=False, data=b"x", headers=headers)

        answers = await asyncio.gather(*(post("shop") for _ in range(20)))
        assert Counter(status for status, _, _ in answers) == {201: 3, 429: 17}
        status, problem, headers = await post("shop")
        assert (status, "token:shop may keep 3 uploads (files.quota_files)" in problem["detail"]) == (429, True)
        assert 0 < int(headers["Retry-After"]) <= 3600
        assert (await post("till"))[0] == 201
        assert len(left(crm)) == 4
        async with database.transaction() as session:
            await session.execute(update(File).values(expires_at=utc_now() - timedelta(seconds=1)))
        assert (await post("shop"))[0] == 201, "what has expired is not counted"


async def test_one_keeps_so_many_bytes(crm: Site) -> None:
    limit(crm, quota_bytes=1_000_000)
    await add(crm, BytesIO(b"x" * 600_000))
    status, problem, _ = await crm.call("POST", FILES, data=BytesIO(b"x" * 500_000))
    assert status == 429
    assert "1,000,000 bytes of uploads (files.quota_bytes)" in problem["detail"]
    assert len(left(crm)) == 1
    await add(crm, BytesIO(b"x" * 400_000))
    answers = await asyncio.gather(*(crm.call("POST", FILES, data=b"x") for _ in range(5)))
    assert {status for status, _, _ in answers} == {429}


async def test_uploads_at_once_are_counted_together(crm: Site) -> None:
    limit(crm, quota_bytes=1_000_000)
    sizes = [BytesIO(b"x" * 300_000) for _ in range(10)]
    answers = await asyncio.gather(*(crm.call("POST", FILES, data=data) for data in sizes))
    statuses = Counter(status for status, _, _ in answers)
    assert statuses[201] <= 3
    assert statuses[201] + statuses[429] == 10
    assert sum(path.stat().st_size for path in left(crm)) <= 1_000_000
    await add(crm, b"x")  # what was refused is not counted


async def test_room_is_left_on_the_disk(crm: Site) -> None:
    disk = os.statvfs(crm.parts.files.folder)
    limit(crm, keep_free=disk.f_blocks * disk.f_frsize + 1)
    assert "files.keep_free" in await crm.problem(507, "POST", FILES, data=b"x")
    assert left(crm) == []


async def test_a_name_in_the_query_may_be_long_in_any_script(crm: Site) -> None:
    status, stored, _ = await crm.call("POST", "/api/v1/files", params={"name": "\U0001f600" * 1000}, data=b"x")
    assert (status, stored["name"]) == (201, "\U0001f600" * 200)
