"""Requests that last on purpose, waits for an outcome and streams of events: how many there may be."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from aiohttp import web

from crmd.http.auth import current_principal
from crmd.http.connections import Connections
from crmd.http.problems import HttpProblem

T = TypeVar("T")

SHARE = 0.5
"""Of all connections, for all of them together."""
SHARE_OF_ONE = 0.25
"""For those of one user or token."""
RETRY_AFTER_SECONDS = 5


class LongRequests:
    """The places of long requests. They end when their client has gone, and when the server stops."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._most = int(connections.most * SHARE)
        self._most_of_one = int(connections.most * SHARE_OF_ONE)
        self._by_principal: Counter[str] = Counter()
        self._closing = asyncio.Event()

    def open(self) -> None:
        """Lets requests last: the server starts."""
        self._closing.clear()

    def close(self) -> None:
        """Ends all that are under way: the server stops."""
        self._closing.set()

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for the request under way; raises HttpProblem 503 where there is none."""
        name = current_principal().owner
        if self._by_principal[name] >= self._most_of_one or self._by_principal.total() >= self._most:
            raise HttpProblem(
                503,
                "too many waits and streams at once; end some, or ask again without waiting",
                headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
            )
        self._by_principal[name] += 1
        try:
            yield
        finally:
            self._by_principal[name] -= 1
            if not self._by_principal[name]:
                del self._by_principal[name]

    async def result(self, request: web.Request, work: Coroutine[Any, Any, T]) -> T | None:
        """What the work returns or raises; None, and the work cancelled, where nobody waits for it any more."""
        self._connections.free_body(request)
        working = asyncio.ensure_future(work)
        ends = (
            asyncio.ensure_future(self._closing.wait()),
            asyncio.ensure_future(self._connections.gone(request)),
        )
        try:
            await asyncio.wait((working, *ends), return_when=asyncio.FIRST_COMPLETED)
            return await working if working.done() else None
        finally:
            for task in (working, *ends):
                task.cancel()
            await asyncio.gather(working, *ends, return_exceptions=True)

    async def closes_within(self, seconds: float) -> bool:
        """Sleeps, unless the server stops meanwhile; then True."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True

    async def ends_within(self, request: web.Request, seconds: float) -> bool:
        """Sleeps, unless the server stops or the client goes meanwhile; then True."""
        return await self.result(request, asyncio.sleep(seconds, result=True)) is None
