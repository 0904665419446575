"""An installed Chromium, driven by Playwright, on a page of a real server."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support.http import PASSWORD, USER, Site, site

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@dataclass(slots=True)
class Ui:
    """One browser tab and the server behind it."""

    page: Any
    web: Site
    complaints: list[str] = field(default_factory=list)
    """What the browser's console has complained of."""

    async def open(self, path: str = "") -> None:
        """Opens a path below `/admin/queues`."""
        await self.page.goto(f"{self.web.url}/admin/queues{path}")

    async def sees(self, text: str) -> None:
        """Waits until a text is shown."""
        await self.page.get_by_text(text, exact=False).first.wait_for(timeout=5000)


@pytest.fixture
async def ui(store_url: str) -> AsyncIterator[Ui]:
    """A tab of a browser that knows the password."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium in PATH")
    api = pytest.importorskip("playwright.async_api")
    async with site(store_url) as web, api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        context = await browser.new_context(
            http_credentials={"username": USER, "password": PASSWORD}, viewport={"width": 1280, "height": 900}
        )
        made = Ui(await context.new_page(), web)
        made.page.on("console", lambda message: _note(made, message.type, message.text))
        made.page.on("pageerror", lambda error: _note(made, "error", str(error)))
        try:
            yield made
        finally:
            await browser.close()


def _note(ui: Ui, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        ui.complaints.append(text)
