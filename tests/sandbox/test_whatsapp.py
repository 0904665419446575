"""What the Cloud API takes, refuses and answers."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.crm.whatsapp.errors import ROWS
from crmd.sandbox.meta_errors import ERRORS, error_body, error_of
from tests.sandbox.conftest import ANN, Rig
from tests.support.wait import wait_until

BASE = {"messaging_product": "whatsapp", "to": ANN}


async def test_an_accepted_message_is_answered_as_documented(rig: Rig) -> None:
    first = await rig.send(f"+{ANN}", recipient_type="individual")
    assert first.status == 200
    [told] = first.json["messages"]
    assert first.json == {
        "messaging_product": "whatsapp",
        "contacts": [{"input": f"+{ANN}", "wa_id": ANN}],
        "messages": [{"id": told["id"]}],
    }
    assert told["id"].startswith("wamid.")
    second = await rig.send()
    assert second.json["messages"][0]["id"] != told["id"]
    assert [entry["text"] for entry in rig.entries("message")] == ["hello", "hello"]


async def test_a_template_tells_its_status(rig: Rig) -> None:
    template = {
        "name": "welcome",
        "language": {"code": "de"},
        "components": [{"type": "body", "parameters": [{"type": "text", "text": "Ann"}]}],
    }
    answer = await rig.post(BASE | {"type": "template", "template": template})
    assert answer.json["messages"][0]["message_status"] == "accepted"
    assert rig.entries("message")[0]["text"] == "welcome (de) · Ann"


async def test_an_error_has_the_documented_form(rig: Rig) -> None:
    await rig.admin("POST", "/faults", {"kind": "error", "code": 131056})
    answer = await rig.send()
    assert answer.status == 429
    trace = answer.json["error"].pop("fbtrace_id")
    assert trace.startswith("A")
    assert answer.json == {
        "error": {
            "message": "(#131056) (Business Account, Consumer Account) pair rate limit hit",
            "type": "OAuthException",
            "code": 131056,
            "error_data": {
                "messaging_product": "whatsapp",
                "details": "Message failed to send because there were too many messages sent from this phone "
                "number to the same phone number in a short period of time.",
            },
        }
    }


def test_every_code_with_a_policy_has_its_error() -> None:
    known = {code for row in ROWS for code in range(row.code, (row.last or row.code) + 1)}
    assert {code for code in known if error_of(code) is error_of(-1)} == set()
    for code in ERRORS:
        error = error_body(code)["error"]
        assert error["error_data"]["details"]
        assert 400 <= error_of(code).http_status < 600


async def test_a_wrong_token_number_version_and_path(rig: Rig) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}):
        denied = await rig.post(BASE, headers=headers)
        assert (denied.status, denied.json["error"]["code"]) == (401, 190)
    other = await rig.post(BASE, path="/v23.0/123/messages")
    error = other.json["error"]
    assert (other.status, error["code"], error["error_subcode"]) == (400, 100, 33)
    assert (await rig.post(BASE, path="/v23/106540352242922/messages")).status == 400
    assert rig.entries("message") == []


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"messaging_product": "sms"}, 100, "messaging_product"),
        ({"to": ""}, 100, "to is required"),
        ({"to": 4915112345678}, 100, "to is required"),
        ({"to": "ann"}, 131009, "phone number"),
        ({"recipient_type": "everyone"}, 100, "recipient_type"),
        ({"type": "fax"}, 131051, "fax"),
        ({"type": None}, 131051, "None"),
        ({"text": None}, 131008, "text"),
        ({"text": {}}, 131008, "text.body"),
        ({"text": {"body": "x" * 4097}}, 100, "4096"),
        ({"txt": 1}, 100, "txt"),
        ({"image": {"id": "1"}}, 100, "image"),
        ({"type": "image", "image": {"caption": "x"}, "text": None}, 100, "text"),
        ({"biz_opaque_callback_data": "x" * 513}, 131009, "512"),
        ({"context": {}}, 131009, "message_id"),
    ],
)
async def test_what_is_wrong_is_said(rig: Rig, fields: dict[str, Any], code: int, words: str) -> None:
    answer = await rig.send(**fields)
    error = answer.json["error"]
    assert answer.status == 400
    assert error["code"] == code
    assert words in error["error_data"]["details"]


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        ("template", {"name": "x"}, 131008),
        ("template", {"name": "x", "language": {}}, 131008),
        ("template", {"name": "x", "language": "de"}, 131008),
        ("image", {"caption": "x"}, 131008),
        ("interactive", {"type": "button"}, 131008),
        ("reaction", {"emoji": "x"}, 131008),
        ("contacts", [], 131008),
        ("location", {"latitude": 1.5, "longitude": 0}, None),
        ("document", {"link": "https://example.com/a.pdf", "filename": "a.pdf"}, None),
        ("reaction", {"message_id": "wamid.x", "emoji": ""}, None),
        ("interactive", {"type": "button", "body": {"text": "go?"}, "action": {"buttons": []}}, None),
        ("contacts", [{"name": {"formatted_name": "Ann"}}], None),
    ],
)
async def test_each_type_has_what_it_needs(rig: Rig, kind: str, content: Any, code: int | None) -> None:
    answer = await rig.post(BASE | {"type": kind, kind: content})
    assert answer.json.get("error", {}).get("code") == code
    assert rig.entries("message")[0]["history"][0]["status"] == ("refused" if code else "accepted")


async def test_what_is_no_json_object_is_refused(rig: Rig) -> None:
    for body in ("", "[]", "{"):
        answer = await rig.call("POST", "/v23.0/106540352242922/messages", data=body, headers=rig.headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, 100)


async def test_the_sender_is_no_recipient(rig: Rig) -> None:
    assert (await rig.send("15550783881")).json["error"]["code"] == 131021


async def test_reading_marks_an_inbound_message(rig: Rig) -> None:
    written = await rig.admin("POST", "/inbound", {"from": ANN, "text": "hi"})
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": written.json["wamid"]}
    assert (await rig.post(mark)).json == {"success": True}
    assert rig.entries("inbound")[0]["state"] == "read"
    assert (await rig.post(mark | {"message_id": "wamid.other"})).json["error"]["code"] == 131009
    assert (await rig.post(mark | {"status": "seen"})).json["error"]["code"] == 100


async def test_the_numbers_of_the_page_fit_what_happened(rig: Rig) -> None:
    await rig.send()
    await rig.send("ann")
    totals = rig.sandbox.journal.totals
    assert (totals["message"], totals["accepted"], totals["refused"]) == (2, 1, 1)


async def test_a_number_that_whatsapp_has_in_another_form(rig: Rig) -> None:
    other = {"number": "+5511981234567", "wa_id": "551181234567"}
    assert (await rig.admin("POST", "/numbers", other)).status == 200
    answer = await rig.send(to="+5511981234567")
    assert answer.json["contacts"] == [{"input": "+5511981234567", "wa_id": "551181234567"}]
    await wait_until(lambda: len(rig.business.statuses) == 3, 5.0)
    assert {status["recipient_id"] for status in rig.business.statuses} == {"551181234567"}


async def test_a_user_stops_and_resumes_marketing(rig: Rig) -> None:
    for value, timestamp in (("stop", 1_790_000_000), ("resume", None)):
        chosen = {"from": "551181234567", "value": value, "timestamp": timestamp}
        assert (await rig.admin("POST", "/preferences", chosen)).status == 202
    await wait_until(lambda: len(rig.business.values) == 2, 5.0)
    told = sorted(
        (value["user_preferences"][0] for value in rig.business.values), key=lambda one: one["timestamp"]
    )
    assert [(one["wa_id"], one["category"], one["value"]) for one in told] == [
        ("551181234567", "marketing_messages", "stop"),
        ("551181234567", "marketing_messages", "resume"),
    ]
    assert told[0]["timestamp"] == 1_790_000_000
    assert (await rig.admin("POST", "/preferences", {"from": "55118", "value": "maybe"})).status == 422
