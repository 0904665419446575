"""Webhooks as in Standard Webhooks: signed posts to URLs that users gave, and never to internal addresses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from aiohttp.abc import AbstractResolver
from pydantic import SecretStr
from standardwebhooks import Webhook
from yarl import URL

from crmd.config.tables import EndpointTable
from crmd.config.values import signing_key
from crmd.crm.outbound.addresses import AddressPolicy, Network, parse_target
from crmd.crm.outbound.http import SNIPPET_BYTES, Answer, Exchange, HttpClient, retry_after_seconds

DELIVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that the configuration names."""

    name: str
    url: URL
    signer: Webhook | None
    """None where neither the endpoint nor `[webhook]` has a secret."""
    events: tuple[str, ...]

    @property
    def host(self) -> str | None:
        """The host of its URL."""
        return self.url.host

    def wants(self, event: str) -> bool:
        """Whether it gets events of that name; `message.*` are all that begin so."""
        return not self.events or any(fnmatchcase(event, pattern) for pattern in self.events)


class WebhookClient:
    """Signs and posts webhooks; raises ValueError for a secret that cannot work.

    It connects only to public addresses and those in `allow_private`, and follows no redirect.
    `timeout_seconds` is the longest wait for one answer, `snippet_bytes` what handlers keep of it. An endpoint
    that failed for `disable_after_seconds`, without a success, is to get no more events; None: never.
    """

    def __init__(
        self,
        *,
        secret: SecretStr,
        endpoints: Mapping[str, EndpointTable] | None = None,
        disable_after_seconds: float | None = None,
        allow_private: Iterable[Network | str] = (),
        timeout_seconds: float = DELIVERY_SECONDS,
        snippet_bytes: int = SNIPPET_BYTES,
        resolver: AbstractResolver | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self.snippet_bytes = snippet_bytes
        self.disable_after_seconds = disable_after_seconds
        self._signer = _signer(secret.get_secret_value(), "webhook.secret")
        self.endpoints = {name: self._endpoint(name, table) for name, table in (endpoints or {}).items()}
        """By name."""
        self._http = HttpClient(policy=AddressPolicy(allow_private), resolver=resolver)
        self._clock = clock

    def can_sign(self, to: URL | Endpoint) -> bool:
        """Whether there is a secret to sign with."""
        return (to.signer if isinstance(to, Endpoint) else self._signer) is not None

    async def start(self) -> None:
        """Makes ready to post; idempotent."""
        await self._http.start()

    async def stop(self) -> None:
        """Closes all connections; idempotent, also before start."""
        await self._http.stop()

    async def post(
        self,
        to: URL | Endpoint,
        *,
        message_id: str,
        body: str,
        headers: Mapping[str, str],
        timeout_seconds: float,
    ) -> Exchange:
        """Signs the body with the present time and posts it; raises RuntimeError where there is no secret."""
        url, signer = (to.url, to.signer) if isinstance(to, Endpoint) else (to, self._signer)
        if signer is None:
            raise RuntimeError("webhook.secret is not set")
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        signed = {
            **headers,
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": signer.sign(message_id, now, body),
        }
        return await self._http.post(url, body=body.encode(), headers=signed, timeout_seconds=timeout_seconds)

    def retry_after_seconds(self, answer: Answer) -> float | None:
        """What `Retry-After` asks for; see `crmd.crm.outbound.http`."""
        return retry_after_seconds(answer, self._clock())

    def _endpoint(self, name: str, table: EndpointTable) -> Endpoint:
        key = f"webhook.endpoints.{name}"
        try:
            url = parse_target(table.url)
        except ValueError as error:
            raise ValueError(f"{key}.url {error}") from None
        signer = _signer(table.secret.get_secret_value(), f"{key}.secret") or self._signer
        return Endpoint(name, url, signer, table.events)


def _signer(secret: str, name: str) -> Webhook | None:
    if not secret:
        return None
    try:
        return Webhook(signing_key(secret))
    except ValueError as error:
        raise ValueError(f"{name} {error}") from None
