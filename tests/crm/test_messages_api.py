"""A person settles what nobody knows."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import Outgoing, begin
from crmd.engine.admin.views import NewJob, State
from crmd.errors import OutcomeUnknown
from tests.support.http import Site


async def unknown(crm: Site, key: str) -> int:
    """An unknown message and its unknown job."""

    @crm.harness.handler("message", "unclear")
    async def fail(_context: object) -> None:
        raise OutcomeUnknown("no answer")

    await crm.harness.control.enqueue("message", [NewJob("unclear", key=key)])
    view = await crm.harness.finished("message", key)
    async with crm.parts.database.transaction() as s:
        at = datetime.fromtimestamp(view.enqueued_at or 0, UTC)
        begun = await begin(s, CampaignGate(), Outgoing("+49151", "text", "hi", "message", key, at), utc_now())
        await messages.unknown(s, begun.message_id, "no answer", utc_now())
    return begun.message_id


@pytest.mark.parametrize(("status", "state"), [("sent", State.COMPLETED), ("failed", State.FAILED)])
async def test_a_message_and_its_job_are_settled_by_hand(crm: Site, status: str, state: State) -> None:
    await crm.work()
    message_id = await unknown(crm, "order-17")
    path = f"/api/v1/messages/{message_id}/settle"
    answered, body, _ = await crm.call("POST", path, json={"status": status})
    assert (answered, body["status"], body["id"]) == (200, status, message_id)
    assert body["error_code"] == ("settled_by_hand" if status == "failed" else None)
    view = await crm.harness.inspector.job("message", "order-17")
    assert view.state is state
    assert view.timeline[-1].detail == "by admin"
    assert (
        await crm.problem(409, "POST", path, json={"status": "sent"})
        == f"message {message_id} is {status}; only unknown messages are settled by hand"
    )


async def test_a_message_whose_job_is_gone_is_settled_all_the_same(crm: Site) -> None:
    async with crm.parts.database.transaction() as s:
        begun = await begin(
            s, CampaignGate(), Outgoing("+49151", "text", "hi", "nowhere", "gone", utc_now()), utc_now()
        )
        await messages.unknown(s, begun.message_id, "no answer", utc_now())
    answered, body, _ = await crm.call(
        "POST", f"/api/v1/messages/{begun.message_id}/settle", json={"status": "sent"}
    )
    assert (answered, body["status"]) == (200, "sent")


async def test_what_cannot_be_settled_is_said(crm: Site) -> None:
    for path, body, status in (
        ("/api/v1/messages/4711/settle", {"status": "sent"}, 404),
        ("/api/v1/messages/x/settle", {"status": "sent"}, 404),
        ("/api/v1/messages/1/settle", {"status": "read"}, 422),
        ("/api/v1/messages/1/settle", {}, 422),
    ):
        assert (await crm.call("POST", path, json=body))[0] == status, path
    assert (await crm.call("POST", "/api/v1/messages/1/settle", auth=False, json={"status": "sent"}))[0] == 401
    await crm.parts.database.stop()
    assert (await crm.call("POST", "/api/v1/messages/1/settle", json={"status": "sent"}))[0] == 503
