"""Webhooks to the business: verification, signature, order, repeats, failures, inbound messages."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.sandbox import callback as callback_module
from tests.sandbox.conftest import ANN, BOB, SandboxHarness, Start
from tests.support.wait import wait_until


async def plan(harness: SandboxHarness, **fields: Any) -> None:
    answer = await harness.admin(
        "PUT", "/statuses", {"read_share": 1, "failed_share": 0, "seconds": [0, 0, 0]} | fields
    )
    assert answer.status == 200, answer


async def statuses(harness: SandboxHarness, count: int) -> None:
    await wait_until(lambda: len(harness.business.statuses) == count)


async def test_the_callback_is_verified_as_meta_does(harness: SandboxHarness) -> None:
    await wait_until(harness.sandbox.whatsapp.callback.verified.is_set)
    [query] = harness.business.verifications
    assert query["hub.mode"] == "subscribe"
    assert query["hub.verify_token"] == "sandbox-verify-token"


async def test_nothing_is_posted_before_the_callback_proved_itself(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_module, "VERIFY_AGAIN_SECONDS", 0.02)
    harness = await start()
    harness.business.repeats_challenge = False
    callback = harness.sandbox.whatsapp.callback
    callback.verified.clear()
    callback._verifying = None
    await callback.stop()
    await callback.start()
    await harness.send()
    await wait_until(lambda: len(harness.business.verifications) >= 4)
    assert callback.state == "did not repeat the challenge"
    assert harness.business.values == []
    harness.business.repeats_challenge = True
    await wait_until(lambda: len(harness.business.statuses) == 3)


async def test_sent_delivered_and_read_come_with_the_callback_data(harness: SandboxHarness) -> None:
    answer = await harness.send(biz_opaque_callback_data="job-1")
    await wait_until(lambda: len(harness.business.statuses) == 3)
    wamid = answer.json["messages"][0]["id"]
    assert [status["status"] for status in harness.business.statuses] == ["sent", "delivered", "read"]
    for status in harness.business.statuses:
        assert status["id"] == wamid
        assert status["recipient_id"] == ANN
        assert status["biz_opaque_callback_data"] == "job-1"
        assert status["timestamp"] == "1800000000"
        assert status["pricing"] == {"billable": False, "pricing_model": "PMP", "category": "service"}
    value = harness.business.values[0]
    assert value["metadata"] == {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"}
    history = [step["status"] for step in harness.entries("message")[0]["history"]]
    assert history == ["accepted", "sent", "delivered", "read"]


async def test_without_callback_data_there_is_none(harness: SandboxHarness) -> None:
    await harness.send()
    await wait_until(lambda: harness.business.statuses)
    assert "biz_opaque_callback_data" not in harness.business.statuses[0]


async def test_out_of_order_and_repeated(harness: SandboxHarness) -> None:
    await plan(harness, order="reversed", repeat=2)
    await harness.send()
    await wait_until(lambda: len(harness.business.statuses) == 6)
    told = [status["status"] for status in harness.business.statuses]
    assert told == ["read", "read", "delivered", "delivered", "sent", "sent"]
    assert len(harness.entries("message")[0]["history"]) == 4


async def test_shuffled_orders_differ(harness: SandboxHarness) -> None:
    await plan(harness, order="shuffled")
    orders = set()
    for n in range(12):
        await harness.send(f"49151123450{n:02}")
        await statuses(harness, 3 * (n + 1))
        orders.add(tuple(status["status"] for status in harness.business.statuses[-3:]))
    assert len(orders) > 1


async def test_shares_of_read_and_failed(harness: SandboxHarness) -> None:
    await plan(harness, read_share=0, failed_share=0)
    await harness.send()
    await plan(harness, failed_share=1)
    await harness.send()
    await plan(harness, silent=True)
    await harness.send()
    await wait_until(lambda: len(harness.business.statuses) == 4)
    first, _, last = harness.entries("message")
    assert [step["status"] for step in first["history"]] == ["accepted", "sent", "delivered"]
    assert len(last["history"]) == 1
    failed = next(status for status in harness.business.statuses if status["status"] == "failed")
    [error] = failed["errors"]
    assert error["code"] == 131026
    assert error["title"] == "Message undeliverable"
    assert error["error_data"]["details"] == "Message Undeliverable."
    assert "pricing" not in failed


async def test_a_webhook_that_is_not_taken_is_posted_again(
    harness: SandboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_module, "FIRST_PAUSE_SECONDS", 0.01)
    for status in (500, 401, 204):
        harness.business.then(status)
    await harness.send()
    await wait_until(lambda: len(harness.business.statuses) == 3)
    assert [status["status"] for status in harness.business.statuses] == ["sent", "delivered", "read"]
    assert harness.sandbox.whatsapp.callback.refused == 3


async def test_a_bad_secret_is_seen_by_the_business(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = await start(app_secret="another")
    await harness.send()
    await wait_until(lambda: harness.sandbox.whatsapp.callback.state == "answered 401 to a webhook")
    assert harness.business.values == []


async def test_one_status_on_request(harness: SandboxHarness) -> None:
    await plan(harness, silent=True)
    answer = await harness.send(biz_opaque_callback_data="job-1")
    wamid = answer.json["messages"][0]["id"]
    for body in ({"status": "read"}, {"status": "failed", "code": 131049}):
        told = await harness.admin("POST", f"/messages/{wamid}/status", body)
        assert told.json == {"taken": True}
    assert [status["status"] for status in harness.business.statuses] == ["read", "failed"]
    assert harness.business.statuses[1]["errors"][0]["code"] == 131049
    assert (await harness.admin("POST", "/messages/wamid.other/status", {"status": "read"})).status == 404
    assert (await harness.admin("POST", f"/messages/{wamid}/status", {"status": "lost"})).status == 422


async def test_inbound_text_button_audio_and_others(harness: SandboxHarness) -> None:
    await harness.admin(
        "POST", "/inbound", {"from": f"+{ANN}", "name": "Ann", "text": "hello", "reply_to": "wamid.x"}
    )
    await wait_until(lambda: len(harness.business.values) == 1)
    await harness.admin("POST", "/inbound", {"from": ANN, "button": "Yes"})
    await wait_until(lambda: len(harness.business.values) == 2)
    location = {"type": "location", "location": {"latitude": 1, "longitude": 2}}
    await harness.admin("POST", "/inbound", {"from": BOB, "message": location})
    await wait_until(lambda: len(harness.business.values) == 3)
    assert harness.business.values[0]["contacts"] == [{"profile": {"name": "Ann"}, "wa_id": ANN}]
    text, button, other = harness.business.inbound
    assert (text["from"], text["type"], text["text"]) == (ANN, "text", {"body": "hello"})
    assert text["context"]["id"] == "wamid.x"
    assert button["interactive"]["button_reply"] == {"id": "Yes", "title": "Yes"}
    assert other["location"] == {"latitude": 1, "longitude": 2}
    await wait_until(lambda: all(entry["state"] == "delivered" for entry in harness.entries("inbound")))


async def test_inbound_sound_can_be_fetched(harness: SandboxHarness) -> None:
    await harness.admin("POST", "/inbound", {"from": ANN, "audio": 0.5})
    await wait_until(lambda: harness.business.inbound)
    told = harness.business.inbound[0]["audio"]
    found = await harness.call("GET", f"/v23.0/{told['id']}", headers=harness.headers)
    assert found.json["mime_type"] == "audio/wav"
    async with harness.session.get(found.json["url"], headers=harness.headers) as response:
        content = await response.read()
    assert content.startswith(b"RIFF")
    assert len(content) == int(found.json["file_size"])
    async with harness.session.get(found.json["url"]) as response:
        assert response.status == 401
    assert (await harness.call("GET", "/v23.0/1", headers=harness.headers)).status == 400


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"from": ANN},
        {"from": "ann", "text": "x"},
        {"from": ANN, "text": "x", "button": "y"},
        {"from": ANN, "x": 1},
    ],
)
async def test_a_bad_inbound_message_is_refused(harness: SandboxHarness, body: dict[str, Any]) -> None:
    answer = await harness.admin("POST", "/inbound", body)
    assert answer.status == 422
    assert answer.json["error"]


async def test_free_form_fails_outside_the_service_window(start: Start) -> None:
    harness = await start(service_window=True)
    await harness.send()
    await wait_until(lambda: len(harness.business.statuses) == 2)
    assert harness.business.statuses[1]["errors"][0]["code"] == 131047
    await harness.admin("POST", "/inbound", {"from": ANN, "text": "hi"})
    await harness.send()
    await wait_until(lambda: len(harness.business.statuses) == 5)
    assert harness.business.statuses[4]["status"] == "read"
    harness.clock.now += 24 * 3600
    await harness.send()
    await wait_until(lambda: len(harness.business.statuses) == 7)
    assert harness.business.statuses[6]["status"] == "failed"


async def test_statuses_beyond_the_bound_are_left_out(
    harness: SandboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crmd.sandbox.statuses.MAX_UNDER_WAY", 1)
    await plan(harness, seconds=[60, 60, 60])
    await harness.send()
    await harness.send(BOB)
    assert harness.sandbox.whatsapp.statuses.left_out == 1
