"""Notifications that wait to be sent together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.database.upsert import insert_into
from crmd.crm.notifications.tables import NotificationEntry as Entry
from crmd.crm.notifications.tables import NotificationGroup as Group

TEXTS_KEPT = 5
"""Texts of a group that its message shows, the first ones."""
MAX_TEXT = 500
KEPT = timedelta(days=7)
"""If a channel takes nothing for this long, what waits for it is out of date."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What waits of one group."""

    count: int
    texts: list[str]
    """The first TEXTS_KEPT."""
    levels: set[str]
    last_id: int
    """What comes later has a greater id."""


async def add(
    s: AsyncSession,
    channel: str,
    name: str,
    *,
    job: tuple[str, datetime],
    level: str,
    text: str,
    now: datetime,
) -> datetime:
    """Adds a job's notification to a group, once; returns since when the group waits.

    `job` is the job's key and the time when it was added.
    """
    group = insert_into(s, Group).values(channel=channel, name=name, opened_at=now)
    # An update that changes nothing holds the group's row until the transaction ends: nobody closes it meanwhile.
    group = group.on_conflict_do_update(index_elements=["channel", "name"], set_={"name": name})
    opened_at: datetime = (await s.execute(group.returning(Group.opened_at))).scalar_one()
    first = select(Entry.id).where(*_of(channel, name)).limit(TEXTS_KEPT).subquery()
    kept = await s.scalar(select(func.count()).select_from(first)) or 0
    entry = insert_into(s, Entry).values(
        channel=channel,
        name=name,
        job_key=job[0],
        job_enqueued_at=job[1],
        level=level,
        text=text[:MAX_TEXT] if kept < TEXTS_KEPT else None,
        created_at=now,
    )
    await s.execute(entry.on_conflict_do_nothing(index_elements=["job_key", "job_enqueued_at"]))
    return opened_at


async def gather(s: AsyncSession, channel: str, name: str, now: datetime) -> Gathered | None:
    """What waits of a group, without what is too old; None where nothing does."""
    if not await _hold(s, channel, name):
        return None
    await s.execute(delete(Entry).where(*_of(channel, name), Entry.created_at < now - KEPT))
    counted = select(func.count(), func.max(Entry.id)).where(*_of(channel, name))
    count, last_id = (await s.execute(counted)).one()
    if not count:
        await s.execute(delete(Group).where(Group.channel == channel, Group.name == name))
        return None
    texts = select(Entry.text).where(*_of(channel, name), Entry.text.is_not(None))
    found = await s.scalars(texts.order_by(Entry.id).limit(TEXTS_KEPT))
    levels = await s.scalars(select(Entry.level).where(*_of(channel, name)).distinct())
    return Gathered(count, [text for text in found if text is not None], set(levels), last_id)


async def close(s: AsyncSession, channel: str, name: str, last_id: int, now: datetime) -> datetime | None:
    """Takes away what went out. Where more has come meanwhile, says since when that waits."""
    await _hold(s, channel, name)
    await s.execute(delete(Entry).where(*_of(channel, name), Entry.id <= last_id))
    if await s.scalar(select(Entry.id).where(*_of(channel, name)).limit(1)) is None:
        await s.execute(delete(Group).where(Group.channel == channel, Group.name == name))
        return None
    changed = update(Group).where(Group.channel == channel, Group.name == name).values(opened_at=now)
    await s.execute(changed)
    return now


async def _hold(s: AsyncSession, channel: str, name: str) -> bool:
    """Holds the group's row until the transaction ends; False where there is none."""
    held = select(Group.channel).where(Group.channel == channel, Group.name == name).with_for_update()
    return await s.scalar(held) is not None


def _of(channel: str, name: str) -> tuple[ColumnElement[bool], ...]:
    return (Entry.channel == channel, Entry.name == name)
