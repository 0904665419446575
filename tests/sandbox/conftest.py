"""A sandbox on free ports, the business it calls back, and a phone that writes to the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from crmd.sandbox.server import Sandbox
from crmd.sandbox.settings import SandboxSettings
from tests.support.business import Business
from tests.support.cli import cli

__all__ = ["cli"]

ANN, BOB = "4915112345678", "33639980001"


@dataclass
class Clock:
    """Time that the test moves; starts at no round second."""

    now: float = 1_800_000_000.25

    def __call__(self) -> float:
        return self.now


@dataclass
class Answer:
    """An answer, read whole."""

    status: int
    json: Any


@dataclass
class SandboxHarness:
    """A started sandbox and what a test does with it."""

    sandbox: Sandbox
    business: Business
    clock: Clock
    session: aiohttp.ClientSession
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": "Bearer sandbox-token"})

    @property
    def url(self) -> str:
        return self.sandbox.addresses.url

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.url + path, **options) as response:
            return Answer(response.status, await response.json(content_type=None))

    async def post(self, message: dict[str, Any], **options: Any) -> Answer:
        """One call of the messages endpoint."""
        path = options.pop("path", "/v23.0/106540352242922/messages")
        options.setdefault("headers", self.headers)
        return await self.call("POST", path, json=message, **options)

    async def send(self, to: str = ANN, **fields: Any) -> Answer:
        """One text message."""
        message = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "hello"}}
        return await self.post(message | fields)

    async def admin(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """One call below /_sandbox."""
        return await self.call(method, f"/_sandbox{path}", json=body, **options)

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """What the journal keeps of a kind."""
        return [entry for entry in self.sandbox.journal.snapshot()["entries"] if entry["kind"] == kind]


Start = Callable[..., Awaitable[SandboxHarness]]


@asynccontextmanager
async def started(**settings: Any) -> AsyncIterator[SandboxHarness]:
    """A sandbox whose callback is a business, with statuses that come at once and no chance in them."""
    business, clock = Business(), Clock()
    await business.start()
    defaults: dict[str, Any] = {
        "port": 0,
        "smtp_port": 0,
        "callback_url": f"{business.url}/webhooks/whatsapp",
        "status_seconds": (0.0, 0.0, 0.0),
        "read_share": 1.0,
        "failed_share": 0.0,
    }
    sandbox = Sandbox(SandboxSettings(**(defaults | settings)), clock)
    await sandbox.start()
    try:
        async with aiohttp.ClientSession() as session:
            yield SandboxHarness(sandbox, business, clock, session)
    finally:
        await sandbox.stop()
        await business.stop()


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts sandboxes with settings of the test's own."""
    async with AsyncExitStack() as stack:

        async def make(**settings: Any) -> SandboxHarness:
            return await stack.enter_async_context(started(**settings))

        yield make


@pytest.fixture
async def harness(start: Start) -> SandboxHarness:
    """A sandbox as it is."""
    return await start()
