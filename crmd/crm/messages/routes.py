"""What a person says of an unknown message, over HTTP."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

from aiohttp import web
from pydantic import Field

from crmd.crm.database.types import utc_now
from crmd.crm.json_views import message_json
from crmd.crm.messages import queries as messages
from crmd.crm.messages.stored_unknown_jobs import unknown_jobs
from crmd.crm.messages.unknown_jobs import Settled
from crmd.crm.schema import Message
from crmd.errors import StoreError
from crmd.http import schema
from crmd.http.auth import current_principal
from crmd.http.bounded import READ_SECONDS, bounded, records_bounded
from crmd.http.cursors import row_id
from crmd.http.deps import WebDeps
from crmd.http.problems import Problem
from crmd.http.routes import Access, Route


class SettleBody(schema.Body):
    """What became of a message."""

    status: Literal["sent", "failed"] = Field(description="Whether it went out.")


class MessagesApi:
    """Answers under `/api/v1/messages/{id}/settle`."""

    def __init__(self, deps: WebDeps) -> None:
        self._deps = deps

    def routes(self) -> list[Route]:
        """What this part answers."""
        return [
            Route(
                *("POST", "/api/v1/messages/{id}/settle", self.settle, Access.OPERATE),
                "Says what became of an unknown message",
                body=SettleBody,
                errors=(404, 408, 409, 413, 415, 422, 503),
            )
        ]

    async def settle(self, request: web.Request) -> web.Response:
        """Settles an unknown message by hand, and its job."""
        number = row_id(request.match_info["id"], "message")
        asked = await schema.body(request, SettleBody)
        found = await records_bounded(self._settle(number, asked.status))
        if found is None:
            raise Problem(404, f"there is no message {number}")
        await self._settle_job(found)
        return web.json_response(message_json(found))

    async def _settle(self, number: int, status: Literal["sent", "failed"]) -> Message | None:
        async with self._deps.records.transaction() as session:
            return await messages.settle_by_hand(session, number, status, utc_now())

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
        # Where the store is away the daemon does it later: it compares its unknown jobs with the records.
        with suppress(StoreError):
            await bounded(unknown_jobs(self._deps.inspector).settle(settled), READ_SECONDS)
