"""What the workers of one daemon share."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
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
    tokens: Iterator[str] = field(init=False)
    """Names for claims, no two alike: a lease bears that of the claim which made it."""

    def __post_init__(self) -> None:
        self.tokens = map(f"{self.instance_id}:{{}}".format, itertools.count())
