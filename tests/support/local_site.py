"""An aiohttp server on a free port of the loopback address."""

from __future__ import annotations

import asyncio

from aiohttp import web


class LocalSite:
    """Serves one handler for all paths; `stop` lets hanging requests go first."""

    def __init__(self) -> None:
        self.port = 0
        self.released = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listens on a free port."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Ends all requests and closes the port."""
        self.released.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        raise NotImplementedError
