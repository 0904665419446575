"""SAQ's page in a real browser: what an operator sees and does."""

from __future__ import annotations

import pytest
from saq import Job
from saq.queue.redis import RedisQueue

from crmd.engine.admin.views import NewJob, State
from tests.support.wait import wait_until
from tests.ui.conftest import Ui

pytestmark = pytest.mark.ui


async def test_home_shows_all_queues_and_pauses_one(ui: Ui) -> None:
    await ui.open()
    await ui.sees("Scheduled")
    assert await ui.page.evaluate("location.pathname") == "/admin/queues/"
    for queue in ("message", "email", "import"):
        assert await ui.page.get_by_role("link", name=queue).count() == 2
    row = ui.page.locator("#crmd tr", has_text="email")
    await row.get_by_role("button", name="Pause").click()
    await row.get_by_text("paused by admin").wait_for(timeout=5000)
    assert (await ui.web.harness.inspector.counts("email")).paused
    await row.get_by_role("button", name="Resume").click()
    await row.get_by_text("running").wait_for(timeout=5000)
    assert not (await ui.web.harness.inspector.counts("email")).paused
    assert ui.complaints == []


async def test_finished_jobs_error_result_and_retry(ui: Ui) -> None:
    await ui.web.work()
    done = await ui.web.harness.add("email", "greet", name="Ada", password="hunter22")
    failed = await ui.web.harness.add("email", "greet", name="Eve", fail=True)
    for key in (done, failed):
        await ui.web.harness.finished("email", key)
    await ui.open("/queues/email")
    await ui.sees(done)
    await ui.page.locator("#crmd").get_by_role("link", name="failed 1").click()
    await ui.page.locator("main").get_by_text(failed).wait_for(timeout=5000)
    assert await ui.page.get_by_text(done).count() == 0
    await ui.page.locator("main").get_by_text(failed).click()
    await ui.sees("Eve <b>went</b> wrong")
    assert await ui.page.locator("main details b").count() == 0
    await ui.page.locator("main").get_by_role("button", name="Retry").click()

    async def tried_again() -> bool:
        view = await ui.web.harness.inspector.job("email", failed)
        return any(entry.event == "requeued" for entry in view.timeline)

    await wait_until(tried_again)
    await ui.page.locator("main td").get_by_role("link", name="email").click()
    await ui.sees("Workers")
    assert await ui.page.evaluate("location.pathname") == "/admin/queues/queues/email"
    await ui.open(f"/queues/email/jobs/{done}")
    await ui.sees("hello Ada")
    assert "hunter22" not in await ui.page.content()
    assert ui.complaints == []


async def test_a_refused_action_is_explained(ui: Ui) -> None:
    await ui.web.work()
    done = await ui.web.harness.add("email", "greet", name="Ada")
    await ui.web.harness.finished("email", done)
    await ui.open(f"/queues/email/jobs/{done}")
    await ui.page.locator("main").get_by_role("button", name="Retry").click()
    await ui.sees("only failed, cancelled and unknown jobs are retried")


async def test_jobs_by_state_and_page_and_search(ui: Ui) -> None:
    new = [NewJob("greet", {"name": f"name{n}"}, key=f"key{n:03}") for n in range(60)]
    await ui.web.harness.control.enqueue("email", new)
    await ui.open("/queues/email?state=waiting")
    await ui.sees("key049")
    assert await ui.page.get_by_text("key050").count() == 0
    await ui.page.get_by_role("button", name="Next page").click()
    await ui.sees("key050")
    await ui.page.get_by_role("button", name="First page").click()
    await ui.sees("key000")
    search = ui.page.get_by_label("Search jobs")
    await search.fill("name57")
    for _ in range(2):  # SAQ's page draws itself anew meanwhile
        async with ui.page.expect_response("**/api/queues/email**"):
            continue
    assert await search.input_value() == "name57"
    await search.press("Enter")
    await ui.sees("key057")
    assert await ui.page.get_by_text("key000").count() == 0
    assert await ui.page.evaluate("location.search") == "?state=waiting&search=name57"


@pytest.mark.parametrize("key", ["a/b", "50%", "ü ?#&x=1", "<img src=x onerror=alert(1)>"])
async def test_jobs_with_odd_keys_open_and_abort(ui: Ui, store_url: str, key: str) -> None:
    queue = RedisQueue.from_url(store_url, name="email")
    await queue.enqueue(Job("greet", key=key, kwargs={"name": "<script>alert(1)</script>"}))
    await queue.disconnect()
    await ui.open("/queues/email?state=waiting")
    await ui.page.locator("main tbody a").first.click()
    await ui.page.locator("main").get_by_role("button", name="Abort").click()

    async def cancelled() -> bool:
        return (await ui.web.harness.inspector.job("email", key)).state is State.CANCELLED

    await wait_until(cancelled)
    await ui.sees("aborted by admin")
    assert ui.complaints == []


async def test_the_docs_page_lists_the_operations(ui: Ui) -> None:
    await ui.page.goto(f"{ui.web.url}/api/docs")
    await ui.sees("/api/v1/queues/{queue}/pause")
    assert await ui.page.locator("details").count() > 20
    assert ui.complaints == []
