"""Unique keys over HTTP: what is posted again under a key whose job is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from crmd.engine.settings import QueueSettings
from crmd.engine.store.replies import Ack, AckKind
from tests.support.http import Site, site

JOBS = "/api/v1/queues/message/jobs"


@pytest.fixture
async def web(store_url: str) -> AsyncIterator[Site]:
    """A server with a queue that keeps its keys taken, and one that does not."""
    queues = (
        QueueSettings("message", unique_for_seconds=86_400.0),
        QueueSettings("email"),
    )
    async with site(store_url, queues=queues) as made:
        yield made


async def end(web: Site, kind: AckKind, *, kept: bool = True, queue: str = "message") -> None:
    """Runs the next job to an end; one that is not kept is deleted at once."""
    scripts = web.harness.inspector.queue(queue)
    [(job_id, document, _)] = (await scripts.claim("d:1", 1)).jobs
    ended = orjson.dumps({**orjson.loads(document), "status": kind.status})
    await scripts.settle([Ack(job_id, "d:1", kind, ended, 60 if kept else -1)])


async def post(web: Site, job: dict[str, Any], queue: str = "message") -> tuple[int, Any]:
    status, body, _ = await web.call("POST", f"/api/v1/queues/{queue}/jobs", json=job)
    return status, body


@pytest.mark.parametrize(("kind", "state"), [(AckKind.COMPLETE, "completed"), (AckKind.UNKNOWN, "unknown")])
async def test_a_repeat_after_the_job_was_trimmed_says_how_it_ended(
    web: Site, ok: dict[str, Any], kind: AckKind, state: str
) -> None:
    job = {**ok, "key": "order-1"}
    assert (await post(web, job))[0] == 201
    await end(web, kind, kept=False)
    for one in (job, {**job, "payload": {"name": "Eve"}}):
        assert await post(web, one) == (200, {"key": "order-1", "created": False, "state": state})
    status, body, headers = await web.call("POST", f"{JOBS}?wait=1s", json=job)
    assert (status, body["state"], headers["Location"]) == (200, state, f"{JOBS}/order-1")
    assert await post(web, {"jobs": [job]}) == (200, {"jobs": [{"key": "order-1", "created": False}]})


@pytest.mark.parametrize("kind", [AckKind.FAILED, AckKind.ABORTED])
async def test_what_failed_is_added_anew(web: Site, ok: dict[str, Any], kind: AckKind) -> None:
    job = {**ok, "key": "order-1"}
    assert (await post(web, job))[0] == 201
    if kind is AckKind.ABORTED:
        assert (await web.call("POST", f"{JOBS}/order-1/cancel"))[0] == 200
    else:
        await end(web, kind)
    assert await post(web, job) == (201, {"key": "order-1", "created": True})


async def test_a_jobs_own_unique_for_goes_before_its_queues(web: Site, ok: dict[str, Any]) -> None:
    for queue, unique_for, again in (("message", "none", 201), ("email", "1h", 200), ("email", None, 201)):
        job = {**ok, "key": f"{queue}-{unique_for}"} | ({"unique_for": unique_for} if unique_for else {})
        assert (await post(web, job, queue))[0] == 201
        await end(web, AckKind.COMPLETE, queue=queue, kept=False)
        assert (await post(web, job, queue))[0] == again


async def test_keys_that_are_made_up_leave_nothing(web: Site, ok: dict[str, Any]) -> None:
    await post(web, ok)
    await end(web, AckKind.COMPLETE, kept=False)
    names = [name async for name in web.harness.store.redis.scan_iter("crmd:q:message:unique*")]
    assert names == []


async def test_deleting_a_completed_job_does_not_free_its_key(web: Site, ok: dict[str, Any]) -> None:
    job = {**ok, "key": "order-1"}
    await post(web, job)
    await end(web, AckKind.COMPLETE)
    assert (await web.call("DELETE", f"{JOBS}/order-1"))[0] == 204
    assert (await post(web, job))[0] == 200
