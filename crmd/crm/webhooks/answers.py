"""The answers about webhook endpoints."""

from __future__ import annotations

from typing import Literal

from crmd.http.answers import AnswerBody, Timestamp


class EndpointAnswer(AnswerBody):
    """One endpoint, and how it does."""

    name: str
    host: str
    events: list[str]
    state: Literal["disabled", "failing", "working"]
    failing_since: Timestamp | None
    disabled_at: Timestamp | None
    reason: str | None


class EndpointsAnswer(AnswerBody):
    """The webhook endpoints of the configuration."""

    endpoints: list[EndpointAnswer]
