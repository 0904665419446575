"""What the workers of one daemon share."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from crmd.engine.admin.control import Control
from crmd.engine.store.client import Store
from crmd.engine.worker.isolation import CrashLoopIsolation
from crmd.engine.worker.threads import HandlerThreads
from crmd.jobs import Catalog
from crmd.telemetry.events import Events


@dataclass(slots=True)
class Clock:
    """The daemon's two clocks."""

    now: Callable[[], float] = time.time
    """Epoch seconds."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that no correction of the time moves."""


class LeaseTokens:
    """Names the claims of one daemon: each lease bears the claim that made it."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self._claims = itertools.count()

    def next(self) -> str:
        """A token that no other claim has."""
        return f"{self.instance_id}:{next(self._claims)}"


@dataclass(slots=True)
class WorkerContext:
    """What a worker is made of, besides its queue's settings. Each part gets what it uses of it."""

    store: Store
    control: Control
    instance_id: str
    """This life of the daemon: its leases bear it."""
    catalog: Catalog
    events: Events
    threads: HandlerThreads
    """Runs sync handlers."""
    resources: Mapping[type, Any] = field(default_factory=dict)
    """Clients that handlers ask for by their class."""
    isolation: CrashLoopIsolation = field(default_factory=CrashLoopIsolation)
    clock: Clock = field(default_factory=Clock)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("crmd.jobs"))
    tokens: LeaseTokens = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = LeaseTokens(self.instance_id)
