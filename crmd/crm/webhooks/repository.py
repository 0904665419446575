"""The state of the webhook endpoints: since when each has failed, and which are disabled."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.database.upsert import insert_into
from crmd.crm.webhooks.tables import EndpointState

MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """What is known of one endpoint."""

    failing_since: datetime | None = None
    """The first failure after its last success; None where it works, or nothing was tried."""
    disabled_at: datetime | None = None
    """Since when it gets no events."""
    reason: str | None = None
    """Why it was disabled."""


async def status(s: AsyncSession, name: str) -> EndpointStatus:
    """What is known of an endpoint."""
    return (await statuses(s, (name,))).get(name, EndpointStatus())


async def statuses(s: AsyncSession, names: tuple[str, ...]) -> dict[str, EndpointStatus]:
    """What is known of those endpoints that were in trouble; nothing of the others."""
    rows = await s.scalars(select(EndpointState).where(EndpointState.name.in_(names)))
    return {row.name: EndpointStatus(row.failing_since, row.disabled_at, row.reason) for row in rows}


async def note_success(s: AsyncSession, name: str) -> None:
    """The endpoint took an event. One that is disabled stays so until a person enables it."""
    await s.execute(
        update(EndpointState)
        .where(EndpointState.name == name, EndpointState.disabled_at.is_(None))
        .values(failing_since=None)
    )


async def note_failure(
    s: AsyncSession, name: str, at: datetime, reason: str, *, disable_after: timedelta | None
) -> bool:
    """The endpoint failed. Disables it where it has done so for `disable_after`; True where this was just done."""
    row = {"name": name, "failing_since": at}
    await s.execute(insert_into(s, EndpointState).values(row).on_conflict_do_nothing())
    this = update(EndpointState).where(EndpointState.name == name)
    await s.execute(this.where(EndpointState.failing_since.is_(None)).values(failing_since=at))
    if disable_after is None:
        return False
    due = this.where(EndpointState.disabled_at.is_(None), EndpointState.failing_since <= at - disable_after)
    values = {"disabled_at": at, "reason": reason[:MAX_REASON_CHARS]}
    disabled = await s.scalar(due.values(values).returning(EndpointState.name))
    return disabled is not None


async def enable(s: AsyncSession, name: str) -> None:
    """The endpoint gets events again, and its failures count from the next one on."""
    await s.execute(
        update(EndpointState)
        .where(EndpointState.name == name)
        .values(failing_since=None, disabled_at=None, reason=None)
    )
