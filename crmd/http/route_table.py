"""Finds the route of a request, for the middlewares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from aiohttp import web

from crmd.http.late_routes import LateResource, LateRoutes
from crmd.http.routes import Access, Route


class RouteTable:
    """Registers routes and finds the one of a request."""

    def __init__(self, prefix: str, routes: Sequence[Route], late: Sequence[LateRoutes] = ()) -> None:
        self._prefix = prefix
        self._routes = routes
        self._late = late
        self._late_routers: dict[str, web.UrlDispatcher] = {}
        self._by_registered: dict[web.AbstractRoute, Route] = {}

    @property
    def routes(self) -> list[Route]:
        """The routes, of the late ones those that were made."""
        return [*self._routes, *(route for late in self._late for route in late.made)]

    def register(self, app: web.Application) -> None:
        """Registers all routes; a GET route also answers HEAD."""
        self._add(app.router, self._routes)
        for late in self._late:
            app.router.register_resource(LateResource(self._prefix + late.path, partial(self._late_router, late)))

    def find(self, request: web.Request) -> Route:
        """The route of a request; an unknown path needs READ, so that strangers do not learn which paths exist."""
        return self._by_registered.get(request.match_info.route, _NOWHERE)

    async def _late_router(self, late: LateRoutes) -> web.UrlDispatcher:
        routes = await late.routes()
        if late.path not in self._late_routers:
            self._late_routers[late.path] = router = web.UrlDispatcher()
            self._add(router, routes)
        return self._late_routers[late.path]

    def _add(self, router: web.UrlDispatcher, routes: Iterable[Route]) -> None:
        for route in routes:
            for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
                registered = router.add_route(method, self._prefix + route.path, route.handler)
                self._by_registered[registered] = route


async def _nowhere(request: web.Request) -> web.StreamResponse:
    raise web.HTTPNotFound


_NOWHERE = Route("GET", "", _nowhere, Access.READ, for_any_queue=True, any_body=True)
