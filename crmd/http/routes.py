"""One entry for each thing that HTTP answers: who may ask, and what the description says of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web
from pydantic import BaseModel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Access(StrEnum):
    """What a request needs."""

    OPEN = "open"
    """Nothing."""
    SUMMARY = "summary"
    """Nothing on loopback or with `auth.public_metrics`, else as READ."""
    READ = "read"
    ENQUEUE = "enqueue"
    OPERATE = "operate"

    @property
    def scope(self) -> str:
        """The scope that a token needs for it."""
        return "read" if self in (Access.OPEN, Access.SUMMARY) else self.value


@dataclass(frozen=True, slots=True)
class Success:
    """What a status means that is no problem, and what comes with it."""

    meaning: str
    body: str | None = None
    """A model of the JSON, as `module:Class`; None where the body is of another type, or there is none."""
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    access: Access
    summary: str = ""
    """One line for the description; a route without one is left out of it."""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header fields that it reads beyond what every route does, and what they mean."""
    answers: Mapping[int, Success | str] = field(default_factory=dict)
    """Each status that is no problem; a text names the model of the JSON, whose docstring says the meaning.

    Models are imported when the description is asked for: together they take some MiB.
    """
    errors: tuple[int, ...] = ()
    """Statuses of problems beyond those that every route may answer."""
    signed: bool = False
    """The handler checks the sender's signature: that the request comes from another site does not matter."""
    any_body: bool = False
    """The body may be of any type; else it is JSON."""
    streamed: bool = False
    """The body goes to disk as it comes, and is never in memory as a whole."""
    probe: bool = False
    """Answered however many connections there are."""
    for_any_queue: bool = False
    """For a path without a queue: it shows a token that is limited to queues those only."""


class RouteTable:
    """The routes of one application, and what access each needs."""

    def __init__(self, prefix: str, routes: Sequence[Route]) -> None:
        self._prefix = prefix
        self._routes = routes
        self._by_registered: dict[web.AbstractRoute, Route] = {}

    def register(self, app: web.Application) -> None:
        """Registers the routes; a GET answers HEAD as well."""
        for route in self._routes:
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                registered = app.router.add_route(method, self._prefix + route.path, route.handler)
                self._by_registered[registered] = route

    def find(self, request: web.Request) -> Route:
        """The route of a request. What is none needs READ: strangers do not learn which paths exist."""
        return self._by_registered.get(request.match_info.route, _NOWHERE)


async def _nowhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


_NOWHERE = Route("GET", "", _nowhere, Access.READ, for_any_queue=True, any_body=True)
