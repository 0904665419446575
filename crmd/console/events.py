"""Server-sent events about queues that change, whichever daemon changes them."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from crmd.console.health import counts_json, limit_json
from crmd.engine.admin.queue_health import FRESH_SECONDS, QueueHealth
from crmd.errors import StoreError
from crmd.http.auth import current_principal
from crmd.http.long_requests import LongRequests
from crmd.http.routes import Access, Route, Success

_EVENTS = "Events named `queue`, one for each queue at first, then for each that changed."
SILENCE_SECONDS = 15.0
"""After this long without an event a comment is sent, so that proxies keep the connection open."""


class EventsApi:
    """Answers `GET /api/v1/events`."""

    def __init__(self, health: QueueHealth, long: LongRequests) -> None:
        self._health = health
        self._long = long

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            Route(
                *("GET", "/api/v1/events", self.events, Access.READ, "Server-sent events: queues as they change"),
                answers={200: Success(_EVENTS, media_type="text/event-stream")},
                for_any_queue=True,
            )
        ]

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Streams every queue once, then those that changed, at most once a second."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        if request.method == "HEAD":
            await response.prepare(request)
            return response
        with self._long.place():
            await response.prepare(request)
            await self._send(request, response)
        return response

    async def _send(self, request: web.Request, response: web.StreamResponse) -> None:
        principal = current_principal()
        sent: dict[str, bytes] = {}
        silent, ended = 0.0, False
        while not ended:
            fresh = await self._events(sent, principal.may_see)
            silent = 0.0 if fresh else silent + FRESH_SECONDS
            if fresh or silent >= SILENCE_SECONDS:
                await response.write(b"".join(fresh) or b": still here\n\n")
                silent = 0.0
            ended = await self._long.ends_within(request, FRESH_SECONDS)

    async def _events(self, sent: dict[str, bytes], may_see: Any) -> list[bytes]:
        """The events that differ from `sent`, which it updates."""
        try:
            states: dict[str, Any] = {
                name: {"name": name, **counts_json(seen.counts), "paused": seen.counts.paused}
                | {"limit": limit_json(seen.counts)}
                for name, seen in (await self._health.observations()).items()
                if may_see(name)
            }
            events = {name: _event("queue", state) for name, state in states.items()}
            events["store"] = _event("store", {"connected": True})
        except StoreError as error:
            events = {"store": _event("store", {"connected": False, "reason": str(error)})}
        fresh = [event for name, event in events.items() if sent.get(name) != event]
        sent.update(events)
        return fresh


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()
