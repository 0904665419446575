"""Executions of jobs without a worker, for tests of what decides about them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.codec import encode
from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.worker.acks import AckBuffer
from crmd.engine.worker.background import BackgroundTasks
from crmd.engine.worker.context import Clock
from crmd.engine.worker.execution import Execution
from crmd.engine.worker.executor import Executor, ExecutorParts
from crmd.engine.worker.threads import HandlerThreads
from crmd.jobs import Catalog


def make_execution(**fields: Any) -> Execution:
    """A first attempt of three, on a job with an empty payload."""
    kwargs = fields.pop("kwargs", {})
    data = {"function": "work", "kwargs": kwargs, **fields.pop("data", {})}
    given: dict[str, Any] = {
        "queue": "q",
        "job_id": "saq:job:q:k",
        "key": "k",
        "token": "d:1",
        "document": encode(data),
        "seen": data,
        "name": "work",
        "attempt": 1,
        "attempts": 3,
        "crash_count": 0,
        "timeout": 60.0,
        "started_ms": 1_800_000_000_000,
        "started_at": 0.0,
    }
    return Execution(**(given | fields))


def make_executor(monotonic: Callable[[], float]) -> Executor:
    """An executor that holds nothing, on a queue that nobody connects to."""
    store = Store(StoreTarget("redis://localhost:1"))
    settings, clock = QueueSettings("q"), Clock(monotonic=monotonic)
    inspector = Inspector(store, SettingsRegistry({"q": settings}))
    parts = ExecutorParts(
        scripts=inspector.queue("q"),
        control=Control(store, inspector),
        clock=clock,
        events=store.events,
        acks=AckBuffer(monotonic),
        threads=HandlerThreads(1),
        background=BackgroundTasks(),
        plain_context=lambda _: {},
        ended=asyncio.Event(),
        report=lambda _: None,
        instance_id="d",
        log=logging.getLogger("crmd.tests"),
    )
    return Executor(settings, Catalog(), {}, parts)
