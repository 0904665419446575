"""Limits requests that are meant to last: waits for outcomes and event streams."""

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
"""The share of all connections that they may take together."""
SHARE_OF_ONE = 0.25
"""The share for one user or token."""
RETRY_AFTER_SECONDS = 5


class LongRequests:
    """Admits long requests, which end when their client disconnects or the server stops."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._most = int(connections.most * SHARE)
        self._most_of_one = int(connections.most * SHARE_OF_ONE)
        self._by_principal: Counter[str] = Counter()
        self._closing = asyncio.Event()

    def open(self) -> None:
        """Admits long requests again; called when the server starts."""
        self._closing.clear()

    def close(self) -> None:
        """Ends all long requests; called when the server stops."""
        self._closing.set()

    @contextmanager
    def place(self) -> Iterator[None]:
        """Holds a place for the current request; raises HttpProblem 503 if none is free."""
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
        """The result of `work`; None, with `work` cancelled, if nobody waits for it any more."""
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
        """Sleeps; returns True early if the server stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            return False
        return True

    async def ends_within(self, request: web.Request, seconds: float) -> bool:
        """Sleeps; returns True early if the server stops or the client disconnects."""
        return await self.result(request, asyncio.sleep(seconds, result=True)) is None
