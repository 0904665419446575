"""What the HTTP side is given: its settings, and the parts of the daemon it shows and steers."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from crmd.config.queue import QueueSettings
from crmd.job import Catalog

if TYPE_CHECKING:
    from crmd.queues.control import Control
    from crmd.queues.inspector import Inspector
    from crmd.queues.queue import CrmQueue
    from crmd.store.client import Store
    from crmd.telemetry.metrics import Metrics


@dataclass(slots=True)
class Life:
    """What phase of its life the daemon is in. The daemon writes it, HTTP only reads it."""

    version: str
    state: Literal["starting", "running", "draining"] = "starting"
    reason: str | None = None
    """Why, in words for a person; None where the state says it all."""
    started_at: float = field(default_factory=time.monotonic)
    """On `time.monotonic()`."""

    @property
    def uptime_seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_at


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """The table `[http]`."""

    host: str = "127.0.0.1"
    port: int = 8080
    """0 takes any free port."""
    base_path: str = ""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose X-Forwarded-For is believed."""
    allowed_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenGrant:
    """One table `[auth.tokens.NAME]`."""

    sha256: str
    """Hexadecimal digest of the token's UTF-8 bytes."""
    scopes: frozenset[str] = frozenset()
    """Of enqueue, read, operate."""
    queues: frozenset[str] | None = None
    """The queues it is good for; None for all."""


@dataclass(frozen=True, slots=True)
class AuthOptions:
    """The table `[auth]`, with the password in force."""

    username: str
    password: str = field(repr=False)
    public_metrics: bool = False
    tokens: Mapping[str, TokenGrant] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WebDeps:
    """The daemon's parts. Mappings are read anew by each request, so that a reload may change them in place."""

    store: Store
    inspector: Inspector
    control: Control
    catalog: Catalog
    queues: Mapping[str, QueueSettings]
    saq_queues: Mapping[str, CrmQueue]
    life: Life
    metrics: Metrics
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each configured value was found, by dotted key."""
    served: Collection[str] | None = None
    """Queues whose jobs this daemon runs, and whose stalls are its own; None for all."""
