"""A local receiver of webhooks, which verifies their signatures."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from tests.support.local_site import LocalSite

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass(frozen=True)
class Received:
    """One post."""

    path: str
    headers: dict[str, str]
    raw: bytes
    verified: bool

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.raw)

    @property
    def id(self) -> str:
        """The webhook-id."""
        return self.headers["webhook-id"]


class Receiver(LocalSite):
    """Answers 200, or what `then` said for the next posts; 401 to a bad signature."""

    def __init__(self, secret: str = SECRET) -> None:
        super().__init__()
        self.received: list[Received] = []
        self._webhook = Webhook(secret)
        self._next: deque[tuple[int, bytes, dict[str, str]]] = deque()
        self._hang = False

    def then(self, status: int, body: str | bytes = "", headers: dict[str, str] | None = None) -> None:
        """What the next post is answered with."""
        self._next.append((status, body.encode() if isinstance(body, str) else body, headers or {}))

    def then_hang(self) -> None:
        """From here on posts are not answered."""
        self._hang = True

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Takes one post."""
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        verified = self._verify(raw, headers)
        self.received.append(Received(request.path_qs, headers, raw, verified))
        if self._hang:
            await self.released.wait()
        if not verified:
            return web.Response(status=401, text="bad signature")
        status, body, answer_headers = self._next.popleft() if self._next else (200, b"thanks", {})
        return web.Response(status=status, body=body, headers=answer_headers)

    def _verify(self, raw: bytes, headers: dict[str, str]) -> bool:
        try:
            self._webhook.verify(raw, headers)
        except WebhookVerificationError:
            return False
        return True
