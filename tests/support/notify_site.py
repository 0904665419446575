"""What stands behind Apprise's json:// channels in tests: notes each message."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.support.local_site import LocalSite


class NotifySite(LocalSite):
    """Answers 200, or what `statuses` holds for the next posts; with `hang` it does not answer."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.statuses: list[int] = []
        self.hang = False

    def channel(self, path: str = "") -> str:
        """An Apprise URL that leads here."""
        return f"json://127.0.0.1:{self.port}/{path}"

    @property
    def texts(self) -> list[str]:
        """What the messages say."""
        return [one["message"] for one in self.received]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Takes one message."""
        self.paths.append(request.path)
        self.received.append(await request.json())
        if self.hang:
            await self.released.wait()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)
