"""The sandbox's page in a real browser: what arrives shows by itself, and a person steers the stand-ins."""

from __future__ import annotations

import re
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.sandbox.conftest import ANN, BOB, SandboxHarness, started
from tests.support.wait import wait_until
from tests.ui.conftest import ARGUMENTS

pytestmark = pytest.mark.ui


@dataclass
class SandboxPage:
    """The page, and the sandbox behind it."""

    page: Any
    harness: SandboxHarness
    complaints: list[str] = field(default_factory=list)

    async def row(self, *texts: str) -> Any:
        """The row that shows all these texts, once there is one."""
        found = self.page.locator("tr.entry")
        for text in texts:
            found = found.filter(has_text=text)
        await found.first.wait_for(timeout=5000)
        return found.first


@pytest.fixture
async def sandbox() -> AsyncIterator[SandboxPage]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no chromium in PATH")
    api = pytest.importorskip("playwright.async_api")
    async with started() as harness, api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        made = SandboxPage(page, harness)
        page.on("console", lambda message: _note(made, message.type, message.text))
        page.on("pageerror", lambda error: made.complaints.append(str(error)))
        await page.goto(harness.url)
        await page.get_by_text("live", exact=True).wait_for(timeout=5000)
        try:
            yield made
            assert made.complaints == []
        finally:
            await browser.close()


def _note(sandbox: SandboxPage, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        sandbox.complaints.append(text)


async def test_the_page_shows_what_arrives_and_steers_the_stand_ins(sandbox: SandboxPage) -> None:
    """One browser for all of it, as that takes the longest."""
    await sandbox.page.get_by_text("No messages yet.").wait_for(timeout=5000)
    await sandbox.harness.send(biz_opaque_callback_data="job-1", text={"body": "<b>hello</b> & welcome"})
    row = await sandbox.row(ANN, "<b>hello</b> & welcome", "read")
    await row.click()
    await sandbox.page.get_by_text("job-1").wait_for(timeout=5000)
    assert await sandbox.page.locator("tbody b").count() == 0, "text is shown, not run"
    sandbox.harness.clock.now += 1
    await sandbox.harness.admin("POST", "/faults", {"kind": "error", "code": 131026})
    await sandbox.harness.send(BOB)
    await sandbox.row(BOB, "refused 131026")
    assert await sandbox.page.locator(".tile", has_text="refused").inner_text() == "1\nrefused"
    await sandbox.page.reload()
    await sandbox.row(ANN, "read")
    await sandbox.page.get_by_label("Filter what is shown").fill("welcome")
    assert await sandbox.page.locator("tr.entry").count() == 1
    await sandbox.page.get_by_label("Filter what is shown").fill("")
    await sandbox.page.get_by_text("Clear all").click()
    await sandbox.page.get_by_text("No messages yet.").wait_for(timeout=5000)
    await person(sandbox)
    await tabs(sandbox)


async def person(sandbox: SandboxPage) -> None:
    """Writes as a user, and makes something go wrong."""
    page = sandbox.page
    await page.get_by_label("From", exact=True).fill(ANN)
    await page.get_by_label("Message", exact=True).fill("Does it come in blue?")
    await page.get_by_role("button", name="Send").click()
    await wait_until(lambda: [message["text"]["body"] for message in sandbox.harness.business.inbound])
    await page.get_by_role("tab", name="From users").click()
    await sandbox.row(ANN, "Does it come in blue?", "delivered")
    await page.locator("select[name=kind]").select_option("drop")
    assert not await page.locator("input[name=code]").is_visible()
    await page.locator("input[name=times]").fill("3")
    await page.get_by_role("button", name="For the next requests").click()
    await page.get_by_text("whatsapp drop").wait_for(timeout=5000)
    [fault] = sandbox.harness.sandbox.faults.pending()
    assert (fault["kind"], fault["times"]) == ("drop", 3)
    await page.get_by_role("button", name="No more faults").click()
    await wait_until(lambda: not sandbox.harness.sandbox.faults.pending())
    await page.get_by_text("whatsapp drop").wait_for(state="detached", timeout=5000)


async def tabs(sandbox: SandboxPage) -> None:
    """Looks at what else arrived."""
    harness = sandbox.harness
    body = {"model": "m", "messages": [{"role": "user", "content": "blue?"}]}
    await harness.call("POST", "/v1/chat/completions", json=body, headers={"Authorization": "Bearer sandbox-key"})
    await harness.call("POST", "/hooks/crm", json={"type": "contact.created"})
    await harness.call("POST", "/notify", json={"title": "Too old", "message": "waits", "type": "warning"})
    for tab, texts in {
        "AI": ("chat", "blue?"),
        "Webhooks": ("/hooks/crm", "contact.created", "does not fit"),
        "Notifications": ("Too old", "warning"),
    }.items():
        await sandbox.page.get_by_role("tab", name=re.compile(f"^{tab}")).click()
        await sandbox.row(*texts)
    assert await sandbox.page.evaluate("location.hash") == "#notice"
    sandbox.complaints[:] = [text for text in sandbox.complaints if "401" not in text]
