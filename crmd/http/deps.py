"""What the HTTP side is given: the parts of the daemon it shows and steers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from crmd.config.tables import WhatsAppTable
from crmd.engine.settings import QueueSettings
from crmd.jobs import Catalog

if TYPE_CHECKING:
    from crmd.config.service_tables import EndpointTable
    from crmd.crm.database.database import Records
    from crmd.crm.files.store import FileStore
    from crmd.engine.admin.control import Control
    from crmd.engine.admin.inspector import Inspector
    from crmd.engine.admin.schedules import Schedules
    from crmd.engine.store.client import Store
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


@dataclass(slots=True)
class WebDeps:
    """The daemon's parts. Each request reads them again, so that a reload may replace them."""

    store: Store
    inspector: Inspector
    control: Control
    catalog: Catalog
    queues: Mapping[str, QueueSettings]
    life: Life
    metrics: Metrics
    records: Records
    files: FileStore
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each configured value was found, by dotted key."""
    held: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs this daemon does not run, as others do."""
    unconfigured: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs begin and wait, as their service is not configured, and what is not set."""
    endpoints: Mapping[str, EndpointTable] = field(default_factory=dict)
    """The webhook endpoints of the configuration, by name."""
    degraded: Callable[[], Mapping[str, str]] = dict
    """Gives the queues whose jobs this daemon cannot run now, and why."""
    whatsapp: WhatsAppTable = field(default_factory=WhatsAppTable)
    """Secrets of what WhatsApp sends."""
    schedules: Schedules | None = None
    """The schedules of the configuration; None where there are none."""

    def why_held(self, queue: str) -> str | None:
        """Why a queue's jobs are not done here; None where they are."""
        return self.held.get(queue) or self.unconfigured.get(queue)
