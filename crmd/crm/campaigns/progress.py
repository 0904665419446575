"""How far a campaign has got: one record, kept as JSON in the column `cursor` of its row.

Daemons of 0.1.0 read and write the same JSON beside ours, so that its names and meanings stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Dialect

from crmd.crm.database.types import Json

FIRST_AHEAD = 500
LEAST_AHEAD = 200
MOST_AHEAD = 5_000
AHEAD_SECONDS = 30.0
"""So much work is kept in the queue, by the pace seen last."""
STALLED_SECONDS = 600.0
"""Where none of the campaign's messages began for this long, those that wait may be gone: a few more are added."""
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
        """The limit of a campaign whose pace was not seen yet."""
        return cls(now, 0, 0.0, FIRST_AHEAD)

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Backpressure:
        """Reads what `to_json` made."""
        return cls(datetime.fromisoformat(kept["at"]), kept["message"], kept["per_second"], kept["ahead"])

    def to_json(self) -> dict[str, Any]:
        """As the campaign's progress keeps it."""
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


_PASSED = "passed"


@dataclass(frozen=True, slots=True)
class CampaignProgress:
    """How far a campaign is."""

    audience: int = 0
    """Up to where the audience was read: a row of the file, or the id of a contact."""
    round: int = 0
    """How often the campaign was resumed. Each round's messages have jobs under other keys."""
    canary_since: datetime | None = None
    """Since when all of the first messages are queued, and watched."""
    canary_passed: bool = False
    """Whether the first messages went well."""
    backpressure: Backpressure | None = None
    next_at: datetime | None = None
    """When the next message starts, where the campaign has a rate of its own."""
    others: Mapping[str, Any] = field(default_factory=dict)
    """What a newer crmd keeps beside."""

    def next_round(self) -> CampaignProgress:
        """After a pause: the first messages are watched again, unless they went well."""
        return replace(self, round=self.round + 1, canary_since=None, backpressure=None)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> CampaignProgress:
        """Reads what is kept; what is not there has not happened."""
        others = dict(kept)
        canary, backpressure = others.pop("canary", None), others.pop("pace", None)
        return cls(
            audience=int(others.pop("audience", 0)),
            round=int(others.pop("round", 0)),
            canary_since=None if canary == _PASSED else _instant(canary),
            canary_passed=canary == _PASSED,
            backpressure=backpressure and Backpressure.from_json(backpressure),
            next_at=_instant(others.pop("next_at", None)),
            others=others,
        )

    def to_json(self) -> dict[str, Any]:
        """What is kept: only what has happened."""
        kept = {
            "audience": self.audience,
            "round": self.round,
            "canary": _PASSED if self.canary_passed else self.canary_since and self.canary_since.isoformat(),
            "pace": self.backpressure and self.backpressure.to_json(),
            "next_at": self.next_at and self.next_at.isoformat(),
        }
        return {**self.others, **{name: value for name, value in kept.items() if value}}


class ProgressColumn(Json):
    """A column that keeps a CampaignProgress as JSON."""

    cache_ok = True

    def process_bind_param(self, value: CampaignProgress | None, dialect: Dialect) -> dict[str, Any] | None:
        """As JSON."""
        return None if value is None else value.to_json()

    def process_result_value(self, value: dict[str, Any] | None, dialect: Dialect) -> CampaignProgress | None:
        """From JSON."""
        return None if value is None else CampaignProgress.from_json(value)


def _instant(kept: str | None) -> datetime | None:
    return datetime.fromisoformat(kept) if kept else None
