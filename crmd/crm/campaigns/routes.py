"""Campaigns over HTTP: list, show, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from crmd.crm.campaigns import recipients as campaign_recipients
from crmd.crm.campaigns import repository as campaigns
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.service import CampaignControl
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.database.bounded import database_bounded
from crmd.crm.database.database import Database
from crmd.crm.database.types import rfc3339
from crmd.crm.messages import queries as messages
from crmd.errors import UnknownCampaign
from crmd.http import schema
from crmd.http.cursors import page, read_cursor, row_id
from crmd.http.routes import Access, Route

_ANSWERS = "crmd.crm.campaigns.answers"

_ALL = "/api/v1/campaigns"
_ONE = f"{_ALL}/{{id}}"
_ACTION_ERRORS = (404, 408, 409, 413, 415, 422, 503)


class CampaignsQuery(schema.PageQuery):
    """A page of campaigns."""

    status: CampaignStatus | None = None


class CampaignsApi:
    """Answers under `/api/v1/campaigns`."""

    def __init__(self, database: Database, campaign_control: CampaignControl) -> None:
        self._database = database
        self._control = campaign_control

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
                *("POST", f"{_ONE}/pause", self.pause, operate, "Begins no more of its messages"),
                row_id=True,
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:CampaignAnswer"},
                errors=_ACTION_ERRORS,
            ),
            Route(
                *("POST", f"{_ONE}/resume", self.resume, operate, "Goes on after a pause"),
                row_id=True,
                answers={200: f"{_ANSWERS}:CampaignAnswer"},
                errors=_ACTION_ERRORS,
            ),
            Route(
                *("POST", f"{_ONE}/cancel", self.cancel, operate, "Ends it; its other messages are not sent"),
                row_id=True,
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:CampaignAnswer"},
                errors=_ACTION_ERRORS,
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """A page of campaigns."""
        asked = schema.query(request, CampaignsQuery)
        found = await database_bounded(self._page(asked))
        return page("campaigns", [_json(one) for one in found], asked.limit)

    async def get(self, request: web.Request) -> web.Response:
        """One campaign."""
        return await self._answer(row_id(request.match_info["id"], "campaign"))

    async def pause(self, request: web.Request) -> web.Response:
        """Pauses a campaign."""
        return await self._recall(request, CampaignStatus.PAUSED)

    async def resume(self, request: web.Request) -> web.Response:
        """Resumes a paused campaign."""
        number = row_id(request.match_info["id"], "campaign")
        await schema.body(request, schema.RequestBody)
        await self._control.resume(number)
        return await self._answer(number)

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancels a campaign for good."""
        return await self._recall(request, CampaignStatus.CANCELLED)

    async def _recall(self, request: web.Request, to: CampaignStatus) -> web.Response:
        number = row_id(request.match_info["id"], "campaign")
        body = await schema.body(request, schema.ReasonBody)
        await self._control.recall(number, to, body.reason)
        return await self._answer(number)

    async def _page(self, asked: CampaignsQuery) -> Sequence[Campaign]:
        before = read_cursor(asked.cursor)
        async with self._database.reading() as s:
            return await campaigns.page(s, before, asked.limit + 1, asked.status)

    async def _answer(self, number: int) -> web.Response:
        """The campaign as it is now."""
        found = await database_bounded(self._whole(number))
        if found is None:
            raise UnknownCampaign(f"there is no campaign {number}")
        return web.json_response(found)

    async def _whole(self, number: int) -> dict[str, Any] | None:
        async with self._database.reading() as s:
            campaign = await campaigns.get(s, number)
            if campaign is None:
                return None
            counts = await campaign_recipients.counts(s, number)
            skipped = await campaign_recipients.skipped_reasons(s, number)
            by_status = await messages.campaign_counts(s, number)
        total = campaign.total
        return {
            **_json(campaign),
            "progress": round(1 - counts["pending"] / total, 4) if total else float(total == 0),
            "recipients": counts,
            "skipped": skipped,
            "messages": by_status,
            "definition": _shown(campaign.definition),
        }


def _json(campaign: Campaign) -> dict[str, Any]:
    return {
        "id": campaign.id,
        "name": campaign.name,
        "status": campaign.status,
        "reason": campaign.reason,
        "total": campaign.total,
        "job": {"queue": "campaign", "key": campaign.job_key} if campaign.job_key else None,
        "created_at": rfc3339(campaign.created_at),
        "finished_at": rfc3339(campaign.finished_at),
    }


def _shown(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without inline recipients, of which there may be a thousand."""
    audience = definition.get("audience", {})
    if "recipients" not in audience:
        return definition
    return {**definition, "audience": {"recipients": f"{len(audience['recipients'])} in the job's payload"}}
