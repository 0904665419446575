"""How many of a campaign's messages may wait in the queue: enough to keep it busy, few enough to let others in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

FIRST_AHEAD = 500
LEAST_AHEAD = 200
MOST_AHEAD = 5_000
AHEAD_SECONDS = 30.0
"""So much work is kept in the queue, by the pace seen last."""
STALLED_SECONDS = 600.0
"""Where none of the campaign's messages began for so long, those that wait may be gone: a few more are added."""
PROBE = 100
SHORTEST_LOOK_SECONDS = 1.0
LONGEST_LOOK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class SendProgress:
    """Where a campaign's sending is."""

    message_id: int
    """Of the campaign's newest message; 0 where there is none."""
    ahead: int
    """Recipients that were queued behind all those whose messages were begun."""
    begun: int
    """Messages begun since the one that was asked for."""
    recipient_id: int = 0
    """The last recipient whose message was begun; 0 for none."""


@dataclass(frozen=True, slots=True)
class Backpressure:
    """How many messages may wait, by the pace seen last; kept with the campaign's progress."""

    looked_at: datetime
    message_id: int
    """The campaign's newest message then."""
    per_second: float
    """Messages begun."""
    ahead: int
    """How many may wait."""

    @classmethod
    def first(cls, now: datetime) -> Backpressure:
        """Before anything was seen."""
        return cls(now, 0, 0.0, FIRST_AHEAD)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Backpressure:
        """What was kept."""
        return cls(datetime.fromisoformat(kept["at"]), kept["message"], kept["per_second"], kept["ahead"])

    def to_json(self) -> dict[str, Any]:
        """What is kept."""
        return {
            "at": self.looked_at.isoformat(),
            "message": self.message_id,
            "per_second": round(self.per_second, 3),
            "ahead": self.ahead,
        }

    def seen(self, progress: SendProgress, now: datetime) -> Backpressure:
        """After a look; itself where too little happened to say."""
        seconds = (now - self.looked_at).total_seconds()
        if progress.begun and seconds >= SHORTEST_LOOK_SECONDS:
            per_second = progress.begun / seconds
            ahead = min(max(round(per_second * AHEAD_SECONDS), LEAST_AHEAD), MOST_AHEAD)
            return Backpressure(now, progress.message_id, per_second, ahead)
        if not progress.begun and seconds >= STALLED_SECONDS:
            return Backpressure(now, progress.message_id, 0.0, min(progress.ahead, MOST_AHEAD) + PROBE)
        return self

    def look_seconds(self, progress: SendProgress, now: datetime) -> float:
        """When to look again: once about half of what waits has begun; the later the longer nothing began."""
        seconds = (now - self.looked_at).total_seconds() / 4
        if self.per_second:
            seconds = progress.ahead / self.per_second / 2
        return min(max(seconds, SHORTEST_LOOK_SECONDS), LONGEST_LOOK_SECONDS)


def times(count: int, next_at: datetime | None, seconds_each: float, now: datetime) -> list[datetime | None]:
    """When each of the next messages of a campaign with a rate of its own starts; fewer where that is far off.

    Without a rate they start as soon as they can.
    """
    if not seconds_each:
        return [None] * count
    start = max(next_at or now, now)
    found: list[datetime | None] = []
    while len(found) < count and start <= now + timedelta(seconds=AHEAD_SECONDS):
        found.append(start)
        start += timedelta(seconds=seconds_each)
    return found
