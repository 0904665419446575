"""Flows over HTTP: put with all mistakes told, shown, deleted; runs shown and cancelled."""

from __future__ import annotations

from typing import Any

from crmd.crm.contacts import repository as contacts
from crmd.crm.database.types import utc_now
from crmd.crm.flows import repository as flows
from crmd.crm.flows.repository import Position, RunState, Step
from tests.support.http import Site, site, token_table

HELLO = {"id": "hello", "type": "send", "text": "Hello {{ name }}"}
ASK = {"id": "ask", "type": "wait_for_reply", "timeout": "1h", "on_timeout": "hello"}
PHONE = "+491701234567"


async def put(crm: Site, name: str = "welcome", *steps: dict[str, Any], **fields: Any) -> tuple[int, Any]:
    status, body, _ = await crm.call(
        "PUT", f"/api/v1/flows/{name}", json={"steps": list(steps or (HELLO,)), **fields}
    )
    return status, body


async def make_run(crm: Site, once: str, phone: str = PHONE, state: RunState = RunState.WAITING) -> int:
    async with crm.parts.database.transaction() as s:
        flow = await flows.by_name(s, "welcome")
        assert flow is not None
        contact = await contacts.ensure(s, phone)
        data = {"saved": {"order": 17}, "reply": "yes"}
        at, _ = await flows.start(s, flow, contact.id, once=once, step="hello", data=data)
        await flows.save(s, at, Step(state, "hello", data, utc_now()))
    return at.run_id


async def test_a_flow_is_put_shown_replaced_and_deleted(crm: Site) -> None:
    status, body = await put(crm, description="Greets", start={"on": "message", "words": ["hi"]})
    assert status == 201
    assert body["name"] == "welcome"
    shown = await crm.get("/api/v1/flows/welcome")
    assert shown == body
    assert shown["definition"] == {
        "name": "welcome",
        "description": "Greets",
        "start": {"on": "message", "words": ["hi"]},
        "steps": [HELLO],
    }
    assert (shown["enabled"], shown["steps"], shown["live_runs"]) == (True, 1, 0)
    status, body = await put(crm, "welcome", HELLO, ASK, enabled=False)
    assert (status, body["enabled"], body["steps"]) == (200, False, 2)
    assert (await crm.call("DELETE", "/api/v1/flows/welcome"))[0] == 204
    for method in ("GET", "DELETE"):
        assert await crm.problem(404, method, "/api/v1/flows/welcome") == 'there is no flow "welcome"'


async def test_mistakes_are_told_with_step_and_reason(crm: Site) -> None:
    broken = {"id": "ask", "type": "wait_for_reply", "timeout": "5", "on_timeout": "nowhere"}
    status, problem = await put(crm, "welcome", {**HELLO, "text": "{{ name"}, broken)
    assert status == 422
    found = {(one["step"], one["field"]): one["reason"] for one in problem["errors"]}
    assert set(found) == {("hello", "text"), ("ask", "timeout"), ("ask", "on_timeout")}
    assert found["ask", "on_timeout"] == 'there is no step "nowhere"'
    assert 'step ask: on_timeout: there is no step "nowhere"' in problem["detail"]
    assert (await crm.get("/api/v1/flows"))["flows"] == []


async def test_what_is_no_definition_is_refused(crm: Site) -> None:
    bodies: list[Any] = [[], "x", {}, {"name": "other", "steps": [HELLO]}]
    for body in bodies:
        assert (await crm.expect(422, "PUT", "/api/v1/flows/welcome", json=body))["errors"]
    await crm.expect(422, "PUT", "/api/v1/flows/Not%20A%20Name", json={"steps": [HELLO]})
    await crm.expect(415, "PUT", "/api/v1/flows/welcome", data=b"{")


async def test_there_are_not_too_many_flows(crm: Site, monkeypatch: Any) -> None:
    monkeypatch.setattr(flows, "MAX_FLOWS", 1)
    await put(crm, "a")
    status, problem = await put(crm, "b")
    assert (status, problem["detail"]) == (422, "there are 1 flows, which is the most; delete one first")


