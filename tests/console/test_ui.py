"""What SAQ's page asks for, in SAQ's form."""

from __future__ import annotations

import json
import re
import threading

import pytest
from saq import Job
from saq.queue.redis import RedisQueue
from saq.web.common import STATIC_PATH

from crmd.engine.admin.views import NewJob
from crmd.telemetry import redact as redact_module
from tests.support.http import Site

API = "/admin/queues/api/queues"


@pytest.mark.parametrize(
    "path",
    ["/admin/queues", "/admin/queues/", "/admin/queues/queues/email", "/admin/queues/queues/email/jobs/a%2Fb"],
)
async def test_the_page_and_all_it_loads_come_from_us(web: Site, path: str) -> None:
    status, page, headers = await web.call("GET", path)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self';" in headers["Content-Security-Policy"]
    links = re.findall(r'(?:href|src)="([^"]+)"', page)
    files = [link for link in links if not link.startswith("data:")]
    assert len(files) == 5
    for link in files:
        status, _, headers = await web.call("GET", link, headers={"Accept-Encoding": "identity"})
        assert (status, headers["Content-Type"].split(";")[0] in ("text/css", "text/javascript")) == (200, True)


async def test_saqs_script_is_untouched_and_cached_by_its_tag(web: Site) -> None:
    _, script, headers = await web.call("GET", "/admin/queues/static/app.js")
    assert script == (STATIC_PATH / "app.js").read_text()
    again = {"If-None-Match": headers["ETag"]}
    assert (await web.call("GET", "/admin/queues/static/app.js", headers=again))[0] == 304
    for name in ("nope.js", "queues.html", "..%2Fapp.py"):
        assert (await web.call("GET", f"/admin/queues/static/{name}"))[0] == 404


async def test_queues_have_saqs_names_and_ours(web: Site) -> None:
    await web.work()
    await web.harness.finished("email", await web.harness.add("email", "greet", name="Ada"))
    web.parts.health.forget()
    queues = (await web.get(API))["queues"]
    assert [queue["name"] for queue in queues] == ["message", "email", "import"]
    email = queues[1]
    assert {"queued", "active", "scheduled", "workers"} <= email.keys()
    [worker] = email["workers"].values()
    assert worker["stats"].keys() == {"complete", "retried", "failed", "uptime"}
    assert (email["counts"]["completed"], email["paused"]) == (1, False)


async def test_finished_jobs_are_shown_with_error_and_result_and_without_secrets(web: Site) -> None:
    await web.work()
    done = await web.harness.add("email", "greet", name="Ada", password="hunter22")
    failed = await web.harness.add("email", "greet", name="token=abcdefgh", fail=True)
    for key in (done, failed):
        await web.harness.finished("email", key)
    queue = (await web.get(f"{API}/email"))["queue"]
    assert {job["status"] for job in queue["jobs"]} == {"completed", "failed"}
    assert "hunter22" not in str(queue)
    assert [job["key"] for job in (await web.get(f"{API}/email?state=failed"))["queue"]["jobs"]] == [failed]
    job = (await web.get(f"{API}/email/jobs/{done}"))["job"]
    assert (job["result"], "'password': '***'" in job["kwargs"]) == ("hello Ada", True)
    assert job["completed"] >= job["started"] >= job["queued"]
    job = (await web.get(f"{API}/email/jobs/{failed}"))["job"]
    assert "went" in job["error"]
    assert "abcdefgh" not in str(job)


async def test_actions_of_the_page(web: Site) -> None:
    key = await web.harness.add("email", "greet", name="Ada")
    job = f"{API}/email/jobs/{key}"
    status, body, _ = await web.call("POST", f"{job}/retry")
    assert (status, body["error"]) == (409, body["detail"])
    assert (await web.call("POST", f"{job}/abort"))[:2] == (200, {})
    view = (await web.get(job))["job"]
    assert (view["status"], view["error"]) == ("cancelled", "aborted by admin")
    assert (await web.call("POST", f"{job}/retry"))[0] == 200
    assert (await web.call("POST", f"{API}/email/pause"))[0] == 200
    queue = (await web.get(f"{API}/email"))["queue"]
    assert (queue["paused"], queue["pause"]["by"]) == (True, "admin")
    assert (await web.call("POST", f"{API}/email/resume"))[0] == 200
    assert not (await web.get(f"{API}/email"))["queue"]["paused"]
    for path in (f"{API}/nope", f"{API}/email/jobs/nope", f"{API}/email?state=x"):
        status, body, _ = await web.call("GET", path)
        assert status in (404, 422)
        assert body["error"]


async def test_keys_go_into_addresses_as_they_are(web: Site, store_url: str) -> None:
    queue = RedisQueue.from_url(store_url, name="email")
    await queue.enqueue(Job("greet", key="a/b ?", kwargs={"name": "Ada"}))
    await queue.disconnect()
    [job] = (await web.get(f"{API}/email"))["queue"]["jobs"]
    assert job["key"] == "a%2Fb%20%3F"
    from yarl import URL

    url = URL(f"{web.url}{API}/email/jobs/{job['key']}", encoded=True)
    async with web.session.get(url, headers=web.headers) as response:
        assert response.status == 200


async def test_a_page_over_hostile_payloads_is_short_and_masks_little(
    web: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = ["password='" * 25_000, "x-api-key " * 25_000, "://a:b" * 40_000, {"token": ["'" * 250_000]}]
    for number in range(50):
        await web.harness.control.enqueue("email", [NewJob("greet", {"a": hostile[number % 4]})])
    masked: list[tuple[int, int]] = []
    real = redact_module.redact

    def count(text: str) -> str:
        masked.append((len(text), threading.get_ident()))
        return real(text)

    monkeypatch.setattr(redact_module, "redact", count)
    seen = 0
    cursor = ""
    while True:
        masked.clear()
        page = (await web.get(f"{API}/email?limit=50{cursor}"))["queue"]
        assert len(json.dumps(page)) < 400_000
        assert sum(size for size, _ in masked) < 400_000
        assert threading.get_ident() not in {thread for _, thread in masked}
        seen += len(page["jobs"])
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == 50
