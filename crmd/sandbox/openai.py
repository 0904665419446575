"""A stand-in for an OpenAI-compatible service: answers at once, by rule, and counts the usage."""

from __future__ import annotations

import json
import secrets
import time
from email import message_from_bytes
from typing import Any

from aiohttp import web

from crmd.sandbox.faults import FaultKind, Faults, Service
from crmd.sandbox.journal import Journal, Kind, excerpt

MAX_AUDIO_BYTES = 25 * 1024 * 1024
BYTES_A_SECOND = 16_000
"""Of the sound that it pretends to hear: 8 kHz, 16 bit."""


class AiService:
    """Answers below `/v1`."""

    def __init__(self, key: str, journal: Journal, faults: Faults) -> None:
        self._key = key
        self._journal = journal
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """What this stand-in answers."""
        return [
            web.get("/v1/models", self.models),
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/audio/transcriptions", self.transcribe),
        ]

    async def models(self, request: web.Request) -> web.StreamResponse:
        """The one model there is: every name is taken."""
        model = {"id": "sandbox", "object": "model", "created": 0, "owned_by": "crmd"}
        return self._denied(request) or web.json_response({"object": "list", "data": [model]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """One answer to a conversation."""
        raw = await request.read()
        wrong = self._denied(request) or await self._fault(request)
        if wrong is not None:
            return wrong
        try:
            body = json.loads(raw)
        except ValueError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            return _error(400, "you must provide a model parameter")
        texts = _texts(body.get("messages"))
        if texts is None:
            return _error(400, "messages must be a list of objects with role and content", param="messages")
        if body.get("stream"):
            return _error(400, "the sandbox does not stream", param="stream")
        return web.json_response(self._answer(body, texts))

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        """The words of a recording, which are made up."""
        wrong = self._denied(request)
        if wrong is not None:
            return wrong
        try:
            form = _read_form(request.headers.get("Content-Type", ""), await request.read())
        except ValueError as error:
            return _error(400, str(error))
        wrong = await self._fault(request)
        if wrong is not None:
            return wrong
        if "file" not in form or "model" not in form:
            return _error(400, "you must provide file and model")
        name, size = form["file"]
        seconds = max(1, round(size / BYTES_A_SECOND))
        text = f"Stand-in transcript of {name}, {size} bytes."
        usage = {"type": "duration", "seconds": seconds}
        self._journal.add(Kind.AI, call="transcription", model=form["model"], text=name, answer=text, usage=usage)
        kind = form.get("response_format", "json")
        if kind == "text":
            return web.Response(text=text)
        whole: dict[str, Any] = {"text": text, "usage": usage}
        if kind == "verbose_json":
            whole |= {
                "task": "transcribe",
                "language": form.get("language", "english"),
                "duration": float(seconds),
            }
        return web.json_response(whole)

    def _answer(self, body: dict[str, Any], texts: list[tuple[str, str]]) -> dict[str, Any]:
        asked = next((text for role, text in reversed(texts) if role == "user"), "")
        words = (
            f"Thank you for your message: “{' '.join(asked.split())[:200]}”. This is the sandbox speaking.".split()
        )
        most = body.get("max_completion_tokens") or body.get("max_tokens")
        cut = isinstance(most, int) and most < len(words)
        answer = " ".join(words[:most] if cut else words)
        prompt_tokens = sum(len(text.split()) + 4 for _, text in texts)
        completion_tokens = len(answer.split())
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        self._journal.totals["tokens"] += usage["total_tokens"]
        self._journal.add(
            Kind.AI, call="chat", model=body["model"], text=excerpt(asked), answer=excerpt(answer), usage=usage
        )
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": answer, "refusal": None},
            "logprobs": None,
            "finish_reason": "length" if cut else "stop",
        }
        return {
            "id": f"chatcmpl-{secrets.token_urlsafe(20)}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }

    def _denied(self, request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Authorization") == f"Bearer {self._key}":
            return None
        return _error(401, "Incorrect API key provided.", code="invalid_api_key")

    async def _fault(self, request: web.Request) -> web.StreamResponse | None:
        fault = self._faults.take(Service.AI)
        if fault is None:
            return None
        self._journal.add(
            Kind.AI, call="fault", model="", text="", answer=f"{fault.kind} {fault.code or ''}", usage={}
        )
        if fault.kind is FaultKind.ERROR:
            headers = {"Retry-After": "1"} if fault.code == 429 else {}
            return _error(fault.code or 500, "an error by the sandbox", kind="server_error", headers=headers)
        return await self._faults.act(fault, request)


def _texts(messages: Any) -> list[tuple[str, str]] | None:
    """Role and text of each message; None where it is no conversation."""
    if not isinstance(messages, list) or not messages:
        return None
    found = []
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            return None
        content = message.get("content")
        if isinstance(content, list):
            content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
        found.append((message["role"], content if isinstance(content, str) else ""))
    return found


def _read_form(content_type: str, raw: bytes) -> dict[str, Any]:
    """The fields of a form; of the file its name and size. Raises ValueError."""
    if not content_type.startswith("multipart/"):
        raise ValueError("the body must be multipart/form-data")
    form: dict[str, Any] = {}
    whole = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw)
    for part in whole.walk():
        if part.is_multipart():
            continue
        name, content = part.get_param("name", header="content-disposition"), part.get_payload(decode=True)
        if not isinstance(name, str) or not isinstance(content, bytes):
            raise ValueError("the form has a part without a name")
        filename = part.get_filename()
        if filename is None:
            form[name] = content.decode("utf-8", "replace")[:1000]
            continue
        if len(content) > MAX_AUDIO_BYTES:
            raise ValueError(f"the file is larger than {MAX_AUDIO_BYTES} bytes")
        form[name] = (filename[:200], len(content))
    return form


def _error(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    kind: str = "invalid_request_error",
    headers: dict[str, str] | None = None,
) -> web.Response:
    body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return web.json_response(body, status=status, headers=headers)
