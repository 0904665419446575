"""A service that speaks OpenAI's protocol, and fails as it is told."""

from __future__ import annotations

import json
from collections import deque
from typing import Any

from aiohttp import web

from tests.support.local_site import LocalSite

KEY = "sk-test-1234567890"
GONE = -1


class AiServer(LocalSite):
    """Answers with `text`; 401 to a wrong key."""

    def __init__(self) -> None:
        super().__init__()
        self.text: Any = "You are welcome."
        self.finish_reason = "stop"
        self.requests: list[dict[str, Any]] = []
        """Bodies of chat requests; of recordings their fields, `file` as name, type and content."""
        self.authorizations: list[str | None] = []
        self.hanging = False
        self._next: deque[tuple[int, str, dict[str, str]]] = deque()

    @property
    def base_url(self) -> str:
        """What `ai.base_url` has to be."""
        return f"{self.url}/v1"

    def then(self, status: int, body: Any = "", headers: dict[str, str] | None = None) -> None:
        """What the next request is answered with; a body that is no text becomes JSON. GONE breaks off."""
        self._next.append((status, body if isinstance(body, str) else json.dumps(body), headers or {}))

    def then_error(self, status: int, code: str | None = None, message: str = "no", **more: Any) -> None:
        """An error as the API words it."""
        headers = more.pop("headers", None)
        self.then(status, {"error": {"message": message, "type": "error", "code": code, **more}}, headers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Takes one request."""
        self.authorizations.append(request.headers.get("Authorization"))
        self.requests.append(await self._read(request))
        if self.hanging:
            await self.released.wait()
        if self._next:
            status, body, headers = self._next.popleft()
            if status == GONE:
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            return web.Response(status=status, text=body, headers={"Content-Type": "application/json", **headers})
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"error": {"message": "wrong key", "code": "invalid_api_key"}}, status=401)
        if request.path == "/v1/audio/transcriptions":
            return web.json_response({"text": self.text, "usage": {"input_tokens": 30, "output_tokens": 9}})
        if request.path == "/v1/chat/completions":
            return web.json_response(self._completion())
        return web.json_response({"error": {"message": f"no {request.path}"}}, status=404)

    def _completion(self) -> dict[str, Any]:
        message = {"role": "assistant", "content": self.text}
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "small-2024",
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": {"prompt_tokens": 21, "completion_tokens": 7, "total_tokens": 28},
        }

    async def _read(self, request: web.Request) -> dict[str, Any]:
        if request.content_type != "multipart/form-data":
            body: dict[str, Any] = await request.json()
            return body
        fields: dict[str, Any] = {}
        async for part in await request.multipart():
            assert not isinstance(part, list)
            content = bytes(await part.read())  # type: ignore[union-attr]
            named = (part.filename, part.headers["Content-Type"], content)  # type: ignore[union-attr]
            fields[str(part.name)] = named if part.name == "file" else content.decode()  # type: ignore[union-attr]
        return fields
