"""Messages over HTTP: list, show with history, settle unknown ones."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from crmd.crm.api import ApiParts
from crmd.crm.contacts.phones import Phone
from crmd.crm.database.database import Database, database_bounded
from crmd.crm.database.types import rfc3339, utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages.tables import Message, MessageEvent
from crmd.crm.messages.unknown_jobs import Settled, UnknownJobs
from crmd.engine.admin.inspector import Inspector
from crmd.engine.store.bounded import READ_SECONDS, bounded
from crmd.errors import StoreError
from crmd.http import schema
from crmd.http.auth import current_principal
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route

_ANSWERS = "crmd.crm.messages.answers"

_MESSAGES = "/api/v1/messages"


class SettleBody(schema.RequestBody):
    """What became of a message."""

    status: Literal["sent", "failed"] = Field(description="Whether it went out.")


class MessagesQuery(schema.PageQuery):
    """A page of messages."""

    direction: Literal["out", "in"] | None = None
    status: messages.Status | None = None
    phone: Phone | None = Field(None, description="E.164; the plus may be left out.")
    campaign: int | None = Field(None, ge=1, le=10**18, description="Id of the campaign.")


def routes(parts: ApiParts) -> list[Route]:
    """The routes under `/api/v1/messages`."""
    return MessagesApi(parts.get(Database), parts.control.inspector).routes()


class MessagesApi:
    """Answers under `/api/v1/messages`."""

    def __init__(self, database: Database, inspector: Inspector) -> None:
        self._database = database
        self._inspector = inspector

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            Route(
                *("GET", _MESSAGES, self.list, Access.READ, "A page of messages, the newest first"),
                query=MessagesQuery,
                answers={200: f"{_ANSWERS}:MessagesPageAnswer"},
                errors=(422, 503),
            ),
            Route(
                *("GET", f"{_MESSAGES}/{{id}}", self.get, Access.READ, "One message with its history"),
                row_id=True,
                answers={200: f"{_ANSWERS}:MessageHistoryAnswer"},
                errors=(404, 503),
            ),
            Route(
                *("POST", f"{_MESSAGES}/{{id}}/settle", self.settle, Access.OPERATE),
                "Settles an unknown message",
                row_id=True,
                body=SettleBody,
                answers={200: f"{_ANSWERS}:MessageAnswer"},
                errors=(404, 408, 409, 413, 415, 422, 503),
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """A page of messages."""
        asked = schema.query(request, MessagesQuery)
        wanted = messages.MessageFilter(
            direction=asked.direction, status=asked.status, phone=asked.phone, campaign_id=asked.campaign
        )
        after = schema.read_cursor(asked.cursor)
        async with database_bounded(), self._database.reading() as s:
            found = await messages.page(s, wanted, after, asked.limit + 1, newest_first=True)
        return schema.page("messages", [_json(one) for one in found], asked.limit)

    async def get(self, request: web.Request) -> web.Response:
        """One message with its history."""
        number = schema.row_id(request.match_info["id"], "message")
        async with database_bounded(), self._database.reading() as s:
            found = await s.get(Message, number)
            history = await messages.history(s, number)
        if found is None:
            raise HttpProblem(404, f"there is no message {number}")
        return web.json_response({**_json(found), "history": [_event_json(event) for event in history]})

    async def settle(self, request: web.Request) -> web.Response:
        """Settles an unknown message, and its job, by hand."""
        number = schema.row_id(request.match_info["id"], "message")
        asked = await schema.body(request, SettleBody)
        async with database_bounded(), self._database.transaction() as s:
            found = await messages.settle_by_hand(s, number, asked.status, utc_now())
        if found is None:
            raise HttpProblem(404, f"there is no message {number}")
        await self._settle_job(found)
        return web.json_response(_json(found))

    async def _settle_job(self, message: Message) -> None:
        if message.job_queue is None or message.job_key is None or message.job_enqueued_at is None:
            return
        sent = {"message_id": "", "recipient": message.phone.removeprefix("+"), "status": message.status}
        settled = Settled(
            message.job_queue,
            message.job_key,
            message.job_enqueued_at,
            result=sent if message.error is None else None,
            error=message.error,
            by=current_principal().name,
        )
        # If the store is unavailable the message reconciler does it later.
        with suppress(StoreError):
            await bounded(UnknownJobs(self._inspector).settle(settled), READ_SECONDS)


def _json(message: Message) -> dict[str, Any]:
    """A message without its history."""
    job = {"queue": message.job_queue, "key": message.job_key} if message.job_key else None
    return {
        "id": message.id,
        "direction": message.direction,
        "phone": message.phone,
        "contact_id": message.contact_id,
        "campaign_id": message.campaign_id,
        "type": message.type,
        "text": message.text,
        "status": message.status,
        "status_at": rfc3339(message.status_at),
        "error_code": message.error_code,
        "error": message.error,
        "wamid": message.wamid,
        "job": job,
        "created_at": rfc3339(message.created_at),
    }


def _event_json(event: MessageEvent) -> dict[str, Any]:
    """A step in a message's history."""
    return {"status": event.status, "at": rfc3339(event.at), "error_code": event.error_code}
