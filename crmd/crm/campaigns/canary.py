"""Whether the first few messages of a campaign went well enough to send the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from crmd.crm.campaigns.payloads import Canary
from crmd.crm.messages.queries import Status

LOOK_SECONDS = 5.0
_GOOD = (Status.DELIVERED, Status.READ)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why."""

    kind: Literal["go on", "wait", "stop"]
    reason: str
    look_seconds: float = LOOK_SECONDS
    """When to look again, at the latest."""


def decide(canary: Canary, queued: int, by_status: Mapping[str, int], since: datetime, now: datetime) -> Decision:
    """Looks at the messages of the first few, all of which were queued at `since`.

    It goes on once each of them is known to be delivered or failed, or the time is up. It stops as soon as too
    many failed, whatever becomes of the rest.
    """
    failed = by_status.get(Status.FAILED, 0)
    settled = failed + sum(by_status.get(status, 0) for status in _GOOD)
    told = f"{failed} of the first {queued} messages failed"
    if failed > canary.max_failure_share * queued:
        return Decision("stop", f"{told}, more than {canary.max_failure_share:.0%}")
    until = since + timedelta(seconds=canary.wait_seconds)
    if settled >= queued or now >= until:
        return Decision("go on", told)
    left = (until - now).total_seconds()
    return Decision(
        "wait", f"{queued - settled} of the first {queued} messages are under way", min(left, LOOK_SECONDS)
    )
