"""The phase of life that the daemon is in."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Life:
    """Written by the daemon; HTTP only reads it."""

    version: str
    state: Literal["starting", "running", "draining"] = "starting"
    reason: str | None = None
    """Why, in words for people; None if the state says enough."""
    started_at: float = field(default_factory=time.monotonic)
    """On `time.monotonic()`."""

    def uptime_seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started_at
