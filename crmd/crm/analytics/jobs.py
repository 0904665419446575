"""Queue `analytics`: keeps the figures of an hour or a day."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

from pydantic import AwareDatetime, Field

from crmd.crm.analytics import repository as snapshots
from crmd.crm.analytics.repository import Period, queue_part
from crmd.crm.database.database import Database
from crmd.crm.payload import Payload
from crmd.engine.admin.inspector import Inspector
from crmd.errors import Permanent
from crmd.jobs import JobContext, job


class TakeSnapshot(Payload):
    """Which time to look at."""

    period: Annotated[Period, Field(description="`hour` or `day`, in UTC.")]
    at: Annotated[
        AwareDatetime | None,
        Field(
            description="An instant in the period, with a time zone; by default in the last period that has ended."
        ),
    ] = None
    again: Annotated[
        int,
        Field(ge=0, le=400, description="How many earlier periods to compute again, as statuses arrive late."),
    ] = 0


class SnapshotTaken(TypedDict):
    """What was computed."""

    period: str
    starts_at: str
    """RFC 3339, UTC."""
    computed: int
    """Periods, those computed again included."""


@job(queue="analytics", payload=TakeSnapshot, name="snapshot")
async def snapshot(ctx: JobContext, payload: TakeSnapshot) -> SnapshotTaken:
    """Computes snapshots from the database and keeps each in place of an older one of the same time."""
    return await take(ctx, payload, datetime.now(UTC))


async def take(ctx: JobContext, payload: TakeSnapshot, now: datetime) -> SnapshotTaken:
    """What the job does at an instant."""
    database = ctx.get(Database)
    period = payload.period
    starts_at = period.start_of(payload.at or now - period.length)
    if starts_at > now:
        raise Permanent(f"the {period} that begins at {starts_at.isoformat()} has not begun yet")
    # The newest first: where time runs out, it is there.
    for number in range(payload.again + 1):
        await _keep(ctx, database, period, starts_at - number * period.length, now, only_if=number > 0)
        await ctx.progress((number + 1) / (payload.again + 1))
    async with database.transaction() as s:
        await snapshots.remove_old(s, period, now)
    return SnapshotTaken(
        period=period.value, starts_at=starts_at.isoformat().replace("+00:00", "Z"), computed=payload.again + 1
    )


async def _keep(
    ctx: JobContext, database: Database, period: Period, starts_at: datetime, now: datetime, *, only_if: bool
) -> None:
    """Computes and keeps one; with `only_if` only where there is one already, or something to tell."""
    async with database.reading() as s:
        data = await snapshots.compute(s, starts_at, min(starts_at + period.length, now))
        known = await snapshots.get(s, period, starts_at)
        earlier = await snapshots.before(s, period, starts_at)
    if only_if and known is None and not snapshots.happened(data):
        return
    queues: dict[str, Any] | None = known.data.get("queues") if known else None
    if queues is None and starts_at == period.start_of(now - period.length):
        # What the queues did is known of the present only: it is kept with the period that has just ended.
        metrics = await ctx.get(Inspector).metrics()
        queues = queue_part(metrics, earlier.data if earlier else None, now)
    if queues is not None:
        data["queues"] = queues
    async with database.transaction() as s:
        await snapshots.save(s, period, starts_at, data)
