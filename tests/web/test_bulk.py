"""Actions on all jobs that a filter finds."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.queues.views import NewJob
from tests.support.http import Site


async def test_bulk_retry_cancel_and_clean(web: Site) -> None:
    new = [NewJob("greet", {"name": f"n{n}"}, key=f"k{n}") for n in range(60)]
    await web.rig.control.enqueue("email", new)

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
    counts = await web.rig.inspector.counts("email")
    assert (counts.waiting, counts.cancelled) == (11, 0)


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("retry", {}),
        ("retry", {"state": "waiting"}),
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
