"""Static files: ours, and SAQ's, two of which it ships compressed."""

from __future__ import annotations

import gzip
import hashlib
import html
import mimetypes
from collections.abc import Mapping
from importlib import resources
from string import Template

from aiohttp import web

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Everything is self-hosted; `data:` is for the icons in SAQ's stylesheet."""

_SAQ_FILES = ("app.js", "pico.min.css.gz", "snabbdom.js.gz")


class StaticFiles:
    """All static files, kept unpacked in memory."""

    def __init__(self) -> None:
        ours = resources.files("crmd.console").joinpath("static")
        saq = resources.files("saq.web").joinpath("static")
        self._files = {file.name: file.read_bytes() for file in ours.iterdir() if file.is_file()}
        for name in _SAQ_FILES:
            content = saq.joinpath(name).read_bytes()
            self._files[name.removesuffix(".gz")] = gzip.decompress(content) if name.endswith(".gz") else content
        self._pages = {
            name: Template(text.decode()) for name, text in self._files.items() if name.endswith(".html")
        }

    async def file(self, request: web.Request) -> web.Response:
        """The file that the path names."""
        name = request.match_info["file"]
        content = self._files.get(name)
        if content is None or name in self._pages:
            raise web.HTTPNotFound
        tag = hashlib.sha256(content).hexdigest()[:16]
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=304, headers=headers)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return web.Response(body=content, content_type=kind, charset="utf-8", headers=headers)

    def page(self, name: str, values: Mapping[str, str]) -> web.Response:
        """Renders a page; the values are escaped."""
        text = self._pages[name].substitute({key: html.escape(value) for key, value in values.items()})
        return web.Response(
            text=text, content_type="text/html", headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY}
        )
