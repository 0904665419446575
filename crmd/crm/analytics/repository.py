"""The figures of an hour or a day: counted from the database, and kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.ai.tables import AiUsage
from crmd.crm.analytics.tables import Snapshot
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.types import utc_now
from crmd.crm.database.upsert import insert_into
from crmd.crm.messages.queries import OPTED_OUT
from crmd.crm.messages.tables import Message
from crmd.engine.admin.views import QueueMetrics

ERRORS_KEPT = 50
"""Error codes of a period that are counted one by one, the most frequent."""
SENT = ("accepted", "sent", "delivered", "read")
"""Statuses of messages that WhatsApp took."""
ARRIVED = ("delivered", "read")


class Period(StrEnum):
    """How long a snapshot is; periods begin on the hour and the day of UTC."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """From one beginning to the next."""
        return timedelta(hours=1) if self is Period.HOUR else timedelta(days=1)

    @property
    def kept(self) -> timedelta:
        """How long its snapshots are kept: 2,160 of the hour, 3,650 of the day."""
        return timedelta(days=90) if self is Period.HOUR else timedelta(days=3650)

    def start_of(self, at: datetime) -> datetime:
        """When the period that an instant lies in began."""
        whole = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return whole if self is Period.HOUR else whole.replace(hour=0)


@dataclass(frozen=True, slots=True)
class SnapshotView:
    """One snapshot."""

    period: Period
    starts_at: datetime
    data: dict[str, Any]
    created_at: datetime
    """When it was computed last."""


async def compute(s: AsyncSession, starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
    """What the database says of the time from `starts_at` until before `ends_at`.

    Messages count where they began, with the status that they have now: the same time computed again later knows
    the statuses that came in between.
    """
    return {
        "messages": await _messages(s, starts_at, ends_at),
        "campaigns": await _campaigns(s, starts_at, ends_at),
        "contacts": await _contacts(s, starts_at, ends_at),
        "ai": await _ai(s, starts_at, ends_at),
    }


async def save(s: AsyncSession, period: Period, starts_at: datetime, data: Mapping[str, Any]) -> None:
    """Keeps a snapshot, in place of one of the same time."""
    row = {"period": period.value, "starts_at": starts_at, "data": dict(data), "created_at": utc_now()}
    insert = insert_into(s, Snapshot).values(row)
    changed = {"data": insert.excluded.data, "created_at": insert.excluded.created_at}
    await s.execute(insert.on_conflict_do_update(index_elements=["period", "starts_at"], set_=changed))


def happened(data: Mapping[str, Any]) -> bool:
    """Whether a snapshot's data tells of anything that happened in its time."""
    counts = (data["messages"]["out"], data["messages"]["in"], data["contacts"]["new"], data["ai"]["answers"])
    return any((*counts, *data["campaigns"].values()))


async def get(s: AsyncSession, period: Period, starts_at: datetime) -> SnapshotView | None:
    """The snapshot of one time, if there is one."""
    return next(iter(await _found(s, period, Snapshot.starts_at == starts_at, 1)), None)


async def before(s: AsyncSession, period: Period, starts_at: datetime) -> SnapshotView | None:
    """The last snapshot that is earlier, if there is one."""
    return next(iter(await _found(s, period, Snapshot.starts_at < starts_at, 1)), None)


async def last(s: AsyncSession, period: Period, count: int) -> list[SnapshotView]:
    """The last snapshots, earliest first."""
    return (await _found(s, period, Snapshot.id > 0, count))[::-1]


async def remove_old(s: AsyncSession, period: Period, now: datetime) -> None:
    """Deletes the snapshots that are older than such are kept."""
    old = (Snapshot.period == period.value) & (Snapshot.starts_at < now - period.kept)
    await s.execute(delete(Snapshot).where(old))


async def _found(s: AsyncSession, period: Period, condition: Any, count: int) -> list[SnapshotView]:
    query = select(Snapshot).where(Snapshot.period == period.value, condition)
    rows = await s.scalars(query.order_by(Snapshot.starts_at.desc()).limit(count))
    return [SnapshotView(period, row.starts_at, row.data, row.created_at) for row in rows]


