"""The features' clients, loaded only in a daemon that needs them."""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from crmd.config.load import Loaded
from crmd.crm import features
from crmd.engine.admin.inspector import Inspector
from crmd.engine.single_flight import SingleFlight
from crmd.engine.store.client import Store
from crmd.errors import RecordsUnusable
from crmd.telemetry.events import Events

if TYPE_CHECKING:  # SQLAlchemy and all features: some 25 MiB
    from crmd.crm.messages.reconciler import MessageReconciler
    from crmd.daemon.resources import Resources

TABLES = frozenset({"ai", "database", "files", "notify", "smtp", "webhook", "whatsapp"})
"""Whoever configures one of these has its mistakes told at the start, whatever queues the daemon runs."""
_FEATURE = re.compile(r"crmd\.crm\.(?!notifications\.(alerts|payloads|client)$)\w+\.")

_log = logging.getLogger("crmd")


def need_features(loaded: Loaded, queues: Iterable[str]) -> bool:
    """Whether a daemon that runs these queues has a use for the features' clients from its start.

    It has where a queue is a feature's, where something of theirs is configured, or where a handler that was
    imported asks for such a client.
    """
    return (
        not features.queues().isdisjoint(queues)
        or any(source != "default" and key.partition(".")[0] in TABLES for key, source in loaded.sources.items())
        or any(map(_FEATURE.match, sys.modules))
    )


class LateResources:
    """The clients that handlers and the features' routes get, and what holds messages against their jobs.

    Where the daemon does not need them at its start they are made and opened when a route of theirs is asked for.
    """

    def __init__(self, store: Store, inspector: Inspector, events: Events) -> None:
        self._store = store
        self._inspector = inspector
        self._events = events
        self._loaded: Loaded | None = None
        self._resources: Resources | None = None
        self._reconciler: MessageReconciler | None = None
        self._clients: Mapping[type, Any] = {Inspector: inspector}
        self._opening = SingleFlight[None, None]()

    async def configure(self, loaded: Loaded, *, needed: bool) -> Mapping[type, Any]:
        """The clients for handlers by class, those of features only where they are needed. Raises ConfigError."""
        if needed or self._resources is not None:
            await _import()
            self._make(loaded)
        self._loaded = loaded
        return self._clients

    async def start(self) -> None:
        """Opens what is made and not open yet. Raises RecordsUnusable."""
        if self._resources is not None and self._reconciler is not None:
            await self._resources.start()
            await self._reconciler.start()

    async def stop(self) -> None:
        """Closes all. Idempotent."""
        await self._opening.stop()
        if self._resources is not None and self._reconciler is not None:
            await self._reconciler.stop()
            await self._resources.stop()

    async def for_routes(self) -> Mapping[type, Any]:
        """The clients by class, made and opened now where the start had no use for them."""
        if self._resources is None:
            await self._opening.run(None, self._open)
        return self._clients

    async def _open(self) -> None:
        await _import()
        if self._loaded is not None:
            self._make(self._loaded)
        try:
            await self.start()
        except RecordsUnusable as error:  # the routes say so
            _log.error("%s", error)

    def _make(self, loaded: Loaded) -> None:
        from crmd.crm.database.database import Database
        from crmd.crm.messages.reconciler import MessageReconciler
        from crmd.crm.messages.unknown_jobs import UnknownJobs
        from crmd.daemon.resources import Resources

        unknown_jobs = UnknownJobs(self._inspector)
        resources = self._resources or Resources(self._store, [self._inspector, unknown_jobs])
        self._clients = clients = resources.make(loaded)
        self._resources = resources
        self._reconciler = self._reconciler or MessageReconciler(
            clients[Database], self._inspector, unknown_jobs, self._events
        )


async def _import() -> None:
    """In a thread: it takes half a second."""
    await asyncio.to_thread(importlib.import_module, "crmd.daemon.resources")
