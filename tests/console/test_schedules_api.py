"""Schedules over HTTP."""

from __future__ import annotations

import pytest

from crmd.engine.settings import ScheduleSettings
from tests.support.http import Site, site, token_table


def settings() -> dict[str, ScheduleSettings]:
    payload = {"name": "Ada"}
    return {
        queue: ScheduleSettings(queue, queue, "greet", cron="0 9 * * *", payload=payload)
        for queue in ("email", "import")
    }


@pytest.fixture
def scheduled(web: Site) -> Site:
    web.harness.registry.replace(web.harness.registry.queues, settings())
    return web


async def test_they_are_listed(scheduled: Site) -> None:
    body = await scheduled.get("/api/v1/schedules")
    first, second = body["schedules"]
    assert (first["name"], second["name"]) == ("email", "import")
    assert (first["times"], first["paused"], first["last_key"]) == ("0 9 * * * UTC", False, None)
    assert first["next_run_at"].endswith("T09:00:00.000Z")


async def test_one_is_run_now(scheduled: Site) -> None:
    body = await scheduled.expect(201, "POST", "/api/v1/schedules/email/run")
    job = await scheduled.get(f"/api/v1/queues/{body['queue']}/jobs/{body['key']}")
    assert (job["job"], job["payload"], job["state"]) == ("greet", {"name": "Ada"}, "waiting")


async def test_one_is_paused_and_resumed(scheduled: Site) -> None:
    status, body, _ = await scheduled.call("POST", "/api/v1/schedules/email/pause", json={"reason": "holiday"})
    assert (status, body["paused"], body["paused_by"], body["paused_reason"]) == (200, True, "admin", "holiday")
    status, body, _ = await scheduled.call("POST", "/api/v1/schedules/email/resume")
    assert (status, body["paused"]) == (200, False)
    status, body, _ = await scheduled.call("POST", "/api/v1/schedules/email/pause", json={"why": "x"})
    assert (status, body["errors"][0]["field"]) == (422, "why")


@pytest.mark.parametrize("action", ["run", "pause", "resume"])
async def test_an_unknown_one_is_not_found(scheduled: Site, action: str) -> None:
    assert (
        await scheduled.problem(404, "POST", f"/api/v1/schedules/emial/{action}")
        == "no schedule is named 'emial'; did you mean email?"
    )


async def test_without_schedules_there_are_none(web: Site) -> None:
    assert await web.get("/api/v1/schedules") == {"schedules": []}
    assert (await web.call("POST", "/api/v1/schedules/email/run"))[0] == 404


async def test_a_token_of_one_queue_sees_that_queues_and_steers_none(store_url: str) -> None:
    table = token_table("secret-token", "read", "operate", queues=("email",))
    async with site(store_url, auth={"tokens": {"shop": table}}) as made:
        made.harness.registry.replace(made.harness.registry.queues, settings())
        headers = {"Authorization": "Bearer secret-token"}
        body = await made.get("/api/v1/schedules", auth=False, headers=headers)
        assert [one["name"] for one in body["schedules"]] == ["email"]
        await made.expect(403, "POST", "/api/v1/schedules/email/run", auth=False, headers=headers)
