"""The row of an outgoing message, written before the message is sent: it decides whether it may be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts import people
from crmd.crm.contacts.people import Person
from crmd.crm.contacts.phones import forms
from crmd.crm.database.upsert import insert_into
from crmd.crm.messages.halts import halt
from crmd.crm.messages.queries import MARKETING_STOPPED, MAX_TEXT, MESSAGE, OPTED_OUT, Status, note_all, unknown
from crmd.crm.messages.tables import Message


class Verdict(StrEnum):
    """Whether a message may be sent."""

    SEND = "send"
    REPEAT = "repeat"
    """It was sent: under this job, or this `once`, nothing goes out again."""
    UNKNOWN = "unknown"
    """An earlier delivery may have sent it."""
    BUSY = "busy"
    """Another job with the same `once` is sending it right now."""
    OPTED_OUT = "opted_out"
    """Its contact wants no messages."""
    HELD = "held"
    """Its campaign is paused, and queues it again when it goes on."""
    PAUSED = "paused"
    """Its campaign is paused, and knows nothing of it: it has to come back by itself."""
    CANCELLED = "cancelled"
    """Its campaign was cancelled or stopped."""
    MARKETING_STOPPED = "marketing_stopped"
    """It is marketing, of which its contact wants none."""
    OTHER_RECIPIENT = "other_recipient"
    """Its `once` stands for a message to somebody else."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message that a job is about to send."""

    phone: str
    """E.164."""
    type: str
    text: str | None
    job_queue: str
    job_key: str
    job_enqueued_at: datetime
    once: str | None = None
    campaign_id: int | None = None
    marketing: bool = False


@dataclass(frozen=True, slots=True)
class Begun:
    """The message's row, and whether to send."""

    message_id: int
    verdict: Verdict
    status: Status
    """As it now stands in the row."""
    wamid: str | None = None
    phone: str = ""
    """Whom the row's message is for; empty where that is whom this one is for."""


async def begin(s: AsyncSession, new: Outgoing, now: datetime) -> Begun:
    """As `begin_many`, for one message."""
    [begun] = await begin_many(s, [new], now)
    return begun


async def begin_many(s: AsyncSession, outgoing: Sequence[Outgoing], now: datetime) -> list[Begun]:
    """Makes or finds the row of each message and says whether it may be sent; then it stands as `sending`.

    The row is that of `once`, else that of the job. What an earlier delivery left as `sending` becomes `unknown`.
    A message whose campaign does not go on gets no row.
    """
    halted = await halt(s, outgoing, now)
    going = [new for place, new in enumerate(outgoing) if place not in halted]
    begun = iter(await _begin_all(s, going, now) if going else ())
    verdicts = {place: Begun(0, Verdict(reason), Status.RETRYING) for place, reason in halted.items()}
    return [verdicts.get(place) or next(begun) for place in range(len(outgoing))]


async def _begin_all(s: AsyncSession, outgoing: Sequence[Outgoing], now: datetime) -> list[Begun]:
    persons = await people.behind(s, {new.phone for new in outgoing})
    campaigns = await _campaigns(s, {new.campaign_id for new in outgoing if new.campaign_id is not None})
    rows = [_row(new, persons.get(new.phone), campaigns, now) for new in outgoing]
    inserting = insert_into(s, Message).on_conflict_do_nothing()
    returned = inserting.returning(MESSAGE.c.id, MESSAGE.c.job_key, MESSAGE.c.job_enqueued_at)
    connection = await s.connection()
    made = {(key, at): message_id for message_id, key, at in await connection.execute(returned, rows)}
    await note_all(
        s,
        (
            (made[job], Status(row["status"]), now, row["error_code"])
            for row in rows
            if (job := (row["job_key"], row["job_enqueued_at"])) in made
        ),
    )
    begun = []
    for new, row in zip(outgoing, rows, strict=True):
        message_id = made.pop((row["job_key"], row["job_enqueued_at"]), None)
        if message_id is None:
            begun.append(await _begin_again(s, new, row, now))
        else:
            begun.append(Begun(message_id, _verdict(row), Status(row["status"])))
    return begun


