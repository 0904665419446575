"""Contacts over HTTP: list, show, delete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic import Field

from crmd.crm.api import ApiParts
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.filters import ContactFilter
from crmd.crm.contacts.phones import Phone
from crmd.crm.database.database import Database, database_bounded
from crmd.crm.database.types import rfc3339
from crmd.crm.features import forgetting
from crmd.http import schema
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route, Success

_ANSWERS = "crmd.crm.contacts.answers"

_CONTACTS = "/api/v1/contacts"


class ContactsQuery(schema.PageQuery):
    """A page of contacts."""

    tag: str | None = Field(None, min_length=1, max_length=64, description="Has this tag.")
    phone: Phone | None = Field(None, description="E.164; the plus may be left out.")
    search: str | None = Field(None, min_length=1, max_length=200, description="In name, email and phone.")
    opted_out: bool | None = Field(None, description="Wants no messages, or does.")


def routes(parts: ApiParts) -> list[Route]:
    """The routes under `/api/v1/contacts`."""
    return ContactsApi(parts.get(Database), forgetting()).routes()


class ContactsApi:
    """Answers under `/api/v1/contacts`."""

    def __init__(self, database: Database, forgetting: Sequence[contacts.Forget]) -> None:
        """`forgetting` deletes what other features keep of a contact."""
        self._database = database
        self._forgetting = forgetting

    def routes(self) -> list[Route]:
        """The routes of this group."""
        read = Access.READ
        return [
            Route(
                *("GET", _CONTACTS, self.list_contacts, read, "A page of contacts, by id"),
                query=ContactsQuery,
                answers={200: f"{_ANSWERS}:ContactsPageAnswer"},
                errors=(422, 503),
            ),
            Route(
                *("GET", f"{_CONTACTS}/{{id}}", self.get_contact, read, "One contact"),
                row_id=True,
                answers={200: f"{_ANSWERS}:ContactAnswer"},
                errors=(404, 503),
            ),
            Route(
                *("DELETE", f"{_CONTACTS}/{{id}}", self.forget_contact, Access.OPERATE),
                "Deletes a contact, with its messages, flow runs and part in campaigns",
                row_id=True,
                answers={204: Success("Deleted.")},
                errors=(404, 503),
            ),
        ]

    async def list_contacts(self, request: web.Request) -> web.Response:
        """A page of contacts."""
        asked = schema.query(request, ContactsQuery)
        wanted = ContactFilter(
            tags=(asked.tag,) if asked.tag else (),
            phone=asked.phone,
            search=asked.search,
            opted_out=asked.opted_out,
        )
        after = schema.read_cursor(asked.cursor)
        async with database_bounded(), self._database.reading() as s:
            found = await contacts.page(s, wanted, after, asked.limit + 1)
        return schema.page("contacts", [_json(one) for one in found], asked.limit)

    async def get_contact(self, request: web.Request) -> web.Response:
        """One contact."""
        number = schema.row_id(request.match_info["id"], "contact")
        async with database_bounded(), self._database.reading() as s:
            found = await contacts.view(s, number)
        if found is None:
            raise HttpProblem(404, f"there is no contact {number}")
        return web.json_response(_json(found))

    async def forget_contact(self, request: web.Request) -> web.Response:
        """Deletes a contact and its messages."""
        number = schema.row_id(request.match_info["id"], "contact")
        async with database_bounded():
            # Statuses take messages before contacts, forgetting takes them after: it may lose, and is run again.
            found = await self._database.run(lambda s: contacts.forget(s, number, self._forgetting))
        if not found:
            raise HttpProblem(404, f"there is no contact {number}")
        return web.Response(status=204)


def _json(contact: contacts.ContactView) -> dict[str, Any]:
    """A contact with its tags."""
    return {
        "id": contact.id,
        "phone": contact.phone,
        "name": contact.name,
        "email": contact.email,
        "tags": list(contact.tags),
        "attributes": contact.attributes,
        "opted_out_at": rfc3339(contact.opted_out_at),
        "marketing_stopped_at": rfc3339(contact.marketing_stopped_at),
        "last_inbound_at": rfc3339(contact.last_inbound_at),
        "created_at": rfc3339(contact.created_at),
        "updated_at": rfc3339(contact.updated_at),
    }
