"""Webhooks to the business: verification, signature, order, repeats, failures, inbound messages."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.sandbox import callback as callback_module
from tests.sandbox.conftest import ANN, BOB, Rig, Start
from tests.support.wait import wait_until


async def plan(rig: Rig, **fields: Any) -> None:
    answer = await rig.admin(
        "PUT", "/statuses", {"read_share": 1, "failed_share": 0, "seconds": [0, 0, 0]} | fields
    )
    assert answer.status == 200, answer


async def statuses(rig: Rig, count: int) -> None:
    await wait_until(lambda: len(rig.business.statuses) == count)


async def test_the_callback_is_verified_as_meta_does(rig: Rig) -> None:
    await wait_until(rig.sandbox.whatsapp.callback.verified.is_set)
    [query] = rig.business.verifications
    assert query["hub.mode"] == "subscribe"
    assert query["hub.verify_token"] == "sandbox-verify-token"


async def test_nothing_is_posted_before_the_callback_proved_itself(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callback_module, "VERIFY_AGAIN_SECONDS", 0.02)
    rig = await start()
    rig.business.repeats_challenge = False
    callback = rig.sandbox.whatsapp.callback
    callback.verified.clear()
    callback._verifying = None
    await callback.stop()
    await callback.start()
    await rig.send()
    await wait_until(lambda: len(rig.business.verifications) >= 4)
    assert callback.state == "did not repeat the challenge"
    assert rig.business.values == []
    rig.business.repeats_challenge = True
    await wait_until(lambda: len(rig.business.statuses) == 3)


async def test_sent_delivered_and_read_come_with_the_callback_data(rig: Rig) -> None:
    answer = await rig.send(biz_opaque_callback_data="job-1")
    await wait_until(lambda: len(rig.business.statuses) == 3)
    wamid = answer.json["messages"][0]["id"]
    assert [status["status"] for status in rig.business.statuses] == ["sent", "delivered", "read"]
    for status in rig.business.statuses:
        assert status["id"] == wamid
        assert status["recipient_id"] == ANN
        assert status["biz_opaque_callback_data"] == "job-1"
        assert status["timestamp"] == "1800000000"
        assert status["pricing"] == {"billable": False, "pricing_model": "PMP", "category": "service"}
    value = rig.business.values[0]
    assert value["metadata"] == {"display_phone_number": "15550783881", "phone_number_id": "106540352242922"}
    history = [step["status"] for step in rig.entries("message")[0]["history"]]
    assert history == ["accepted", "sent", "delivered", "read"]


async def test_without_callback_data_there_is_none(rig: Rig) -> None:
    await rig.send()
    await wait_until(lambda: rig.business.statuses)
    assert "biz_opaque_callback_data" not in rig.business.statuses[0]


async def test_out_of_order_and_repeated(rig: Rig) -> None:
    await plan(rig, order="reversed", repeat=2)
    await rig.send()
    await wait_until(lambda: len(rig.business.statuses) == 6)
    told = [status["status"] for status in rig.business.statuses]
    assert told == ["read", "read", "delivered", "delivered", "sent", "sent"]
    assert len(rig.entries("message")[0]["history"]) == 4


async def test_shuffled_orders_differ(rig: Rig) -> None:
    await plan(rig, order="shuffled")
    orders = set()
    for n in range(12):
        await rig.send(f"49151123450{n:02}")
        await statuses(rig, 3 * (n + 1))
        orders.add(tuple(status["status"] for status in rig.business.statuses[-3:]))
    assert len(orders) > 1


async def test_shares_of_read_and_failed(rig: Rig) -> None:
    await plan(rig, read_share=0, failed_share=0)
    await rig.send()
    await plan(rig, failed_share=1)
    await rig.send()
    await plan(rig, silent=True)
    await rig.send()
    await wait_until(lambda: len(rig.business.statuses) == 4)
    first, _, last = rig.entries("message")
    assert [step["status"] for step in first["history"]] == ["accepted", "sent", "delivered"]
    assert len(last["history"]) == 1
    failed = next(status for status in rig.business.statuses if status["status"] == "failed")
    [error] = failed["errors"]
    assert error["code"] == 131026
    assert error["title"] == "Message undeliverable"
    assert error["error_data"]["details"] == "Message Undeliverable."
    assert "pricing" not in failed


async def test_a_webhook_that_is_not_taken_is_posted_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_module, "FIRST_PAUSE_SECONDS", 0.01)
    for status in (500, 401, 204):
        rig.business.then(status)
    await rig.send()
    await wait_until(lambda: len(rig.business.statuses) == 3)
    assert [status["status"] for status in rig.business.statuses] == ["sent", "delivered", "read"]
    assert rig.sandbox.whatsapp.callback.refused == 3


async def test_a_bad_secret_is_seen_by_the_business(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = await start(app_secret="another")
    await rig.send()
    await wait_until(lambda: rig.sandbox.whatsapp.callback.state == "answered 401 to a webhook")
    assert rig.business.values == []


async def test_one_status_on_request(rig: Rig) -> None:
    await plan(rig, silent=True)
    answer = await rig.send(biz_opaque_callback_data="job-1")
    wamid = answer.json["messages"][0]["id"]
    for body in ({"status": "read"}, {"status": "failed", "code": 131049}):
        told = await rig.admin("POST", f"/messages/{wamid}/status", body)
        assert told.json == {"taken": True}
    assert [status["status"] for status in rig.business.statuses] == ["read", "failed"]
    assert rig.business.statuses[1]["errors"][0]["code"] == 131049
    assert (await rig.admin("POST", "/messages/wamid.other/status", {"status": "read"})).status == 404
    assert (await rig.admin("POST", f"/messages/{wamid}/status", {"status": "lost"})).status == 422


async def test_inbound_text_button_audio_and_others(rig: Rig) -> None:
    await rig.admin("POST", "/inbound", {"from": f"+{ANN}", "name": "Ann", "text": "hello", "reply_to": "wamid.x"})
    await wait_until(lambda: len(rig.business.values) == 1)
    await rig.admin("POST", "/inbound", {"from": ANN, "button": "Yes"})
    await wait_until(lambda: len(rig.business.values) == 2)
    location = {"type": "location", "location": {"latitude": 1, "longitude": 2}}
    await rig.admin("POST", "/inbound", {"from": BOB, "message": location})
    await wait_until(lambda: len(rig.business.values) == 3)
    assert rig.business.values[0]["contacts"] == [{"profile": {"name": "Ann"}, "wa_id": ANN}]
    text, button, other = rig.business.inbound
    assert (text["from"], text["type"], text["text"]) == (ANN, "text", {"body": "hello"})
    assert text["context"]["id"] == "wamid.x"
    assert button["interactive"]["button_reply"] == {"id": "Yes", "title": "Yes"}
    assert other["location"] == {"latitude": 1, "longitude": 2}
    await wait_until(lambda: all(entry["state"] == "delivered" for entry in rig.entries("inbound")))


async def test_inbound_sound_can_be_fetched(rig: Rig) -> None:
    await rig.admin("POST", "/inbound", {"from": ANN, "audio": 0.5})
    await wait_until(lambda: rig.business.inbound)
    told = rig.business.inbound[0]["audio"]
    found = await rig.call("GET", f"/v23.0/{told['id']}", headers=rig.headers)
    assert found.json["mime_type"] == "audio/wav"
    async with rig.session.get(found.json["url"], headers=rig.headers) as response:
        content = await response.read()
    assert content.startswith(b"RIFF")
    assert len(content) == int(found.json["file_size"])
    async with rig.session.get(found.json["url"]) as response:
        assert response.status == 401
    assert (await rig.call("GET", "/v23.0/1", headers=rig.headers)).status == 400


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
async def test_a_bad_inbound_message_is_refused(rig: Rig, body: dict[str, Any]) -> None:
    answer = await rig.admin("POST", "/inbound", body)
    assert answer.status == 422
    assert answer.json["error"]


async def test_free_form_fails_outside_the_service_window(start: Start) -> None:
    rig = await start(service_window=True)
    await rig.send()
    await wait_until(lambda: len(rig.business.statuses) == 2)
    assert rig.business.statuses[1]["errors"][0]["code"] == 131047
    await rig.admin("POST", "/inbound", {"from": ANN, "text": "hi"})
    await rig.send()
    await wait_until(lambda: len(rig.business.statuses) == 5)
    assert rig.business.statuses[4]["status"] == "read"
    rig.clock.now += 24 * 3600
    await rig.send()
    await wait_until(lambda: len(rig.business.statuses) == 7)
    assert rig.business.statuses[6]["status"] == "failed"


async def test_statuses_beyond_the_bound_are_left_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.sandbox.statuses.MAX_UNDER_WAY", 1)
    await plan(rig, seconds=[60, 60, 60])
    await rig.send()
    await rig.send(BOB)
    assert rig.sandbox.whatsapp.statuses.left_out == 1
