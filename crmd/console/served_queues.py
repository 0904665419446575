"""The queues as this daemon serves them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aiohttp import web

from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.errors import UnknownQueue
from crmd.jobs import Catalog


@dataclass(slots=True)
class ServedQueues:
    """Settings and jobs of all queues, and why this daemon does not run some. A reload replaces the values."""

    registry: SettingsRegistry
    catalog: Catalog
    sources: Mapping[str, str] = field(default_factory=dict)
    """The source of each configured value, by dotted key."""
    run_elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs only other daemons run, and why."""
    unconfigured: Mapping[str, str] = field(default_factory=dict)
    """Queues whose jobs start and wait because a service is not configured, and the missing setting."""
    degraded: Callable[[], Mapping[str, str]] = dict
    """Returns the queues whose jobs this daemon cannot run now, and why."""

    @property
    def settings(self) -> Mapping[str, QueueSettings]:
        """The settings in force, by queue."""
        return self.registry.queues

    def configure(
        self,
        catalog: Catalog,
        sources: Mapping[str, str],
        run_elsewhere: Mapping[str, str],
        unconfigured: Mapping[str, str],
    ) -> None:
        """Applies what a reload read, beside the registry's settings."""
        self.catalog, self.sources = catalog, sources
        self.run_elsewhere, self.unconfigured = run_elsewhere, unconfigured

    def named(self, request: web.Request) -> str:
        """The queue that a request's path names; raises UnknownQueue that lists the names."""
        queue = request.match_info["queue"]
        if queue not in self.settings:
            raise UnknownQueue(f'no queue "{queue}"; there are: {", ".join(self.settings)}')
        return queue

    def held(self, queue: str) -> str | None:
        """Why this daemon does not run a queue's jobs; None if it does."""
        return self.run_elsewhere.get(queue) or self.unconfigured.get(queue)