async def _campaigns(s: AsyncSession, wanted: set[int]) -> set[int]:
    """Those that exist: a deleted campaign leaves a message as it leaves those already sent, without one."""
    return set(await s.scalars(select(Campaign.id).where(Campaign.id.in_(wanted)))) if wanted else set()


def _row(new: Outgoing, person: Person | None, campaigns: set[int], now: datetime) -> dict[str, Any]:
    unwanted = _unwanted(new, person)
    at = new.job_enqueued_at
    return {
        "direction": "out",
        "phone": new.phone,
        "contact_id": person.contact.id if person else None,
        "campaign_id": new.campaign_id if new.campaign_id in campaigns else None,
        "once": new.once,
        "job_queue": new.job_queue,
        "job_key": new.job_key,
        "job_enqueued_at": at.replace(microsecond=at.microsecond // 1000 * 1000),
        "type": new.type,
        "text": new.text and new.text[:MAX_TEXT],
        "status": (Status.FAILED if unwanted else Status.SENDING).value,
        "status_at": now,
        "error_code": unwanted,
        "created_at": now,
    }


def _unwanted(new: Outgoing, person: Person | None) -> str | None:
    """The error code of a message that its recipient does not want."""
    if person is None:
        return None
    if person.opted_out:
        return OPTED_OUT
    return MARKETING_STOPPED if new.marketing and person.stopped_marketing else None


def _verdict(row: dict[str, Any]) -> Verdict:
    """What the row's error code says; the verdicts are named like the codes."""
    return Verdict(row["error_code"]) if row["error_code"] else Verdict.SEND


async def _begin_again(s: AsyncSession, new: Outgoing, row: dict[str, Any], now: datetime) -> Begun:
    """There is a row: it says what an earlier delivery, or another job, made of the message."""
    m = MESSAGE.c
    job = and_(m.job_key == row["job_key"], m.job_enqueued_at == row["job_enqueued_at"])
    which = job if new.once is None else or_(m.once == new.once, job)
    columns = (m.id, m.status, m.wamid, m.phone, m.once, m.job_queue, m.job_key)
    query = select(*columns).where(which).order_by(m.once.is_(None))
    found = (await s.execute(query.limit(1).with_for_update())).one()
    if found.once is not None and found.once == new.once and not await _is_same(s, found.phone, new.phone):
        return Begun(found.id, Verdict.OTHER_RECIPIENT, Status(found.status), phone=found.phone)
    status, ours = Status(found.status), (found.job_queue, found.job_key) == (new.job_queue, new.job_key)
    if status is Status.SENDING and not ours:
        return Begun(found.id, Verdict.BUSY, status)
    if status in (Status.SENDING, Status.UNKNOWN):
        await unknown(s, found.id, "an earlier delivery of its job was lost while it sent the message", now)
        return Begun(found.id, Verdict.UNKNOWN, Status.UNKNOWN)
    if status not in (Status.RETRYING, Status.FAILED):
        return Begun(found.id, Verdict.REPEAT, status, found.wamid)
    renewed = ("status", "status_at", "error_code", "contact_id", "job_queue", "job_key", "job_enqueued_at")
    values = {name: row[name] for name in renewed}
    await s.execute(update(MESSAGE).where(m.id == found.id).values(**values, wamid=None, error=None))
    await note_all(s, [(found.id, Status(row["status"]), now, row["error_code"])])
    return Begun(found.id, _verdict(row), Status(row["status"]))


async def _is_same(s: AsyncSession, phone: str, other: str) -> bool:
    """Whether two numbers are one person's, as far as is known."""
    if other in forms(phone):
        return True
    persons = await people.behind(s, (phone, other))
    return len(persons) == 2 and not set(persons[phone].ids).isdisjoint(persons[other].ids)
