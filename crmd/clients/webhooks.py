"""Webhooks in the manner of Standard Webhooks: signed posts to URLs that users gave, and nowhere inside."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiohttp.abc import AbstractResolver
from pydantic import SecretStr
from standardwebhooks import Webhook
from yarl import URL

from crmd.clients.addresses import AddressPolicy, Network
from crmd.clients.http import SNIPPET_BYTES, Answer, Exchange, HttpClient

DELIVERY_SECONDS = 10.0
MAX_RETRY_AFTER_SECONDS = 3600.0
MAX_URL_LENGTH = 2048
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")


class WebhookClient:
    """Signs and posts webhooks; raises ValueError for a secret that cannot work.

    It connects only to public addresses and those in `allow_private`, and follows no redirect.
    `timeout_seconds` is the longest wait for one answer, `snippet_bytes` what handlers keep of it.
    """

    def __init__(
        self,
        *,
        secret: SecretStr,
        allow_private: Iterable[Network | str] = (),
        timeout_seconds: float = DELIVERY_SECONDS,
        snippet_bytes: int = SNIPPET_BYTES,
        resolver: AbstractResolver | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.snippet_bytes = snippet_bytes
        self._signer = _signer(secret.get_secret_value())
        self._http = HttpClient(policy=AddressPolicy(allow_private), resolver=resolver)
        self._clock = clock

    @property
    def configured(self) -> bool:
        """Whether there is a secret to sign with."""
        return self._signer is not None

    async def start(self) -> None:
        """Makes ready to post; starting twice is fine."""
        await self._http.start()

    async def stop(self) -> None:
        """Closes all connections; stopping twice, or before starting, is fine."""
        await self._http.stop()

    async def post(
        self, url: URL, *, message_id: str, body: str, headers: Mapping[str, str], timeout_seconds: float
    ) -> Exchange:
        """Signs the body with the present time and posts it."""
        if self._signer is None:
            raise RuntimeError("webhook.secret is not set")
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        signed = {
            **headers,
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(message_id, now, body),
        }
        return await self._http.post(url, body=body.encode(), headers=signed, timeout_seconds=timeout_seconds)

    def retry_after_seconds(self, answer: Answer) -> float | None:
        """What `Retry-After` asks for, in seconds or as a date; at most MAX_RETRY_AFTER_SECONDS."""
        text = answer.headers.get("Retry-After", "").strip()
        if text.isdecimal():
            return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
        try:
            at = parsedate_to_datetime(text)
        except ValueError:
            return None
        at = at if at.tzinfo else at.replace(tzinfo=UTC)
        return min(max(at.timestamp() - self._clock(), 0.0), MAX_RETRY_AFTER_SECONDS)


def parse_target(text: str) -> URL:
    """A URL that may be posted to; raises ValueError that says what is wrong with it.

    Addresses are checked when connecting, not here.
    """
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"must have at most {MAX_URL_LENGTH} characters")
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in text):
        raise ValueError("must not contain spaces, control characters or backslashes")
    try:
        url = URL(text)
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("must begin with https:// or http://")
    if "@" in text.split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]:
        raise ValueError("must not contain a user or password; use the header Authorization")
    if not url.raw_host or not _HOST.fullmatch(url.raw_host) or not url.port:
        raise ValueError("has no valid host and port")
    return url


def _signer(secret: str) -> Webhook | None:
    if not secret:
        return None
    text = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError('webhook.secret must be "whsec_" and base64; make one with: openssl rand -base64 32')
    return Webhook(key)