async def test_flows_come_in_pages(crm: Site) -> None:
    for name in ("a", "b", "c"):
        await put(crm, name)
    first = await crm.get("/api/v1/flows?limit=2")
    rest = await crm.get(f"/api/v1/flows?limit=2&cursor={first['cursor']}")
    assert [one["name"] for one in first["flows"] + rest["flows"]] == ["a", "b", "c"]
    assert rest["cursor"] is None
    assert "definition" not in first["flows"][0]


async def test_runs_come_in_pages_and_by_state_and_phone(crm: Site) -> None:
    await put(crm)
    ids = [await make_run(crm, str(number), f"+49170000000{number}") for number in range(3)]
    done = await make_run(crm, "done", state=RunState.DONE)
    runs = "/api/v1/flows/welcome/runs"
    first = await crm.get(f"{runs}?limit=3")
    rest = await crm.get(f"{runs}?limit=3&cursor={first['cursor']}")
    assert [one["id"] for one in first["runs"] + rest["runs"]] == [done, *reversed(ids)]
    assert rest["cursor"] is None
    assert [one["id"] for one in (await crm.get(f"{runs}?state=done"))["runs"]] == [done]
    assert [one["id"] for one in (await crm.get(f"{runs}?phone=491700000001"))["runs"]] == [ids[1]]
    assert (await crm.get("/api/v1/flows/welcome"))["live_runs"] == 3
    assert (await crm.call("GET", f"{runs}?state=lost"))[0] == 422
    assert (await crm.call("GET", "/api/v1/flows/other/runs"))[0] == 404


async def test_a_run_is_shown(crm: Site) -> None:
    await put(crm)
    number = await make_run(crm, "a")
    shown = await crm.get(f"/api/v1/flows/welcome/runs/{number}")
    assert shown.pop("wake_at")
    assert shown.pop("created_at") <= shown.pop("updated_at")
    assert shown.pop("contact_id")
    assert shown == {
        "id": number,
        "phone": PHONE,
        "state": "waiting",
        "step": "hello",
        "count": 1,
        "reply": "yes",
        "saved": {"order": 17},
        "error": None,
    }
    for path in (f"other/runs/{number}", "welcome/runs/999", "welcome/runs/x"):
        assert (await crm.call("GET", f"/api/v1/flows/{path}"))[0] == 404


async def test_a_run_is_cancelled_once(crm: Site) -> None:
    await put(crm)
    number = await make_run(crm, "a")
    path = f"/api/v1/flows/welcome/runs/{number}/cancel"
    status, body, _ = await crm.call("POST", path, json={"reason": "wrong flow"})
    assert (status, body["state"], body["error"], body["wake_at"]) == (200, "cancelled", "wrong flow", None)
    assert await crm.problem(409, "POST", path) == f"run {number} is cancelled; only runs under way are cancelled"
    async with crm.parts.database.transaction() as s:
        assert not await flows.save(s, Position(number, 1), Step(RunState.RUNNING, "hello", {}))
    assert (await crm.call("POST", "/api/v1/flows/welcome/runs/999/cancel"))[0] == 404


async def test_a_reader_may_not_put_delete_or_cancel(store_url: str) -> None:
    reader = {"tokens": {"reader": token_table("t" * 32, "read", "enqueue")}}
    headers = {"Authorization": f"Bearer {'t' * 32}"}
    async with site(store_url, auth=reader) as web:
        for method, path in (
            ("PUT", "/api/v1/flows/a"),
            ("DELETE", "/api/v1/flows/a"),
            ("POST", "/api/v1/flows/a/runs/1/cancel"),
        ):
            await web.expect(403, method, path, auth=False, headers=headers, json={})
        # The reader may, and there is no database here.
        await web.expect(503, "GET", "/api/v1/flows", auth=False, headers=headers)


async def test_flows_are_described(crm: Site) -> None:
    described = await crm.get("/api/v1/openapi.json")
    put_it = described["paths"]["/api/v1/flows/{name}"]["put"]
    reference = put_it["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/FlowBody"
    schemas = described["components"]["schemas"]
    assert {"Send", "WaitForReply", "Branch", "End"} <= set(schemas)
    assert "if" in schemas["Case"]["properties"]
    assert "/api/v1/flows/{name}/runs/{id}/cancel" in described["paths"]
