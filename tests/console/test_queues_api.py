"""Queues over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest

from crmd.engine.admin import inspector
from crmd.engine.admin.views import NewJob
from crmd.engine.codec import decode
from tests.support.http import Site, site
from tests.support.wait import HANG_S, wait_until

EMAIL = "/api/v1/queues/email"


async def test_the_list_shows_state_settings_and_where_they_come_from(web: Site) -> None:
    web.parts.queues.sources = {
        "queues.email.attempts": "/etc/crmd/config.toml",
        "defaults.backoff.base": "environment CRMD_DEFAULTS__BACKOFF__BASE",
        "defaults.concurrency": "default",
    }
    listed = (await web.get("/api/v1/queues"))["queues"]
    assert [queue["name"] for queue in listed] == ["message", "email", "import"]
    email = await web.get(EMAIL)
    assert email == listed[1]
    assert email["jobs"] == ["greet"]
    assert email["settings"]["attempts"] == {"value": 2, "source": "/etc/crmd/config.toml"}
    assert email["settings"]["backoff"]["value"] == {"base": "10ms", "max": "20ms"}
    assert email["settings"]["backoff"]["source"] == "environment CRMD_DEFAULTS__BACKOFF__BASE"
    assert email["settings"]["concurrency"] == {"value": 10, "source": "default"}
    assert email["settings"]["timeout"] == {"value": "1m", "source": "default"}
    message = listed[0]
    assert message["settings"]["rate_limit"] == {"value": "20/min", "source": "shipped with the queue"}
    assert message["limit"]["left"] == 20


async def test_pause_and_resume(web: Site) -> None:
    await web.work()
    status, body, _ = await web.call("POST", f"{EMAIL}/pause", json={"reason": "quota", "duration": "10m"})
    assert (status, body["paused"], body["pause"]["reason"], body["pause"]["by"]) == (200, True, "quota", "admin")
    assert body["pause"]["until"] > body["pause"]["at"]
    key = await web.harness.add("email", "greet", name="Ada")
    assert (await web.get(EMAIL))["counts"]["waiting"] == 1
    status, body, _ = await web.call("POST", f"{EMAIL}/resume")
    assert (status, body["paused"], body["pause"]) == (200, False, None)
    await web.harness.finished("email", key)


async def test_what_could_not_be_read_is_listed_without_its_secrets(web: Site) -> None:
    await web.harness.store.command("SET", "saq:job:email:k", '{"function": "greet", "password": "hidden"')
    await web.harness.store.command("ZADD", "saq:email:incomplete", 0, "saq:job:email:k")
    await web.harness.store.command("RPUSH", "saq:email:queued", "saq:job:email:k")
    assert (await web.get(f"{EMAIL}/quarantine")) == {"entries": []}
    await web.work()
    await wait_until(lambda: web.harness.store.command("LLEN", "crmd:q:email:quarantine"))
    [entry] = (await web.get(f"{EMAIL}/quarantine"))["entries"]
    assert (entry["id"], entry["at"][:2]) == ("saq:job:email:k", "20")
    assert "is not JSON" in entry["reason"]
    assert '"function": "greet"' in entry["raw"]
    assert "hidden" not in entry["raw"]


async def test_a_limit_is_set_and_taken_back(web: Site) -> None:
    limit = "/api/v1/queues/message/limit"
    status, body, _ = await web.call("POST", limit, json={"rate": "5/min", "duration": "1h"})
    assert (status, body["limit"]["rate"], body["limit"]["left"]) == (200, "5/min", 5)
    assert body["limit"]["override_until"]
    status, body, _ = await web.call("POST", limit, json={"rate": None})
    assert (status, body["limit"]["rate"], body["limit"]["left"]) == (200, "20/min", 20)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("pause", {"duration": 10}, '10 has no unit; write "10s" for seconds or "10ms"'),
        ("pause", {"duration": "soon"}, "is not a duration"),
        ("pause", {"why": "x"}, "why: no such field here"),
        ("pause", {"reason": "x" * 501}, "reason"),
        ("pause", [1], "body"),
        ("limit", {}, "rate: Field required"),
        ("limit", {"rate": "fast"}, "is not a rate"),
        ("limit", {"rate": "0/s"}, "pause the queue instead"),
    ],
)
async def test_bad_bodies_are_explained(web: Site, path: str, body: object, words: str) -> None:
    answer = await web.expect(422, "POST", f"{EMAIL}/{path}", json=body)
    assert words in answer["detail"]
    assert answer["errors"]


async def test_an_unknown_queue_is_404_with_the_names(web: Site) -> None:
    for method, path in (
        ("GET", ""),
        ("POST", "/pause"),
        ("GET", "/jobs"),
        ("GET", "/jobs/x"),
        ("POST", "/jobs"),
        ("POST", "/retry"),
    ):
        assert (
            await web.problem(404, method, f"/api/v1/queues/nope{path}")
            == 'no queue "nope"; there are: message, email, import'
        )


async def test_workers_lists_the_live_daemons(web: Site) -> None:
    assert (await web.get("/api/v1/workers"))["workers"] == []
    web.parts.health._daemons.forget()
    await web.work()
    [worker] = (await web.get("/api/v1/workers"))["workers"]
    assert worker["queues"] == ["message", "email", "import"]
    assert worker["state"] == "running"


async def test_a_base_path_is_before_everything(store_url: str) -> None:
    async with site(store_url, http={"base_path": "/jobs"}) as web:
        assert web.url.endswith("/jobs")
        assert (await web.get("/health"))["status"] == "ok"
        body = {"job": "greet", "payload": {"name": "Ada"}}
        _, added, headers = await web.call("POST", f"{EMAIL}/jobs", json=body)
        assert headers["Location"] == f"/jobs{EMAIL}/jobs/{added['key']}"
        page = await web.call("GET", "/admin/queues")
        assert 'data-root="/jobs/admin/queues"' in page[1]
        root = web.url.removesuffix("/jobs")
        async with web.session.get(f"{root}/livez") as response:
            assert response.status == 401


async def test_events_tell_of_changes(web: Site) -> None:
    import aiohttp

    async with web.session.get(f"{web.url}/api/v1/events", headers=web.headers) as response:
        assert response.content_type == "text/event-stream"
        assert [event["name"] for event in [await next_event(response) for _ in range(3)]] == [
            "message",
            "email",
            "import",
        ]
        assert await next_event(response) == {"connected": True}
        await web.harness.control.pause("email")
        changed = await next_event(response)
        assert (changed["name"], changed["paused"]) == ("email", True)
        stopping = asyncio.create_task(web.server.stop())
        assert await response.content.read() == b""
        await stopping
    assert isinstance(response, aiohttp.ClientResponse)


async def next_event(response: object) -> dict[str, object]:
    lines = []
    async with asyncio.timeout(HANG_S):
        while (line := await response.content.readline()) != b"\n":  # type: ignore[attr-defined]
            lines.append(line.decode())
    found: dict[str, object] = json.loads(lines[1].removeprefix("data: "))
    return found


async def test_two_servers_on_one_port_are_one_too_many(web: Site) -> None:

    from crmd.config.tables import AuthTable, HttpTable
    from crmd.errors import PortTaken

    port = web.server.address[1]
    second = web.parts.server(web.harness.control, HttpTable(port=port), AuthTable(), "password")
    with pytest.raises(PortTaken, match=f"127.0.0.1:{port} is in use: set http.port"):
        await second.start()
    await second.stop()
    await second.stop()


async def test_a_stop_ends_waits_at_once(web: Site) -> None:
    body = {"job": "greet", "payload": {"name": "Ada"}}
    waiting = asyncio.create_task(web.call("POST", f"{EMAIL}/jobs?wait=1m", json=body))

    async def added() -> bool:
        return (await web.harness.inspector.counts("email")).waiting == 1

    await wait_until(added)
    async with asyncio.timeout(HANG_S):
        await web.server.stop()
        status, answer, _ = await waiting
    assert (status, answer["state"]) == (202, "waiting")


async def test_metrics_decode_few_large_jobs_and_outside_the_loop(
    web: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[int] = []

    def noted(document: bytes) -> dict[str, Any]:
        threads.append(threading.get_ident())
        return decode(document)

    monkeypatch.setattr(inspector, "decode", noted)
    monkeypatch.setattr(inspector, "SAMPLE_BYTES", 1_500_000)
    await web.work()
    keys = [f"k{number}" for number in range(60)]
    for key in keys:
        await web.harness.control.enqueue("email", [NewJob("greet", {"name": "x" * 20_000}, key=key)])
    for key in keys:
        await web.harness.finished("email", key)
    metrics = (await web.get("/api/v1/queues/metrics"))["queues"]["email"]
    assert metrics["run_ms"]["p50"] is not None
    assert threading.get_ident() not in threads
    assert len(threads) == 2 * inspector.SAMPLE_BATCH
