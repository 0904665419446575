"""The queues as this daemon serves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from crmd.engine.settings import QueueSettings
from crmd.errors import UnknownQueue
from crmd.jobs import Catalog


@dataclass(slots=True)
class ServedQueues:
    """Settings and jobs of all queues, and why this daemon does not run some. A reload sets other values."""

    settings: Mapping[str, QueueSettings]
    catalog: Catalog
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where each configured value was found, by dotted key."""
    run_elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs only other daemons run, and why."""
    unconfigured: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs begin and wait, as their service is not configured, and what is not set."""
    degraded: Callable[[], Mapping[str, str]] = dict
    """Gives the queues whose jobs this daemon cannot run now, and why."""

    def named(self, request: web.Request) -> str:
        """The queue that a request's path names; raises UnknownQueue that lists the names."""
        queue = request.match_info["queue"]
        if queue not in self.settings:
            raise UnknownQueue(f'no queue "{queue}"; there are: {", ".join(self.settings)}')
        return queue

    def held(self, queue: str) -> str | None:
        """Why a queue's jobs are not done here; None where they are."""
        return self.run_elsewhere.get(queue) or self.unconfigured.get(queue)
