"""The webhook endpoints over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from crmd.config.tables import EndpointTable
from crmd.crm.webhooks import repository as endpoints
from tests.support.http import Site

ROOT = "/api/v1/webhook-endpoints"
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SECRET = SecretStr(f"whsec_{'A' * 32}")


async def fail(crm: Site, name: str, at: datetime) -> bool:
    async with crm.parts.database.transaction() as session:
        return await endpoints.note_failure(session, name, at, "answered 500", disable_after=timedelta(days=3))


async def test_they_are_listed_and_enabled(crm: Site) -> None:
    crm.parts.endpoints = {
        "shop": EndpointTable(url="https://shop.example.com:8443/secret?t=1", secret=SECRET, events=("order.*",)),
        "desk": EndpointTable(url="https://desk.example.com/"),
    }
    assert not await fail(crm, "shop", AT)
    assert not await fail(crm, "desk", AT)
    assert not await fail(crm, "gone", AT)
    assert await fail(crm, "shop", AT + timedelta(days=3))
    shop, desk = (await crm.get(ROOT))["endpoints"]
    disabled = {
        "name": "shop",
        "host": "shop.example.com:8443",
        "events": ["order.*"],
        "state": "disabled",
        "failing_since": "2026-03-01T12:00:00.000Z",
        "disabled_at": "2026-03-04T12:00:00.000Z",
        "reason": "answered 500",
    }
    assert shop == disabled
    assert (desk["state"], desk["disabled_at"]) == ("failing", None)
    status, body, _ = await crm.call("POST", f"{ROOT}/shop/enable")
    working = {**disabled, "state": "working", "failing_since": None, "disabled_at": None, "reason": None}
    assert (status, body) == (200, working)
    assert (await crm.get(ROOT))["endpoints"][0] == working
    assert (await crm.call("POST", f"{ROOT}/shop/enable"))[0] == 200


async def test_an_endpoint_that_is_none_is_404_with_the_names(crm: Site) -> None:
    crm.parts.endpoints = {"desk": EndpointTable(url="https://desk.example.com/")}
    assert "there are: desk" in await crm.problem(404, "POST", f"{ROOT}/shop/enable")


async def test_without_the_database_it_is_503(web: Site) -> None:
    web.parts.endpoints = {"desk": EndpointTable(url="https://desk.example.com/")}
    assert (await web.call("GET", ROOT))[0] == 503
    assert (await web.call("POST", f"{ROOT}/desk/enable"))[0] == 503
