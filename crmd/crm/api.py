"""What the features' routes are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from crmd.config.tables import EndpointTable, WhatsAppTable
from crmd.engine.admin.control import Control
from crmd.http.peers import Peers
from crmd.telemetry.metrics import Metrics

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ApiParts:
    """The parts of the daemon that routes of features use."""

    control: Control
    clients: Mapping[type, Any]
    """The database and what else handlers get, by class."""
    endpoints: Callable[[], Mapping[str, EndpointTable]]
    """Returns the configured webhook endpoints, which a reload may change."""
    whatsapp: Callable[[], WhatsAppTable]
    """Returns the current secrets and rate, which a reload may change."""
    metrics: Metrics
    peers: Peers
    prefix: str
    """Of all paths."""

    def get(self, kind: type[T]) -> T:
        """A shared client by its class."""
        return cast(T, self.clients[kind])
