"""The receiver of webhooks and notifications, and the AI service."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import aiohttp
import pytest
from standardwebhooks import Webhook

from crmd.sandbox.settings import SandboxSettings
from tests.sandbox.conftest import Answer, SandboxHarness

BODY = json.dumps({"type": "contact.created", "data": {"id": 7}})
KEY = {"Authorization": "Bearer sandbox-key"}


async def hook(
    harness: SandboxHarness, secret: str = SandboxSettings().webhook_secret, path: str = "/hooks/crm"
) -> Answer:
    at = datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", at, BODY),
    }
    return await harness.call("POST", path, data=BODY, headers=headers)


async def chat(harness: SandboxHarness, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "does it come in blue?"}]
    whole = {"model": "gpt-4o-mini", "messages": messages} | body
    return await harness.call("POST", "/v1/chat/completions", json=whole, headers=headers or KEY)


async def test_a_signed_webhook_is_verified(harness: SandboxHarness) -> None:
    assert (await hook(harness)).status == 200
    assert (await hook(harness, path="/hooks")).status == 200
    first, second = harness.entries("webhook")
    assert (first["event"], first["message_id"], first["verified"]) == ("contact.created", "msg_1", True)
    assert (first["path"], second["path"]) == ("/hooks/crm", "/hooks")


async def test_a_bad_signature_is_answered_with_401(harness: SandboxHarness) -> None:
    assert (await hook(harness, "whsec_" + "x" * 32)).status == 401
    assert (await harness.call("POST", "/hooks", data=b"\xff")).status == 401
    assert [entry["verified"] for entry in harness.entries("webhook")] == [False, False]


async def test_webhook_faults(harness: SandboxHarness) -> None:
    for fields in ({"kind": "error", "code": 410}, {"kind": "status", "code": 503}, {"kind": "drop"}):
        await harness.admin("POST", "/faults", {"service": "webhook", **fields})
    assert (await hook(harness)).status == 410
    with pytest.raises(json.JSONDecodeError):
        await hook(harness)
    with pytest.raises(aiohttp.ClientError):
        await hook(harness)
    assert (await hook(harness)).status == 200


async def test_notifications_are_kept(harness: SandboxHarness) -> None:
    body = {"version": "1.0", "title": "Queue too old", "message": "message waits", "type": "warning"}
    assert (await harness.call("POST", "/notify", json=body)).status == 200
    assert (await harness.call("POST", "/notify/other", data="plain")).status == 200
    first, second = harness.entries("notice")
    assert (first["title"], first["level"], first["text"]) == ("Queue too old", "warning", "message waits")
    assert second["text"] == "plain"


async def test_a_chat_is_answered_with_usage(harness: SandboxHarness) -> None:
    answer = (await chat(harness)).json
    assert answer["object"] == "chat.completion"
    [choice] = answer["choices"]
    assert choice["message"]["role"] == "assistant"
    assert "does it come in blue?" in choice["message"]["content"]
    assert choice["finish_reason"] == "stop"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0
    assert harness.entries("ai")[0]["usage"] == usage
    short = (await chat(harness, max_tokens=3)).json
    assert short["choices"][0]["finish_reason"] == "length"
    assert short["usage"]["completion_tokens"] == 3


async def test_a_chat_with_parts(harness: SandboxHarness) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    answer = (await chat(harness, messages=[{"role": "user", "content": parts}])).json
    assert "one two" in answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "body", [{"model": None}, {"messages": []}, {"messages": "hi"}, {"messages": [1]}, {"stream": True}]
)
async def test_a_bad_chat_is_refused_as_openai_does(harness: SandboxHarness, body: dict[str, Any]) -> None:
    answer = await chat(harness, **body)
    assert answer.status == 400
    assert answer.json["error"]["type"] == "invalid_request_error"


async def test_a_wrong_key_is_refused_everywhere(harness: SandboxHarness) -> None:
    wrong = {"Authorization": "Bearer other"}
    answer = await chat(harness, headers=wrong)
    assert (answer.status, answer.json["error"]["code"]) == (401, "invalid_api_key")
    assert (await harness.call("POST", "/v1/audio/transcriptions", headers=wrong)).status == 401
    assert (await harness.call("GET", "/v1/models", headers=wrong)).status == 401
    assert (await harness.call("GET", "/v1/models", headers=KEY)).json["data"][0]["id"] == "sandbox"


async def test_ai_faults(harness: SandboxHarness) -> None:
    await harness.admin("POST", "/faults", {"service": "ai", "kind": "error", "code": 429})
    answer = await chat(harness)
    assert (answer.status, answer.json["error"]["type"]) == (429, "server_error")
    assert (await chat(harness)).status == 200


def form(**fields: str) -> aiohttp.FormData:
    made = aiohttp.FormData(fields)
    made.add_field("file", b"x" * 32_000, filename="voice.ogg", content_type="audio/ogg")
    return made


async def test_sound_is_transcribed(harness: SandboxHarness) -> None:
    async def transcribe(data: aiohttp.FormData) -> Answer:
        return await harness.call("POST", "/v1/audio/transcriptions", data=data, headers=KEY)

    answer = await transcribe(form(model="whisper-1"))
    assert answer.json == {
        "text": "Stand-in transcript of voice.ogg, 32000 bytes.",
        "usage": {"type": "duration", "seconds": 2},
    }
    verbose = await transcribe(form(model="whisper-1", response_format="verbose_json", language="de"))
    assert (verbose.json["language"], verbose.json["duration"]) == ("de", 2.0)
    assert (await transcribe(form())).status == 400
    assert (await transcribe(aiohttp.FormData({"model": "whisper-1"}))).status == 400
    data = form(model="whisper-1", response_format="text")
    async with harness.session.post(f"{harness.url}/v1/audio/transcriptions", data=data, headers=KEY) as response:
        assert (await response.text()).startswith("Stand-in")


async def test_too_large_sound_is_refused(harness: SandboxHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.sandbox.openai.MAX_AUDIO_BYTES", 1000)
    answer = await harness.call("POST", "/v1/audio/transcriptions", data=form(model="x"), headers=KEY)
    assert answer.status == 400
    assert "larger" in answer.json["error"]["message"]
