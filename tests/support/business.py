"""The business at the other end of WhatsApp's webhooks: verifies, checks signatures, and keeps what came."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import deque
from typing import Any

from aiohttp import web

from tests.support.local_site import LocalSite

APP_SECRET = "sandbox-app-secret"
VERIFY_TOKEN = "sandbox-verify-token"


class Business(LocalSite):
    """Takes webhooks; `then` says what the next ones are answered with."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[dict[str, Any]] = []
        self.verifications: list[dict[str, str]] = []
        self.repeats_challenge = True
        self._next: deque[int] = deque()

    def then(self, status: int) -> None:
        """The next webhook is answered with this status."""
        self._next.append(status)

    @property
    def statuses(self) -> list[dict[str, Any]]:
        """All statuses, in the order in which they came."""
        return [status for value in self.values for status in value.get("statuses", [])]

    @property
    def inbound(self) -> list[dict[str, Any]]:
        """All messages of users."""
        return [message for value in self.values for message in value.get("messages", [])]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One verification or webhook."""
        if request.method == "GET":
            self.verifications.append(dict(request.query))
            fits = request.query["hub.verify_token"] == VERIFY_TOKEN and self.repeats_challenge
            return web.Response(text=request.query["hub.challenge"] if fits else "no")
        raw = await request.read()
        expected = hmac.new(APP_SECRET.encode(), raw, hashlib.sha256).hexdigest()
        if request.headers["X-Hub-Signature-256"] != f"sha256={expected}":
            return web.Response(status=401)
        status = self._next.popleft() if self._next else 200
        if status == 200:
            body = json.loads(raw)
            assert body["object"] == "whatsapp_business_account"
            self.values.append(body["entry"][0]["changes"][0]["value"])
        return web.Response(status=status)
