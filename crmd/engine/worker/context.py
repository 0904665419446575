"""What the workers of one daemon share."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from crmd.engine.admin.control import Control
from crmd.engine.store.client import Store
from crmd.engine.worker.isolation import CrashLoopIsolation
from crmd.engine.worker.threads import HandlerThreads
from crmd.telemetry.events import Events


@dataclass(slots=True)
class Clock:
    """The daemon's two clocks."""

    now: Callable[[], float] = time.time
    """Epoch seconds."""
    monotonic: Callable[[], float] = time.monotonic
    """Seconds that no correction of the time moves."""


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What the workers of a pool share for its whole life.

    A worker is built from it and does not keep it: each of its parts gets what it uses.
    """

    store: Store
    control: Control
    instance_id: str
    """This life of the daemon: its leases bear it."""
    tokens: Iterator[str]
    """Those of `claim_tokens`."""
    events: Events
    threads: HandlerThreads
    """Runs sync handlers."""
    isolation: CrashLoopIsolation = field(default_factory=CrashLoopIsolation)
    clock: Clock = field(default_factory=Clock)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("crmd.jobs"))


def claim_tokens(instance_id: str) -> Iterator[str]:
    """Names for claims, no two alike: a lease bears that of the claim which made it."""
    return map(f"{instance_id}:{{}}".format, itertools.count())
