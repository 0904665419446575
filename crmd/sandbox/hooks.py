"""Receives what crmd sends out: signed webhooks, and notifications to people."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from crmd.sandbox.faults import Fault, FaultKind, Faults, Service
from crmd.sandbox.journal import Journal, Kind, excerpt


class Hooks:
    """`/hooks/…` verifies signatures of Standard Webhooks, with 401 to a bad one; `/notify/…` takes all."""

    def __init__(self, secret: str, journal: Journal, faults: Faults) -> None:
        self._webhook = Webhook(secret)
        self._journal = journal
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        """What this stand-in answers."""
        return [
            web.post("/hooks{rest:(?:/.*)?}", self.receive),
            web.post("/notify{rest:(?:/.*)?}", self.notice),
        ]

    async def receive(self, request: web.Request) -> web.StreamResponse:
        """One webhook."""
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        fault = self._faults.take(Service.WEBHOOK)
        verified = self._verify(raw, headers)
        body = _parse(raw)
        self._journal.add(
            Kind.WEBHOOK,
            path=excerpt(request.path_qs),
            event=str(body.get("type", "")) if isinstance(body, dict) else "",
            message_id=headers.get("webhook-id", ""),
            verified=verified,
            text=excerpt(raw.decode("utf-8", "replace")),
            fault=fault.kind if fault else None,
        )
        wrong = await self._act(fault, request)
        if wrong is not None:
            return wrong
        if not verified:
            return web.json_response({"error": "the signature does not fit"}, status=401)
        return web.json_response({"received": True})

    async def notice(self, request: web.Request) -> web.StreamResponse:
        """One notification, in whatever form."""
        raw = await request.read()
        body = _parse(raw)
        fields: dict[str, Any] = body if isinstance(body, dict) else {}
        self._journal.add(
            Kind.NOTICE,
            title=excerpt(fields.get("title", "")),
            level=excerpt(fields.get("type", "")),
            text=excerpt(fields.get("message", raw.decode("utf-8", "replace"))),
        )
        wrong = await self._act(self._faults.take(Service.NOTICE), request)
        return web.json_response({"received": True}) if wrong is None else wrong

    async def _act(self, fault: Fault | None, request: web.Request) -> web.StreamResponse | None:
        if fault and fault.kind is FaultKind.ERROR:
            return web.json_response({"error": "by the sandbox"}, status=fault.code or 500)
        return await self._faults.act(fault, request)

    def _verify(self, raw: bytes, headers: dict[str, str]) -> bool:
        try:
            self._webhook.verify(raw, headers)
        except (WebhookVerificationError, ValueError):  # ValueError: a body or a signature that is no text
            return False
        return True


def _parse(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None
