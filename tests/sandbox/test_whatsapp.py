"""What the Cloud API takes, refuses and answers."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.crm.whatsapp.errors import ROWS
from crmd.sandbox.meta_errors import ERRORS, error_body, error_of
from tests.sandbox.conftest import ANN, SandboxHarness
from tests.support.wait import wait_until

BASE = {"messaging_product": "whatsapp", "to": ANN}


async def test_an_accepted_message_is_answered_as_documented(harness: SandboxHarness) -> None:
    first = await harness.send(f"+{ANN}", recipient_type="individual")
    assert first.status == 200
    [told] = first.json["messages"]
    assert first.json == {
        "messaging_product": "whatsapp",
        "contacts": [{"input": f"+{ANN}", "wa_id": ANN}],
        "messages": [{"id": told["id"]}],
    }
    assert told["id"].startswith("wamid.")
    second = await harness.send()
    assert second.json["messages"][0]["id"] != told["id"]
    assert [entry["text"] for entry in harness.entries("message")] == ["hello", "hello"]


async def test_a_template_tells_its_status(harness: SandboxHarness) -> None:
    template = {
        "name": "welcome",
        "language": {"code": "de"},
        "components": [{"type": "body", "parameters": [{"type": "text", "text": "Ann"}]}],
    }
    answer = await harness.post(BASE | {"type": "template", "template": template})
    assert answer.json["messages"][0]["message_status"] == "accepted"
    assert harness.entries("message")[0]["text"] == "welcome (de) · Ann"


async def test_an_error_has_the_documented_form(harness: SandboxHarness) -> None:
    await harness.admin("POST", "/faults", {"kind": "error", "code": 131056})
    answer = await harness.send()
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


async def test_a_wrong_token_number_version_and_path(harness: SandboxHarness) -> None:
    for headers in ({}, {"Authorization": "Bearer other"}):
        denied = await harness.post(BASE, headers=headers)
        assert (denied.status, denied.json["error"]["code"]) == (401, 190)
    other = await harness.post(BASE, path="/v23.0/123/messages")
    error = other.json["error"]
    assert (other.status, error["code"], error["error_subcode"]) == (400, 100, 33)
    assert (await harness.post(BASE, path="/v23/106540352242922/messages")).status == 400
    assert harness.entries("message") == []


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
async def test_what_is_wrong_is_said(
    harness: SandboxHarness, fields: dict[str, Any], code: int, words: str
) -> None:
    answer = await harness.send(**fields)
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
async def test_each_type_has_what_it_needs(
    harness: SandboxHarness, kind: str, content: Any, code: int | None
) -> None:
    answer = await harness.post(BASE | {"type": kind, kind: content})
    assert answer.json.get("error", {}).get("code") == code
    assert harness.entries("message")[0]["history"][0]["status"] == ("refused" if code else "accepted")


async def test_what_is_no_json_object_is_refused(harness: SandboxHarness) -> None:
    for body in ("", "[]", "{"):
        answer = await harness.call("POST", "/v23.0/106540352242922/messages", data=body, headers=harness.headers)
        assert (answer.status, answer.json["error"]["code"]) == (400, 100)


async def test_the_sender_is_no_recipient(harness: SandboxHarness) -> None:
    assert (await harness.send("15550783881")).json["error"]["code"] == 131021


async def test_reading_marks_an_inbound_message(harness: SandboxHarness) -> None:
    written = await harness.admin("POST", "/inbound", {"from": ANN, "text": "hi"})
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": written.json["wamid"]}
    assert (await harness.post(mark)).json == {"success": True}
    assert harness.entries("inbound")[0]["state"] == "read"
    assert (await harness.post(mark | {"message_id": "wamid.other"})).json["error"]["code"] == 131009
    assert (await harness.post(mark | {"status": "seen"})).json["error"]["code"] == 100


async def test_the_numbers_of_the_page_fit_what_happened(harness: SandboxHarness) -> None:
    await harness.send()
    await harness.send("ann")
    totals = harness.sandbox.journal.totals
    assert (totals["message"], totals["accepted"], totals["refused"]) == (2, 1, 1)


async def test_a_number_that_whatsapp_has_in_another_form(harness: SandboxHarness) -> None:
    other = {"number": "+5511981234567", "wa_id": "551181234567"}
    assert (await harness.admin("POST", "/numbers", other)).status == 200
    answer = await harness.send(to="+5511981234567")
    assert answer.json["contacts"] == [{"input": "+5511981234567", "wa_id": "551181234567"}]
    await wait_until(lambda: len(harness.business.statuses) == 3, 5.0)
    assert {status["recipient_id"] for status in harness.business.statuses} == {"551181234567"}


async def test_a_user_stops_and_resumes_marketing(harness: SandboxHarness) -> None:
    for value, timestamp in (("stop", 1_790_000_000), ("resume", None)):
        chosen = {"from": "551181234567", "value": value, "timestamp": timestamp}
        assert (await harness.admin("POST", "/preferences", chosen)).status == 202
    await wait_until(lambda: len(harness.business.values) == 2, 5.0)
    told = sorted(
        (value["user_preferences"][0] for value in harness.business.values), key=lambda one: one["timestamp"]
    )
    assert [(one["wa_id"], one["category"], one["value"]) for one in told] == [
        ("551181234567", "marketing_messages", "stop"),
        ("551181234567", "marketing_messages", "resume"),
    ]
    assert told[0]["timestamp"] == 1_790_000_000
    assert (await harness.admin("POST", "/preferences", {"from": "55118", "value": "maybe"})).status == 422
