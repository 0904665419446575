"""Routes: who may call them, and how the OpenAPI document describes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access(StrEnum):
    """The access that a route requires."""

    OPEN = "open"
    """No credentials."""
    SUMMARY = "summary"
    """No credentials on loopback or with `auth.public_metrics`, else READ."""
    READ = "read"
    ENQUEUE = "enqueue"
    OPERATE = "operate"

    @property
    def scope(self) -> str:
        """The scope that a token needs."""
        return "read" if self in (Access.OPEN, Access.SUMMARY) else self.value


@dataclass(frozen=True, slots=True)
class Success:
    """A successful answer: what it means and what it carries."""

    meaning: str
    body: str | None = None
    """The model of the JSON body, as `module:Class`; None for other media types or no body."""
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str = ""
    """One line for the OpenAPI document; a route without one is left out of it."""
    row_id: bool = False
    """Whether the `{id}` in its path is a number; otherwise it is text."""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header fields that only this route reads, and their meaning."""
    answers: Mapping[int, Success | str] = field(default_factory=dict)
    """Successful answers by status. A string names the model of the JSON body; its docstring is the meaning.

    Models are imported only when the OpenAPI document is requested: together they take some MiB.
    """
    errors: tuple[int, ...] = ()
    """Statuses of problems, beyond those that any route may answer with."""
    signed: bool = False
    """The handler checks a signature, so cross-site requests are allowed."""
    any_body: bool = False
    """Whether the body may be of any type; otherwise it must be JSON."""
    streamed: bool = False
    """The body goes to disk as it comes, and is never in memory as a whole."""
    probe: bool = False
    """Whether it is answered even if all connections are busy."""
    for_any_queue: bool = False
    """Whether tokens limited to some queues may call it although its path names none."""