async def _messages(s: AsyncSession, starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
    created = (Message.created_at >= starts_at, Message.created_at < ends_at)
    counted = select(Message.direction, Message.status, func.count()).where(*created)
    rows = (await s.execute(counted.group_by(Message.direction, Message.status))).all()
    by_status = {status: count for direction, status, count in rows if direction == "out"}
    errors = (
        select(Message.error_code, func.count())
        .where(*created, Message.direction == "out", Message.error_code.is_not(None))
        .group_by(Message.error_code)
        .order_by(func.count().desc(), Message.error_code)
        .limit(ERRORS_KEPT)
    )
    return {
        "out": sum(by_status.values()),
        "in": sum(count for direction, _, count in rows if direction == "in"),
        "by_status": dict(sorted(by_status.items())),
        "by_error": {str(code): count for code, count in await s.execute(errors)},
        **rates(by_status, await _count(s, Message.id, *created, Message.error_code == OPTED_OUT)),
    }


def rates(by_status: Mapping[str, int], refused: int) -> dict[str, float | None]:
    """Which share of the messages that WhatsApp was given arrived, and which share of these was read.

    `refused` of the failed ones were given to nobody, as their contacts want none.
    """
    arrived = sum(by_status.get(status, 0) for status in ARRIVED)
    tried = sum(by_status.get(status, 0) for status in (*SENT, "failed")) - refused
    return {
        "delivery_rate": round(arrived / tried, 4) if tried else None,
        "read_rate": round(by_status.get("read", 0) / arrived, 4) if arrived else None,
    }


async def _campaigns(s: AsyncSession, starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
    sent = (Message.created_at >= starts_at, Message.created_at < ends_at, Message.campaign_id.is_not(None))
    begun = (Campaign.created_at >= starts_at, Campaign.created_at < ends_at)
    ended = (Campaign.finished_at >= starts_at, Campaign.finished_at < ends_at)
    return {
        "started": await _count(s, Campaign.id, *begun),
        "finished": await _count(s, Campaign.id, *ended),
        "messages": await _count(s, Message.id, *sent),
    }


async def _contacts(s: AsyncSession, starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
    gone = Contact.opted_out_at < ends_at
    return {
        "total": await _count(s, Contact.id, Contact.created_at < ends_at),
        "new": await _count(s, Contact.id, Contact.created_at >= starts_at, Contact.created_at < ends_at),
        "opted_out": await _count(s, Contact.id, Contact.opted_out_at >= starts_at, gone),
        "opted_out_total": await _count(s, Contact.id, gone),
    }


async def _ai(s: AsyncSession, starts_at: datetime, ends_at: datetime) -> dict[str, Any]:
    sums = (func.count(), func.sum(AiUsage.input_tokens), func.sum(AiUsage.output_tokens))
    answered = (AiUsage.answered_at >= starts_at, AiUsage.answered_at < ends_at)
    answers, read, written = (await s.execute(select(*sums).where(*answered))).one()
    return {"answers": answers, "input_tokens": int(read or 0), "output_tokens": int(written or 0)}


async def _count(s: AsyncSession, column: Any, *conditions: Any) -> int:
    return await s.scalar(select(func.count(column)).where(*conditions)) or 0


# The queues' part of a snapshot


COUNTED = ("completed", "failed", "cancelled", "retried")
"""What is counted from one snapshot to the next."""


_NEW: Mapping[str, Any] = {"totals": dict.fromkeys(COUNTED, 0)}


def queue_part(
    metrics: Mapping[str, QueueMetrics], earlier: Mapping[str, Any] | None, taken_at: datetime
) -> dict[str, Any]:
    """The queues' part of a snapshot: how they stand, and what they did since the earlier snapshot with this data.

    Counts are None where there is no earlier one.
    """
    part: Mapping[str, Any] = (earlier or {}).get("queues") or {}
    before = part.get("by_name", {})
    return {
        "taken_at": taken_at.isoformat(timespec="seconds"),
        "since": part.get("taken_at"),
        "by_name": {name: _one(one, before.get(name, _NEW) if before else None) for name, one in metrics.items()},
    }


def _one(metrics: QueueMetrics, before: Mapping[str, Any] | None) -> dict[str, Any]:
    counts = metrics.counts
    totals = {name: getattr(metrics.totals, name) for name in COUNTED}
    # A store that was replaced counts from 0 again.
    counted = {name: _more(totals[name], before["totals"][name]) if before else None for name in COUNTED}
    return {
        **counted,
        "waiting": counts.waiting,
        "active": counts.active,
        "delayed": counts.delayed,
        "oldest_waiting_seconds": counts.oldest_waiting_seconds,
        "wait_ms": metrics.wait_ms,
        "run_ms": metrics.run_ms,
        "totals": totals,
    }


def _more(now: int, before: int) -> int:
    return now - before if now >= before else now
