"""A local stand-in of the WhatsApp Cloud API: checks what it is sent, and fails as it is told."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.support.local_site import LocalSite

TOKEN = "EAAtestTOKENvalue123"
NUMBER_ID = "106540352242922"
VERSION = "v23.0"

READ = {"success": True}

Behaviour = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WhatsAppServer(LocalSite):
    """Takes messages like the Cloud API; `then_…` methods say how the next requests go wrong, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.peers: list[tuple[str, int]] = []
        self.wa_ids: dict[str, str] = {}
        """Numbers that WhatsApp has in another form, with that form."""
        self.read: list[str] = []
        """Inbound messages that were marked as read."""
        self._next: deque[Behaviour] = deque()
        self._next_read: deque[Behaviour] = deque()

    def then_error(self, code: int, *, status: int = 400, **fields: Any) -> None:
        """The next request is answered with an error as Meta gives it."""
        error = {
            "message": f"(#{code}) an error",
            "type": "OAuthException",
            "code": code,
            "error_data": {"messaging_product": "whatsapp", "details": f"details of {code}"},
            "fbtrace_id": "Atrace123",
            **fields,
        }
        self.then_answer(status, {"error": error})

    def then_answer(self, status: int, body: Any, *, headers: dict[str, str] | None = None) -> None:
        """The next request is answered with this status and body: JSON, or text where it is a string."""

        async def answer(_request: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(status=status, text=text, headers=headers)

        self._next.append(answer)

    def then_read_fails(self, status: int, body: Any) -> None:
        """The next request to mark a message as read is answered so."""

        async def answer(_request: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status)

        self._next_read.append(answer)

    def then_hang(self) -> None:
        """The next request is read and never answered."""

        async def hang(_request: web.Request) -> web.StreamResponse:
            await self.released.wait()
            return web.Response(status=500)

        self._next.append(hang)

    def then_drop(self) -> None:
        """The next request is read, and its connection cut."""

        async def drop(request: web.Request) -> web.StreamResponse:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

        self._next.append(drop)

    def then_break_off(self, status: int, start: str) -> None:
        """The next request gets the start of an answer, then its connection is cut."""

        async def break_off(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=status, headers={"Content-Length": "100000"})
            await response.prepare(request)
            await response.write(start.encode())
            if request.transport is not None:
                request.transport.close()
            return response

        self._next.append(break_off)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request as told, else as the Cloud API does."""
        raw = await request.read()
        self.headers.append(dict(request.headers))
        if request.transport is not None:
            self.peers.append(request.transport.get_extra_info("peername")[:2])
        problem = _problem(request, raw)
        if problem is not None:
            return problem
        message = json.loads(raw)
        if message.get("status") == "read":
            self.read.append(message["message_id"])
            return await self._next_read.popleft()(request) if self._next_read else web.json_response(READ)
        self.messages.append(message)
        if self._next:
            return await self._next.popleft()(request)
        return web.json_response(self._accepted(message))

    def _accepted(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "messaging_product": "whatsapp",
            "contacts": [{"input": message["to"], "wa_id": self.wa_ids.get(message["to"], message["to"])}],
            "messages": [{"id": f"wamid.TEST{len(self.messages)}"}],
        }


def _problem(request: web.Request, raw: bytes) -> web.Response | None:
    if request.method != "POST" or request.path != f"/{VERSION}/{NUMBER_ID}/messages":
        return _error(404, 100, f"no such object: {request.method} {request.path}")
    if request.headers.get("Authorization") != f"Bearer {TOKEN}":
        return _error(401, 190, "Invalid OAuth access token")
    message = json.loads(raw)
    if message.get("status") == "read" and message.get("messaging_product") == "whatsapp":
        return None if isinstance(message.get("message_id"), str) else _error(400, 100, "message_id is missing")
    if message.get("messaging_product") != "whatsapp" or message.get("recipient_type") != "individual":
        return _error(400, 100, "messaging_product or recipient_type is missing")
    if not str(message.get("to", "")).isdecimal() or not isinstance(message.get(message.get("type")), dict):
        return _error(400, 100, "to or the content is missing")
    return None


def _error(status: int, code: int, details: str) -> web.Response:
    error = {"message": details, "code": code, "error_data": {"details": details}, "fbtrace_id": "Acheck"}
    return web.json_response({"error": error}, status=status)
