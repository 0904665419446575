"""Posts WhatsApp's webhooks to the business, signed, and repeats them until they are accepted."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from typing import Any

import aiohttp

from crmd.sandbox.settings import SandboxSettings

ANSWER_SECONDS = 10.0
AT_ONCE = 8
VERIFY_AGAIN_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
MAX_ATTEMPTS = 20
"""Meta keeps trying for up to 7 days; a sandbox does not live that long."""

_log = logging.getLogger(__name__)


class Callback:
    """The business's webhook. Nothing is posted before it has proved itself by the verify token."""

    def __init__(self, settings: SandboxSettings, on_change: Callable[[], None] = lambda: None) -> None:
        self.url = settings.callback_url
        self.delivered = 0
        self.refused = 0
        """Posts that were not answered with 200."""
        self.verified = asyncio.Event()
        self.state = "off" if self.url is None else "waiting for the callback to answer"
        self._settings = settings
        self._changed = on_change
        self._session: aiohttp.ClientSession | None = None
        self._verifying: asyncio.Task[None] | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def start(self) -> None:
        """Begins to verify the callback."""
        if self._session is None and self.url is not None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
            self._verifying = asyncio.create_task(self._verify(), name="verify callback")

    async def stop(self) -> None:
        """Closes all connections. Idempotent, also before start."""
        if self._verifying:
            self._verifying.cancel()
            await asyncio.wait([self._verifying])
            self._verifying = None
        if self._session:
            await self._session.close()
            self._session = None

    async def deliver(self, value: dict[str, Any], *, name: str = "messages") -> bool:
        """Posts one change of the number, in the field of that name; says whether it was taken in the end."""
        if self.url is None:
            return False
        await self.verified.wait()
        raw = json.dumps(self._envelope(value, name), separators=(",", ":"), ensure_ascii=False).encode()
        pause = FIRST_PAUSE_SECONDS
        for _ in range(MAX_ATTEMPTS):
            async with self._slots:
                taken = await self._post(raw)
            if taken:
                self.delivered += 1
                return True
            self.refused += 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        return False

    def _envelope(self, value: dict[str, Any], name: str) -> dict[str, Any]:
        settings = self._settings
        metadata = {
            "display_phone_number": settings.display_phone_number,
            "phone_number_id": settings.phone_number_id,
        }
        whole = {"messaging_product": "whatsapp", "metadata": metadata, **value}
        change = {"value": whole, "field": name}
        return {
            "object": "whatsapp_business_account",
            "entry": [{"id": settings.account_id, "changes": [change]}],
        }

    async def _post(self, raw: bytes) -> bool:
        signature = hmac.new(self._settings.app_secret.encode(), raw, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", "X-Hub-Signature-256": f"sha256={signature}"}
        if self._session is None or self.url is None:
            return False
        try:
            async with self._session.post(self.url, data=raw, headers=headers) as response:
                taken = response.status == 200
                self._say("takes webhooks" if taken else f"answered {response.status} to a webhook")
                return taken
        except (aiohttp.ClientError, TimeoutError) as error:
            self._say(f"does not answer: {type(error).__name__}")
            return False

    def _say(self, state: str) -> None:
        if state != self.state:
            self.state = state
            self._changed()

    async def _verify(self) -> None:
        """As when a webhook is registered at Meta: the callback has to repeat a challenge."""
        while not self.verified.is_set():
            problem = await self._challenge()
            if problem is None:
                self._say("verified")
                self.verified.set()
                _log.info("the callback is verified; webhooks go to %s", self.url)
                return
            if problem != self.state:
                _log.info("the callback %s; trying again each second", problem)
            self._say(problem)
            await asyncio.sleep(VERIFY_AGAIN_SECONDS)

    async def _challenge(self) -> str | None:
        """None where the callback proved itself, else why not."""
        challenge = secrets.token_hex(8)
        query = {
            "hub.mode": "subscribe",
            "hub.challenge": challenge,
            "hub.verify_token": self._settings.verify_token,
        }
        if self._session is None or self.url is None:
            return "is closed"
        try:
            async with self._session.get(self.url, params=query) as response:
                text = (await response.content.read(1000)).decode("utf-8", "replace")
                if response.status != 200:
                    return f"answered {response.status} to the verification"
                return None if text == challenge else "did not repeat the challenge"
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"does not answer: {type(error).__name__}"
