"""Routes that are built when one of their paths is first requested."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

from aiohttp import web
from yarl import URL

from crmd.engine.single_flight import SingleFlight
from crmd.http.routes import Route


class LateRoutes:
    """The routes under one path. `make` is called once, when one of them or their description is asked for."""

    def __init__(self, path: str, make: Callable[[], Coroutine[Any, Any, Sequence[Route]]]) -> None:
        self.path = path
        self.made: Sequence[Route] = ()
        """The routes; none before they were asked for."""
        self._make = make
        self._flight = SingleFlight[None, Sequence[Route]]()

    async def routes(self) -> Sequence[Route]:
        """The routes."""
        if not self.made:
            self.made = await self._flight.run(None, self._make)
        return self.made


class LateResource(web.AbstractResource):
    """The paths of late routes for aiohttp, which takes no routes any more once its server has started."""

    def __init__(self, path: str, router: Callable[[], Coroutine[Any, Any, web.UrlDispatcher]]) -> None:
        super().__init__()
        self._path = path
        self._router = router

    @property
    def canonical(self) -> str:
        """The path above them all."""
        return self._path

    async def resolve(self, request: web.Request) -> tuple[web.UrlMappingMatchInfo | None, set[str]]:
        """The route of a request, or the methods that its path knows."""
        found = await (await self._router()).resolve(request)
        if found.http_exception is None:
            return found, set()
        return None, set(getattr(found.http_exception, "allowed_methods", ()))

    def raw_match(self, path: str) -> bool:
        """Whether routes of that path may be added here: none may."""
        return False

    def url_for(self, **kwargs: str) -> URL:
        """The path above them all."""
        return URL.build(path=self._path)

    def get_info(self) -> Any:
        """What aiohttp shows of it."""
        return {"path": self._path}

    def add_prefix(self, prefix: str) -> None:
        """Moves them below another path."""
        self._path = prefix + self._path

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[web.AbstractRoute]:
        return iter(())
