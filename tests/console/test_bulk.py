"""Actions on all jobs that a filter finds."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.engine.admin.views import NewJob, State
from crmd.errors import IllegalTransition, OutcomeUnknown
from tests.support.http import Site
from tests.support.wait import wait_until


async def test_bulk_retry_cancel_and_clean(web: Site) -> None:
    new = [NewJob("greet", {"name": f"n{n}"}, key=f"k{n}") for n in range(60)]
    await web.harness.control.enqueue("email", new)

    async def act(verb: str, **body: Any) -> Any:
        status, answer, _ = await web.call("POST", f"/api/v1/queues/email/{verb}", json=body)
        assert status == 200, answer
        return answer

    dry = await act("cancel", state="waiting", dry_run=True)
    assert (dry["matched"], dry["done"], dry["dry_run"], len(dry["samples"]), dry["more"]) == (
        60,
        0,
        True,
        10,
        False,
    )
    assert (await act("cancel", state="waiting", search="n59"))["done"] == 1
    done = await act("cancel", state="waiting")
    assert (done["done"], done["skipped"], done["more"]) == (59, 0, False)
    assert (await act("retry", state="cancelled", search="n1", rate="1000/s"))["done"] == 11
    assert (await act("clean", state="cancelled"))["done"] == 49
    counts = await web.harness.inspector.counts("email")
    assert (counts.waiting, counts.cancelled) == (11, 0)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("retry", {}),
        ("retry", {"state": "waiting"}),
        ("retry", {"state": "unknown"}),
        ("retry", {"state": "unknown", "dry_run": True}),
        ("cancel", {"state": "failed"}),
        ("clean", {"state": "active"}),
        ("clean", {"state": "nope"}),
        ("clean", {"state": "failed", "all": True}),
        ("retry", {"state": "failed", "rate": 5}),
        ("retry", {"state": "failed", "dry_run": "yes"}),
    ],
)
async def test_bad_filters_are_refused(web: Site, verb: str, body: dict[str, Any]) -> None:
    assert (await web.call("POST", f"/api/v1/queues/email/{verb}", json=body))[0] == 422


async def test_unknown_jobs_run_again_only_by_their_key(crm: Site) -> None:
    runs = []

    async def send(_context: object) -> None:
        runs.append(1)
        raise OutcomeUnknown("no answer")

    crm.harness.handle("message", "unclear", send)
    await crm.work()
    await crm.harness.control.enqueue("message", [NewJob("unclear", key="sent")])
    assert (await crm.harness.finished("message", "sent")).state is State.UNKNOWN
    bulk = "/api/v1/queues/message/retry"
    status, problem, _ = await crm.call("POST", bulk, json={"state": "unknown"})
    assert status == 422
    assert "retry them by key" in problem["detail"]
    assert (await crm.call("POST", bulk, json={"state": "failed"}))[1]["matched"] == 0
    with pytest.raises(IllegalTransition, match="by its key"):  # it became unknown after the filter found it
        await crm.harness.control.retry("message", "sent", by_name=False)
    assert len(runs) == 1
    assert (await crm.call("POST", "/api/v1/queues/message/jobs/sent/retry"))[0] == 200
    await wait_until(lambda: len(runs) == 2, 5)
