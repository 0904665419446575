"""Campaigns over HTTP: listed, shown, paused, resumed, cancelled, while their jobs really run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.database.database import Database
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.engine.admin.views import State
from crmd.errors import StoreUnavailable
from tests.support.campaigns import KEY, QUEUES, CampaignBench, definition, inline, phone
from tests.support.http import Site, site, token_table
from tests.support.services import WhatsAppServer
from tests.support.wait import wait_until

TOKENS = {
    "reader": token_table("reader-token-123", "read"),
    "one_queue": token_table("queue-token-1234", "read", "operate", queues=("message",)),
}


@dataclass
class Desk:
    """A server, and the campaigns behind it."""

    site: Site
    bench: CampaignBench

    async def get(self, path: str = "/1") -> Any:
        """What is answered below the campaigns."""
        return await self.site.get(f"/api/v1/campaigns{path}")

    async def act(self, action: str, body: Any = None, campaign: int | str = 1) -> tuple[int, Any]:
        """Status and body of an action."""
        options = {} if body is None else {"json": body}
        status, answer, _ = await self.site.call("POST", f"/api/v1/campaigns/{campaign}/{action}", **options)
        return status, answer

    async def make(self, count: int, **fields: Any) -> None:
        """A campaign all of whose messages wait in their queue."""
        pool = await self.bench.start_pool("campaign")
        await self.bench.result(definition(inline(count), **fields))
        await pool.stop(1.0)


@pytest.fixture
async def desk(
    store_url: str, sqlite_database: Database, whatsapp: WhatsAppClient, server: WhatsAppServer, tmp_path: Path
) -> AsyncIterator[Desk]:
    async with site(store_url, database=sqlite_database, queues=QUEUES, auth={"tokens": TOKENS}) as made:
        yield Desk(made, CampaignBench(made.harness, sqlite_database, whatsapp, server, tmp_path))


async def test_a_campaign_is_shown_with_all_that_became_of_it(desk: Desk) -> None:
    audience = inline(6)
    audience["recipients"][0]["variables"] = {}
    audience["recipients"][1]["phone"] = "12"
    desk.bench.server.then_error(131026)
    await desk.bench.work(definition(audience))
    await wait_until(lambda: desk.bench.have({"accepted": 3, "failed": 1}))
    shown = await desk.get()
    assert datetime.fromisoformat(shown.pop("created_at")) <= datetime.fromisoformat(shown.pop("finished_at"))
    [short, unknown] = sorted(shown.pop("skipped").items())
    assert short[0].startswith("phone: ")
    assert unknown == ("the variable name is missing", 1)
    assert shown == {
        "id": 1,
        "name": "spring",
        "status": "done",
        "reason": None,
        "total": 6,
        "job": {"queue": "campaign", "key": KEY},
        "progress": 1.0,
        "recipients": {"pending": 0, "queued": 4, "skipped": 2},
        "messages": {"accepted": 3, "failed": 1},
        "definition": {
            "name": "spring",
            "audience": {"recipients": "6 in the job's payload"},
            "content": {"text": {"body": "Hello {{ name }}"}},
        },
    }
    assert phone(2) not in str(shown)


async def test_a_campaign_on_its_way_shows_its_progress(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.crm.campaigns.progress.FIRST_AHEAD", 5)
    await desk.bench.start_pool("campaign")
    await desk.bench.add(definition({"filter": {}}, {"text": "hi"}))
    await desk.bench.harness.finished("campaign", KEY)
    assert (await desk.get())["progress"] == 1.0, "of nobody"
    await desk.bench.add(definition(inline(20), name="autumn"), "other")
    await desk.bench.delayed("5 of its messages wait", "other")
    shown = await desk.get("/2")
    assert (shown["progress"], shown["status"], shown["finished_at"]) == (0.25, "running", None)


async def test_campaigns_are_listed_in_pages(desk: Desk) -> None:
    await desk.bench.start_pool("campaign")
    for number in range(5):
        await desk.bench.result(definition(inline(1), name=f"c{number}"), f"k{number}")
    assert (await desk.act("pause", campaign=3))[0] == 200
    first = await desk.get("?limit=2")
    second = await desk.get(f"?limit=2&cursor={first['cursor']}")
    third = await desk.get(f"?limit=2&cursor={second['cursor']}")
    found = [[one["name"] for one in page["campaigns"]] for page in (first, second, third)]
    assert found == [["c4", "c3"], ["c2", "c1"], ["c0"]]
    assert third["cursor"] is None
    assert [one["name"] for one in (await desk.get("?status=paused"))["campaigns"]] == ["c2"]
    assert set(first["campaigns"][0]) == {
        *("id", "name", "status", "reason", "total", "job", "created_at", "finished_at")
    }
    for query in ("status=odd", "cursor=odd", "limit=0", "what=1"):
        await desk.site.expect(422, "GET", f"/api/v1/campaigns?{query}")


async def test_pausing_takes_the_waiting_messages_out_of_their_queue(desk: Desk) -> None:
    await desk.make(250)
    assert await desk.bench.waiting() == 250
    status, shown = await desk.act("pause", {"reason": "a typo"})
    assert (status, shown["status"], shown["reason"]) == (200, "paused", "a typo")
    assert shown["recipients"] == {"pending": 250, "queued": 0, "skipped": 0}
    assert await desk.bench.waiting() == 0
    assert (shown["progress"], shown["finished_at"]) == (0.0, None)


async def test_resuming_sends_the_rest_once(desk: Desk) -> None:
    await desk.make(40)
    await desk.act("pause")
    status, shown = await desk.act("resume")
    assert (status, shown["status"], shown["reason"]) == (200, "running", None)
    await desk.bench.start_pool()
    assert len(await desk.bench.sent(40)) == 40
    await desk.bench.harness.finished("campaign", KEY)
    await wait_until(lambda: desk.bench.have({"accepted": 40}))
    desk.bench.check_once()
    assert (await desk.get())["status"] == "done"


async def test_resuming_wakes_the_job_that_waits(desk: Desk) -> None:
    await desk.bench.work(definition(inline(3)), "campaign")
    await desk.act("pause")
    await desk.bench.add(definition(inline(3)))
    await desk.bench.delayed("the campaign is paused")
    assert (await desk.act("resume"))[0] == 200
    assert (await desk.bench.harness.finished("campaign", KEY, 5.0)).state is State.COMPLETED
    assert await desk.bench.waiting() == 3


async def test_what_cannot_be_taken_back_finds_out_by_itself(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(queue: str, key: str) -> None:
        raise StoreUnavailable("the store is unavailable")

    await desk.make(10)
    monkeypatch.setattr(desk.site.harness.control, "delete", away)
    status, shown = await desk.act("pause")
    assert (status, shown["status"]) == (200, "paused")
    assert await desk.bench.waiting() == 10
    await desk.bench.start_pool("message")
    await wait_until(lambda: desk.bench.harness.idle("message"))
    assert desk.bench.server.messages == []
    assert await desk.bench.counts() == {"pending": 10, "queued": 0, "skipped": 0}


async def test_pausing_while_messages_go_out_loses_none_and_sends_none_twice(desk: Desk) -> None:
    await desk.bench.start_pool()
    await desk.bench.add(definition(inline(120)))
    for number in (20, 50, 80):
        await wait_until(lambda: len(desk.bench.server.messages) >= number, 10.0)  # noqa: B023
        assert (await desk.act("pause"))[0] == 200
        assert (await desk.act("resume"))[0] == 200
    assert len(await desk.bench.sent(120)) == 120
    await wait_until(lambda: desk.bench.have({"accepted": 120}), 10.0)
    await wait_until(lambda: desk.bench.harness.idle("message"))
    desk.bench.check_once()


async def test_a_cancelled_campaign_sends_no_more(desk: Desk) -> None:
    await desk.make(30)
    status, shown = await desk.act("cancel", {"reason": "wrong list"})
    assert (status, shown["status"], shown["reason"]) == (200, "cancelled", "wrong list")
    assert shown["finished_at"] is not None
    assert await desk.bench.waiting() == 0
    await desk.bench.start_pool()
    assert (await desk.bench.result(definition(inline(30)), "again"))["status"] == "cancelled"
    assert desk.bench.server.messages == []


async def test_what_cannot_follow_is_a_409(desk: Desk) -> None:
    async def refused(action: str, status: str) -> bool:
        code, problem = await desk.act(action)
        return code == 409 and problem["detail"].startswith(f"campaign 'spring' is {status}; ")

    await desk.make(1)
    assert await refused("resume", "done")
    assert (await desk.act("pause"))[0] == 200
    assert await refused("pause", "paused")
    assert (await desk.act("cancel"))[0] == 200
    for action in ("pause", "resume", "cancel"):
        assert await refused(action, "cancelled"), action


async def test_a_campaign_whose_messages_all_began_is_over(desk: Desk) -> None:
    await desk.bench.work(definition(inline(3)))
    await wait_until(lambda: desk.bench.have({"accepted": 3}))
    for action in ("pause", "cancel"):
        status, problem = await desk.act(action)
        assert (status, problem["detail"]) == (409, "campaign 'spring' is done and all its messages have begun")


async def test_messages_under_way_are_left_alone(desk: Desk) -> None:
    desk.bench.server.then_hang()
    await desk.bench.work(definition(inline(1)))
    await wait_until(lambda: desk.bench.server.messages)
    async with desk.bench.database.reading() as s:
        assert await campaign_recipients.unsent(s, 1, 0, 10) == []
    assert (await desk.act("cancel"))[0] == 409


async def test_what_is_not_there_is_a_404(desk: Desk) -> None:
    for campaign in ("2", "nope", "9" * 19, "-1"):
        assert (await desk.site.call("GET", f"/api/v1/campaigns/{campaign}"))[0] == 404
        for action in ("pause", "resume", "cancel"):
            assert (await desk.act(action, campaign=campaign))[0] == 404


async def test_bodies_are_closed(desk: Desk) -> None:
    await desk.make(1)
    assert (await desk.act("pause", {"resaon": "x"}))[0] == 422
    assert (await desk.act("resume", {"reason": "x"}))[0] == 422
    assert (await desk.get())["status"] == "done"


async def test_tokens_need_the_scope_and_no_queue(desk: Desk) -> None:
    await desk.make(1)
    reader = {"Authorization": "Bearer reader-token-123"}
    assert (await desk.site.call("GET", "/api/v1/campaigns/1", headers=reader))[0] == 200
    assert (await desk.site.call("POST", "/api/v1/campaigns/1/pause", headers=reader))[0] == 403
    limited = {"Authorization": "Bearer queue-token-1234"}
    assert (await desk.site.call("GET", "/api/v1/campaigns", headers=limited))[0] == 403
