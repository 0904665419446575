"""Probes and summaries: shapes, states, and what they say when the store is unavailable."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from crmd.engine.admin.views import NewJob
from crmd.engine.durations import Rate
from crmd.engine.store.replies import Ack, AckKind
from tests.support.http import Site, site
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until

ANSWERS_S = 2.0
"""What asks a store that is frozen waits twice as long."""

COUNTS = {"waiting", "active", "delayed", "completed", "failed"}
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def test_health_has_the_shape_that_was_promised(web: Site) -> None:
    status, body, headers = await web.call("GET", "/health", auth=False)
    assert status == 200
    assert INSTANT.fullmatch(body.pop("timestamp"))
    assert body.pop("uptime_seconds") >= 0
    assert body == {"status": "ok", "redis": {"connected": True}, "queues": "healthy", "version": "9.9.9"}
    assert headers["Cache-Control"] == "no-store"


async def test_a_paused_queue_degrades_and_is_no_error(web: Site) -> None:
    await web.harness.control.pause("email")
    status, body, _ = await web.call("GET", "/health", auth=False)
    assert (status, body["status"], body["queues"]) == (200, "ok", "degraded")
    assert "reason" not in body


@pytest.mark.parametrize(("state", "status"), [("starting", "error"), ("draining", "draining")])
async def test_before_and_after_it_runs_it_is_not_ready(web: Site, state: Any, status: str) -> None:
    web.parts.life.state, web.parts.life.reason = state, "because"
    found, body, _ = await web.call("GET", "/health", auth=False)
    assert (found, body["status"], body["reason"]) == (503, status, "because")
    found, body, _ = await web.call("GET", "/readyz", auth=False)
    assert (found, body["reason"]) == (503, "because")
    assert (await web.call("GET", "/livez", auth=False))[:2] == (200, {"status": "ok"})


async def test_work_that_does_not_start_is_unhealthy(web: Site) -> None:
    await web.harness.control.enqueue("import", [NewJob("greet", {"name": "Ada"})])

    async def unhealthy() -> bool:
        status, body, _ = await web.call("GET", "/health", auth=False)
        return status == 503 and body["queues"] == "unhealthy" and "import wait" in body["reason"]

    await wait_until(unhealthy)
    summary = await web.get("/api/v1/queues/health")
    assert (summary["status"], summary["queues"]["import"]["status"]) == ("unhealthy", "unhealthy")
    await web.harness.control.pause("import")
    web.parts.health.forget()
    assert (await web.call("GET", "/health", auth=False))[0] == 200
    await web.harness.control.resume("import")
    web.parts.queues.run_elsewhere = {"import": "its service is not configured"}
    web.parts.health.forget()
    assert (await web.call("GET", "/health", auth=False))[0] == 200


async def test_a_limit_explains_no_more_than_its_period(web: Site) -> None:
    await web.harness.control.limit("import", Rate(1, 3600))
    await web.harness.control.enqueue("import", [NewJob("greet", {"name": "Ada"}) for _ in range(2)])
    scripts = web.harness.inspector.queue("import")
    [(job_id, document, _)] = (await scripts.claim("d:1", 1)).jobs
    await scripts.settle([Ack(job_id, "d:1", AckKind.COMPLETE, document)])

    async def status() -> int:
        web.parts.health.forget()
        return (await web.call("GET", "/health", auth=False))[0]

    async def waits_longer_than_a_stall() -> bool:
        seen = await web.harness.inspector.counts("import")
        assert (seen.rate_left, seen.rate_period_seconds) == (0, 3600.25)
        return (seen.oldest_waiting_seconds or 0) > 3 * web.parts.queues.settings["import"].stall_after_seconds

    async def unhealthy() -> bool:
        return await status() == 503

    await wait_until(waits_longer_than_a_stall)
    assert await status() == 200
    await web.harness.control.limit("import", Rate(1, 0.01))
    await scripts.store.command("RPUSH", scripts.keys.starts, 4_000_000_000_000)  # of a clock far ahead
    await wait_until(unhealthy)


async def test_full_slots_are_no_stall_while_jobs_may_still_run(web: Site) -> None:
    jobs = [NewJob("greet", {"name": "Ada", "seconds": 0.8}) for _ in range(11)]
    await web.harness.control.enqueue("import", jobs)
    await web.work()

    async def full() -> bool:
        web.parts.health.forget()
        queue = (await web.get("/api/v1/queues/health"))["queues"]["import"]
        return bool(queue["active"] == 10 and queue["waiting"] == 1)

    await wait_until(full)
    assert (await web.call("GET", "/health", auth=False))[0] == 200


async def test_queues_health_has_counts_and_totals(web: Site) -> None:
    await web.harness.control.enqueue(
        "email", [NewJob("greet", {"name": "a"}), NewJob("greet", {"name": "b"}, delay=60)]
    )
    await web.harness.control.pause("email")
    body = await web.get("/api/v1/queues/health", auth=False)
    assert body.keys() == {"status", "redis", "queues", "totals"}
    assert body["status"] == "degraded"
    assert body["redis"].keys() == {"connected", "latency_ms"}
    assert body["queues"].keys() == {"message", "email", "import"}
    assert body["queues"]["email"] == {
        **dict.fromkeys(COUNTS, 0),
        "status": "degraded",
        "waiting": 1,
        "delayed": 1,
        "paused": True,
    }
    assert body["totals"] == {**dict.fromkeys(COUNTS, 0), "waiting": 1, "delayed": 1, "paused": 1}


async def test_metrics_and_statistics_tell_what_happened(web: Site) -> None:
    await web.work()
    keys = [
        await web.harness.add("email", "greet", name="a"),
        await web.harness.add("email", "greet", name="b", fail=True),
    ]
    for key in keys:
        await web.harness.finished("email", key)
    web.parts.health.forget()
    metrics = (await web.get("/api/v1/queues/metrics"))["queues"]["email"]
    assert (metrics["completed"], metrics["failed"], metrics["success_rate"]) == (1, 1, 0.5)
    assert metrics["run_ms"].keys() == {"p50", "p95", "p99"}
    assert metrics["limit"] == {"rate": None, "left": None, "override_until": None, "blocked_until": None}
    limit = (await web.get("/api/v1/queues/metrics"))["queues"]["message"]["limit"]
    assert (limit["rate"], limit["left"]) == ("20/min", 20)
    statistics = await web.get("/api/v1/queues/statistics")
    assert statistics["queues"]["email"]["success_rate"] == 0.5
    assert statistics["queues"]["message"]["success_rate"] is None
    assert (statistics["totals"]["completed"], statistics["totals"]["failed"]) == (1, 1)


async def test_prometheus_reads_our_metrics(web: Site) -> None:
    await web.work()
    await web.harness.finished("email", await web.harness.add("email", "greet", name="a"))
    web.parts.health.forget()
    _, text, headers = await web.call("GET", "/metrics", auth=False)
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    jobs = {tuple(sample.labels.values()): sample.value for sample in families["crmd_queue_jobs"].samples}
    assert jobs["email", "completed"] == 1
    assert len(jobs) == 3 * 7
    assert families["crmd_store_connected"].samples[0].value == 1
    ended = [sample for sample in families["crmd_attempts"].samples if sample.name == "crmd_attempts_total"]
    assert [(sample.labels, sample.value) for sample in ended] == [({"queue": "email", "ending": "completed"}, 1)]
    assert "crmd_http_request_seconds" in families


async def test_metrics_labels_stay_few(web: Site) -> None:
    for number in range(5):
        await web.call("GET", f"/api/v1/queues/email/jobs/{number}")
        await web.call("GET", f"/nowhere/{number}")
    for method in ("PROPFIND", "MKCOL", "TRACE"):
        await web.call(method, "/livez")
    _, text, _ = await web.call("GET", "/metrics", auth=False)
    routes = set(re.findall(r'crmd_http_requests_total\{method="(\w+)",route="([^"]+)"', text))
    assert routes == {("GET", "/api/v1/queues/{queue}/jobs/{key}"), ("GET", "none"), ("other", "none")}


async def test_a_queue_that_does_not_work_degrades_only_itself(web: Site, redis: Redis) -> None:
    await redis.set("saq:email:queued", "no list")
    web.parts.queues.degraded = lambda: {"email": "its keys cannot be read"}
    body = await web.get("/api/v1/queues/health")
    assert body["status"] == "degraded"
    assert (body["queues"]["email"]["status"], body["queues"]["message"]["status"]) == ("degraded", "healthy")
    assert body["queues"]["email"]["reason"] == "its keys cannot be read"
    assert (await web.call("GET", "/health", auth=False))[0] == 200
    assert (await web.call("GET", "/metrics", auth=False))[0] == 200
    assert len((await web.get("/admin/queues/api/queues"))["queues"]) == 3
    status, body, _ = await web.call("GET", "/admin/queues/api/queues/email")
    assert (status, "WRONGTYPE" in body["error"]) == (503, True)


async def test_without_the_store_everything_answers(own_store: StoreServer) -> None:
    async with site(own_store.url) as web:
        own_store.kill()
        await wait_until(lambda: is_away(web))
        await check_without_store(web, within=ANSWERS_S)
        own_store.start()
        await wait_until(lambda: web.harness.store.connected)
        assert (await web.call("GET", "/health", auth=False))[0] == 200


async def test_a_frozen_store_holds_nobody_up(own_store: StoreServer) -> None:
    async with site(own_store.url) as web:
        with own_store.paused():
            await check_without_store(web, within=HANG_S)


async def is_away(web: Site) -> bool:
    await web.call("GET", "/readyz")
    return not web.harness.store.connected


async def check_without_store(web: Site, within: float) -> None:
    async def timed(method: str, path: str, **options: Any) -> tuple[int, Any]:
        began = time.monotonic()
        status, body, headers = await web.call(method, path, **options)
        assert time.monotonic() - began < within, path
        if status == 503 and "problem" in headers["Content-Type"]:
            assert body["id"]
            assert headers["Retry-After"] == "1"
        return status, body

    assert (await timed("GET", "/livez"))[0] == 200
    status, body = await timed("GET", "/health")
    assert (status, body["status"], body["redis"], body["queues"]) == (
        503,
        "error",
        {"connected": False},
        "unhealthy",
    )
    assert body["reason"]
    assert (await timed("GET", "/readyz"))[0] == 503
    status, body = await timed("GET", "/api/v1/queues/health")
    assert (status, body["redis"]["connected"], body["queues"]) == (503, False, {})
    status, text = await timed("GET", "/metrics")
    assert (status, "crmd_store_connected 0.0" in text) == (200, True)
    assert "crmd_queue_jobs{" not in text
    for path in (
        "/api/v1/queues/metrics",
        "/api/v1/queues/statistics",
        "/api/v1/queues",
        "/api/v1/workers",
        "/api/v1/queues/email",
        "/api/v1/queues/email/jobs",
        "/api/v1/queues/email/jobs/x",
        "/admin/queues/api/queues",
    ):
        assert (await timed("GET", path))[0] == 503, path
    assert (await timed("POST", "/api/v1/queues/email/pause"))[0] == 503
    job = {"job": "greet", "payload": {"name": "Ada"}}
    if not web.harness.store.connected:  # a frozen store is given more time for writes
        assert (await timed("POST", "/api/v1/queues/email/jobs", json=job))[0] == 503
    assert (await timed("GET", "/admin/queues"))[0] == 200
