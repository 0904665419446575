"""Webhook endpoints over HTTP: list with their state, enable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from crmd.config.tables import EndpointTable
from crmd.crm.api import ApiParts
from crmd.crm.database.database import Database, database_bounded
from crmd.crm.database.types import rfc3339
from crmd.crm.webhooks import repository as endpoints
from crmd.crm.webhooks.repository import EndpointStatus
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route

_ANSWERS = "crmd.crm.webhooks.answers"

_ROOT = "/api/v1/webhook-endpoints"


def routes(parts: ApiParts) -> list[Route]:
    """The routes under `/api/v1/webhook-endpoints`."""
    return EndpointsApi(parts.get(Database), parts.endpoints).routes()


class EndpointsApi:
    """Answers under `/api/v1/webhook-endpoints`."""

    def __init__(self, database: Database, tables: Callable[[], Mapping[str, EndpointTable]]) -> None:
        """`tables` returns the configured endpoints, which a reload may change."""
        self._database = database
        self._tables = tables

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            Route(
                *("GET", _ROOT, self.list, Access.READ, "The webhook endpoints and their state"),
                answers={200: f"{_ANSWERS}:EndpointsAnswer"},
                errors=(503,),
            ),
            Route(
                *("POST", f"{_ROOT}/{{name}}/enable", self.enable, Access.OPERATE),
                summary="Enables a disabled endpoint again",
                answers={200: f"{_ANSWERS}:EndpointAnswer"},
                errors=(404, 408, 413, 415, 422, 503),
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All endpoints of the configuration."""
        tables = self._tables()
        async with database_bounded(), self._database.reading() as s:
            known = await endpoints.statuses(s, tuple(tables))
        shown = [_json(name, table, known.get(name)) for name, table in tables.items()]
        return web.json_response({"endpoints": shown})

    async def enable(self, request: web.Request) -> web.Response:
        """Enables an endpoint. Idempotent."""
        name, tables = request.match_info["name"], self._tables()
        table = tables.get(name)
        if table is None:
            named = ", ".join(tables) or "none"
            raise HttpProblem(404, f'no endpoint "{name}" in [webhook.endpoints]; there are: {named}')
        async with database_bounded(), self._database.transaction() as s:
            await endpoints.enable(s, name)
        return web.json_response(_json(name, table, None))


def _json(name: str, table: EndpointTable, status: EndpointStatus | None) -> dict[str, Any]:
    """One endpoint; only the host of its URL, as the path may contain a secret."""
    known = status or EndpointStatus()
    return {
        "name": name,
        "host": urlsplit(table.url).netloc,
        "events": list(table.events),
        "state": "disabled" if known.disabled_at else "failing" if known.failing_since else "working",
        "failing_since": rfc3339(known.failing_since),
        "disabled_at": rfc3339(known.disabled_at),
        "reason": known.reason,
    }
