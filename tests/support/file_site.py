"""A site with files to fetch."""

from __future__ import annotations

from aiohttp import web

from tests.support.local_site import LocalSite


class FileSite(LocalSite):
    """Serves `files` by path, and redirects; other paths are 404."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, tuple[bytes, str]] = {}
        """By path: the body, and its media type."""
        self.redirects: dict[str, str] = {}
        self.statuses: dict[str, int] = {}
        self.hanging: set[str] = set()
        self.requests: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers one request."""
        self.requests.append(request.path)
        if request.path in self.hanging:
            await self.released.wait()
        if request.path in self.redirects:
            return web.Response(status=302, headers={"Location": self.redirects[request.path]})
        if request.path in self.statuses:
            return web.Response(status=self.statuses[request.path])
        if request.path not in self.files:
            return web.Response(status=404)
        body, media_type = self.files[request.path]
        response = web.StreamResponse(headers={"Content-Type": media_type})
        if "length" in request.query:
            response.content_length = len(body)
        else:
            response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        await response.write_eof()
        return response
