"""The answers about contacts."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from crmd.http.answers import AnswerBody, Timestamp


class ContactAnswer(AnswerBody):
    """One contact."""

    id: int
    phone: str
    name: str | None
    email: str | None
    tags: list[str]
    attributes: dict[str, Any]
    opted_out_at: Timestamp | None
    marketing_stopped_at: Timestamp | None
    last_inbound_at: Timestamp | None
    created_at: Timestamp
    updated_at: Timestamp


class ContactsPageAnswer(AnswerBody):
    """A page of contacts, by id."""

    contacts: list[ContactAnswer]
    cursor: str | None = Field(description="Names the next page; null on the last one.")
