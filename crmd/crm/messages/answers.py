"""The answers about messages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crmd.http.answers import AnswerBody, Timestamp


class MessageJobAnswer(AnswerBody):
    """The job that sent a message."""

    queue: str
    key: str


class MessageAnswer(AnswerBody):
    """One message."""

    id: int
    direction: Literal["out", "in"]
    phone: str
    contact_id: int | None
    campaign_id: int | None
    type: str
    text: str | None
    status: str
    status_at: Timestamp
    error_code: str | None
    error: str | None
    wamid: str | None
    job: MessageJobAnswer | None
    created_at: Timestamp


class MessageEventAnswer(AnswerBody):
    """A step in a message's history."""

    status: str
    at: Timestamp
    error_code: str | None


class MessageHistoryAnswer(MessageAnswer):
    """One message with its history."""

    history: list[MessageEventAnswer]


class MessagesPageAnswer(AnswerBody):
    """A page of messages, the newest first."""

    messages: list[MessageAnswer]
    cursor: str | None = Field(description="Names the next page; null on the last one.")
