"""Stock SAQ's defects that show on its web page, on ours: `saq_defects.py` says which test is for which."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import pytest

from crmd.engine.admin.views import State
from tests.support.documents import put_job, stored_job
from tests.support.http import Site, site
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until

API = "/admin/queues/api/queues"


async def test_clicks_on_retry_of_a_running_job_run_nothing_twice(store_url: str) -> None:
    async with site(store_url) as web:
        await web.work()
        key = await web.harness.add("email", "greet", name="Ada", seconds=0.4)
        await wait_until(lambda: _is(web, key, State.ACTIVE))
        for _ in range(2):
            await web.expect(409, "POST", f"{API}/email/jobs/{key}/retry")
        await web.harness.finished("email", key)
        assert (await web.call("POST", f"{API}/email/jobs/{key}/retry"))[0] == 409
        totals = (await web.harness.inspector.totals())["email"]
        assert (totals.started, totals.completed) == (1, 1)


async def test_an_abort_of_a_finished_job_is_refused_and_changes_nothing(store_url: str) -> None:
    async with site(store_url) as web:
        await web.work()
        await put_job(web.harness.store, "email", "k", {"function": "greet", "kwargs": {"name": "Ada"}, "ttl": 60})
        await web.harness.finished("email", "k")
        before = await stored_job(web.harness.store, "email", "k")
        assert (await web.call("POST", f"{API}/email/jobs/k/abort"))[0] == 409
        assert (await web.call("POST", "/api/v1/queues/email/jobs/k/cancel"))[0] == 409
        assert await stored_job(web.harness.store, "email", "k") == before
        assert 0 < await web.harness.store.command("TTL", "saq:job:email:k") <= 60


@pytest.mark.parametrize("document", [b"not json", b"[]", b"{}", b'{"function": 5, "queued": "x"}'])
async def test_a_job_that_cannot_be_read_breaks_no_page(store_url: str, untidy: None, document: bytes) -> None:
    async with site(store_url) as web:
        await put_job(web.harness.store, "email", "bad", document)
        key = await web.harness.add("email", "greet", name="Ada")
        for path in (f"{API}/email", API, "/api/v1/queues/email/jobs", "/api/v1/queues/email/jobs/bad"):
            await web.get(path)
        page = await web.get("/api/v1/queues/email/jobs")
        assert [job["key"] for job in page["jobs"]] == ["bad", key]


async def test_health_answers_while_the_store_is_frozen(own_store: StoreServer) -> None:
    async with site(own_store.url) as web:
        await web.work()
        assert (await web.call("GET", "/health"))[0] == 200
        with own_store.paused():
            began = time.monotonic()
            took: dict[str, list[float]] = {"/livez": [], "/health": []}
            status = 200
            while status == 200:
                assert time.monotonic() - began < 2 * HANG_S
                for path in took:
                    asked = time.monotonic()
                    code, _, _ = await web.call("GET", path, auth=False)
                    took[path].append(time.monotonic() - asked)
                    status = code if path == "/health" else status
                await asyncio.sleep(0.1)
            assert status == 503
            # Never in the way of the store, which is frozen for all of them; one may meet a busy machine.
            assert statistics.median(took["/livez"]) < 0.5
            assert max(took["/livez"]) < 2
            assert max(took["/health"]) < HANG_S
        await wait_until(lambda: _healthy(web), 5)


async def _is(web: Site, key: str, state: State) -> bool:
    return (await web.harness.inspector.job("email", key)).state is state


async def _healthy(web: Site) -> Any:
    return (await web.call("GET", "/health"))[0] == 200
