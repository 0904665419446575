"""Contacts and messages over HTTP: pages, one of them, and a contact forgotten."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field

from crmd.crm.contacts import repository as contacts
from crmd.crm.json_views import contact_json, event_json, message_json
from crmd.crm.messages import queries as messages
from crmd.crm.schema import Message
from crmd.http import schema
from crmd.http.bounded import records_bounded
from crmd.http.cursors import read_cursor, row_id, write_cursor
from crmd.http.deps import WebDeps
from crmd.http.problems import Problem
from crmd.http.routes import Access, Route

_CONTACTS = "/api/v1/contacts"
_MESSAGES = "/api/v1/messages"


def _phone(text: str) -> str:
    """E.164. A plus that was not percent-encoded arrives as a space, so it may be left out."""
    digits = text.strip().removeprefix("+")
    if not re.fullmatch(r"[0-9]{4,20}", digits):
        raise ValueError("is not a phone number; write it as E.164, such as 491701234567")
    return f"+{digits}"


Phone = Annotated[str, AfterValidator(_phone)]


class PageQuery(schema.Body):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid", strict=False)

    cursor: str | None = Field(None, max_length=64, description="From the page before.")
    limit: int = Field(50, ge=1, le=schema.MAX_PAGE)


class ContactsQuery(PageQuery):
    """A page of contacts."""

    tag: str | None = Field(None, min_length=1, max_length=64, description="Has this tag.")
    phone: Phone | None = Field(None, description="E.164; the plus may be left out.")
    search: str | None = Field(None, min_length=1, max_length=200, description="In name, email and phone.")
    opted_out: bool | None = Field(None, description="Wants no messages, or does.")


class MessagesQuery(PageQuery):
    """A page of messages."""

    direction: Literal["out", "in"] | None = None
    status: messages.Status | None = None
    phone: Phone | None = Field(None, description="E.164; the plus may be left out.")
    campaign: int | None = Field(None, ge=1, le=10**18, description="Id of the campaign.")


class RecordsApi:
    """Answers under `/api/v1/contacts` and `/api/v1/messages`."""

    def __init__(self, deps: WebDeps) -> None:
        self._deps = deps

    def routes(self) -> list[Route]:
        """What this part answers."""
        read = Access.READ
        return [
            Route(
                *("GET", _CONTACTS, self.list_contacts, read, "A page of contacts, by id"),
                query=ContactsQuery,
                errors=(422, 503),
            ),
            Route("GET", f"{_CONTACTS}/{{id}}", self.get_contact, read, "One contact", errors=(404, 503)),
            Route(
                *("DELETE", f"{_CONTACTS}/{{id}}", self.forget_contact, Access.OPERATE),
                "Deletes a contact, with its messages, flow runs and part in campaigns",
                answers={204: "Deleted."},
                errors=(404, 503),
            ),
            Route(
                *("GET", _MESSAGES, self.list_messages, read, "A page of messages, the newest first"),
                query=MessagesQuery,
                errors=(422, 503),
            ),
            Route(
                *("GET", f"{_MESSAGES}/{{id}}", self.get_message, read, "One message with its history"),
                errors=(404, 503),
            ),
        ]

    async def list_contacts(self, request: web.Request) -> web.Response:
        """A page of contacts."""
        asked = schema.query(request, ContactsQuery)
        wanted = contacts.ContactFilter(
            tags=(asked.tag,) if asked.tag else (),
            phone=asked.phone,
            search=asked.search,
            opted_out=asked.opted_out,
        )
        after = read_cursor(asked.cursor)
        found = await records_bounded(self._contacts(wanted, after, asked.limit + 1))
        return _page("contacts", [contact_json(one) for one in found], asked.limit)

    async def get_contact(self, request: web.Request) -> web.Response:
        """One contact."""
        number = row_id(request.match_info["id"], "contact")
        found = await records_bounded(self._contact(number))
        if found is None:
            raise Problem(404, f"there is no contact {number}")
        return web.json_response(contact_json(found))

    async def forget_contact(self, request: web.Request) -> web.Response:
        """Deletes a contact and what was said with it."""
        number = row_id(request.match_info["id"], "contact")
        if not await records_bounded(self._forget(number)):
            raise Problem(404, f"there is no contact {number}")
        return web.Response(status=204)

    async def list_messages(self, request: web.Request) -> web.Response:
        """A page of messages."""
        asked = schema.query(request, MessagesQuery)
        wanted = messages.MessageFilter(
            direction=asked.direction, status=asked.status, phone=asked.phone, campaign_id=asked.campaign
        )
        after = read_cursor(asked.cursor)
        found = await records_bounded(self._messages(wanted, after, asked.limit + 1))
        return _page("messages", [message_json(one) for one in found], asked.limit)

    async def get_message(self, request: web.Request) -> web.Response:
        """One message with its history."""
        number = row_id(request.match_info["id"], "message")
        found = await records_bounded(self._message(number))
        if found is None:
            raise Problem(404, f"there is no message {number}")
        return web.json_response(found)

    async def _contacts(
        self, wanted: contacts.ContactFilter, after: int | None, limit: int
    ) -> list[contacts.ContactView]:
        async with self._deps.records.reading() as session:
            return await contacts.page(session, wanted, after, limit)

    async def _contact(self, number: int) -> contacts.ContactView | None:
        async with self._deps.records.reading() as session:
            return await contacts.view(session, number)

    async def _forget(self, number: int) -> bool:
        async with self._deps.records.transaction() as session:
            return await contacts.forget(session, number)

    async def _messages(self, wanted: messages.MessageFilter, after: int | None, limit: int) -> list[Message]:
        async with self._deps.records.reading() as session:
            return await messages.page(session, wanted, after, limit, newest_first=True)

    async def _message(self, number: int) -> dict[str, Any] | None:
        async with self._deps.records.reading() as session:
            found = await session.get(Message, number)
            if found is None:
                return None
            history = await messages.history(session, number)
        return {**message_json(found), "history": [event_json(event) for event in history]}


def _page(name: str, rows: list[dict[str, Any]], limit: int) -> web.Response:
    """A page of rows, of which one more was read than fits if there are more."""
    cursor = write_cursor(rows[limit - 1]["id"]) if len(rows) > limit else None
    return web.json_response({name: rows[:limit], "cursor": cursor})
