"""Campaigns over HTTP: list, show, pause, resume, cancel."""

from __future__ import annotations

from aiohttp import web

from crmd.crm.api import ApiParts
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.service import CampaignService, details, list_campaigns, summary
from crmd.crm.database.database import Database
from crmd.http import schema
from crmd.http.routes import Access, Route

_ANSWERS = "crmd.crm.campaigns.answers"

_ALL = "/api/v1/campaigns"
_ONE = f"{_ALL}/{{id}}"
_ACTION_ERRORS = (404, 408, 409, 413, 415, 422, 503)


class CampaignsQuery(schema.PageQuery):
    """A page of campaigns."""

    status: CampaignStatus | None = None


def routes(parts: ApiParts) -> list[Route]:
    """The routes under `/api/v1/campaigns`."""
    return CampaignsApi(parts.get(Database), CampaignService(parts.get(Database), parts.control)).routes()


class CampaignsApi:
    """Answers under `/api/v1/campaigns`."""

    def __init__(self, database: Database, service: CampaignService) -> None:
        self._database = database
        self._service = service

    def routes(self) -> list[Route]:
        """The routes of this group."""
        read, operate = Access.READ, Access.OPERATE
        return [
            Route(
                *("GET", _ALL, self.list, read, "A page of campaigns, the newest first"),
                query=CampaignsQuery,
                answers={200: f"{_ANSWERS}:CampaignsPageAnswer"},
                errors=(422, 503),
            ),
            Route(
                *("GET", _ONE, self.get, read, "One campaign: recipients, reasons, messages by status"),
                row_id=True,
                answers={200: f"{_ANSWERS}:CampaignAnswer"},
                errors=(404, 503),
            ),
            Route(
                *(
                    "POST",
                    f"{_ONE}/pause",
                    self.pause,
                    operate,
                    "Pauses a campaign: no more of its messages start",
                ),
                row_id=True,
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:CampaignAnswer"},
                errors=_ACTION_ERRORS,
            ),
            Route(
                *("POST", f"{_ONE}/resume", self.resume, operate, "Resumes a campaign"),
                row_id=True,
                answers={200: f"{_ANSWERS}:CampaignAnswer"},
                errors=_ACTION_ERRORS,
            ),
            Route(
                *(
                    "POST",
                    f"{_ONE}/cancel",
                    self.cancel,
                    operate,
                    "Ends a campaign; its remaining messages are not sent",
                ),
                row_id=True,
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:CampaignAnswer"},
                errors=_ACTION_ERRORS,
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """A page of campaigns."""
        asked = schema.query(request, CampaignsQuery)
        found = await list_campaigns(
            self._database, schema.read_cursor(asked.cursor), asked.limit + 1, asked.status
        )
        return schema.page("campaigns", [summary(one) for one in found], asked.limit)

    async def get(self, request: web.Request) -> web.Response:
        """One campaign."""
        return await self._answer(schema.row_id(request.match_info["id"], "campaign"))

    async def pause(self, request: web.Request) -> web.Response:
        """Pauses a campaign."""
        number = schema.row_id(request.match_info["id"], "campaign")
        body = await schema.body(request, schema.ReasonBody)
        await self._service.pause(number, body.reason)
        return await self._answer(number)

    async def resume(self, request: web.Request) -> web.Response:
        """Resumes a paused campaign."""
        number = schema.row_id(request.match_info["id"], "campaign")
        await schema.body(request, schema.RequestBody)
        await self._service.resume(number)
        return await self._answer(number)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancels a campaign for good."""
        number = schema.row_id(request.match_info["id"], "campaign")
        body = await schema.body(request, schema.ReasonBody)
        await self._service.cancel(number, body.reason)
        return await self._answer(number)

    async def _answer(self, number: int) -> web.Response:
        """The campaign as it is now."""
        return web.json_response(await details(self._database, number))
