"""How far a campaign is: one record, kept as JSON in the column `cursor` of its row.

Daemons of 0.1.0 read and write the same JSON beside ours, so that its names and meanings stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Dialect

from crmd.crm.campaigns.backpressure import Backpressure
from crmd.crm.database.types import Json

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
