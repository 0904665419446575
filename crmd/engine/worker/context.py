"""What the workers of one daemon share."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crmd.engine.admin.control import Control
from crmd.engine.maintenance.heartbeat import identity_prefix
from crmd.engine.store.client import Store
from crmd.engine.worker.isolation import SoloGate
from crmd.engine.worker.threads import HandlerThreads
from crmd.jobs import Catalog
from crmd.telemetry.events import Events


@dataclass(slots=True)
class Engine:
    """The store, the clocks, what handlers can reach, and the daemon's name in leases."""

    store: Store
    control: Control
    epoch: str
    """This life of the daemon: its leases bear it."""
    identity: str
    """Of the state folder; epochs before ours begin with it too."""
    catalog: Catalog
    events: Events
    threads: HandlerThreads
    """Runs sync handlers."""
    resources: Mapping[type, Any] = field(default_factory=dict)
    """Clients that handlers ask for by their class."""
    gate: SoloGate = field(default_factory=SoloGate)
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("crmd.jobs"))
    leaked: int = 0
    """Async handlers that ignored being cancelled and still run."""
    _claims: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def identity_prefix(self) -> str:
        """What the epochs of this state folder begin with."""
        return identity_prefix(self.identity)

    def next_token(self) -> str:
        """A lease token that no other claim has."""
        return f"{self.epoch}:{next(self._claims)}"
