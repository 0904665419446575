"""What phase of its life the daemon is in."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Life:
    """The daemon writes it, HTTP only reads it."""

    version: str
    state: Literal["starting", "running", "draining"] = "starting"
    reason: str | None = None
    """Why, in words for a person; None where the state says it all."""
    started_at: float = field(default_factory=time.monotonic)
    """On `time.monotonic()`."""

    def uptime_seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_at
