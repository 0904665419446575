"""The row of an outgoing message, written before the message is sent: it decides whether it may be sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

from sqlalchemy import and_, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts.people import Person
from crmd.crm.contacts.phones import forms
from crmd.crm.database.upsert import insert_into
from crmd.crm.messages.queries import (
    MARKETING_STOPPED,
    MAX_TEXT,
    MESSAGE,
    OPTED_OUT,
    Status,
    failed,
    note_all,
    unknown,
)
from crmd.crm.messages.tables import Message

CAMPAIGN_CANCELLED = "campaign_cancelled"
"""Error code of a message that was not sent because its campaign was cancelled or stopped."""

Stop = Literal["paused", "cancelled"]
"""Why a campaign's message may not begin: not now, or never."""


class Admission(StrEnum):
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
class MessageStart:
    """The message's row, and whether to send."""

    message_id: int
    admission: Admission
    status: Status
    """As it now stands in the row."""
    wamid: str | None = None
    phone: str = ""
    """Whom the row's message is for; empty where that is whom this one is for."""


@dataclass(frozen=True, slots=True)
class Member:
    """What a message's campaign says of it."""

    campaign_id: int
    recipient_id: int | None
    """Whose message it is; None where the campaign did not queue it."""
    stop: Stop | None
    """None: it may begin."""


class Gate(Protocol):
    """The campaigns: they know messages, and messages do not know them."""

    async def members(self, s: AsyncSession, outgoing: Sequence[Outgoing]) -> dict[int, Member]:
        """What is known of messages of campaigns, by their place; those of deleted campaigns are left out."""

    async def suspend(self, s: AsyncSession, recipient_ids: Sequence[int]) -> set[int]:
        """Takes back messages of paused campaigns, by their recipients; gives those that it took."""


async def begin(s: AsyncSession, gate: Gate, new: Outgoing, now: datetime) -> MessageStart:
    """As `begin_many`, for one message."""
    [begun] = await begin_many(s, gate, [new], now)
    return begun


async def begin_many(
    s: AsyncSession, gate: Gate, outgoing: Sequence[Outgoing], now: datetime
) -> list[MessageStart]:
    """Makes or finds the row of each message and says whether it may be sent; then it stands as `sending`.

    The row is that of `once`, else that of the job. What an earlier delivery left as `sending` becomes `unknown`.
    A message whose campaign does not go on gets no row.
    """
    members = await gate.members(s, outgoing)
    stopped = {place: member for place, member in members.items() if member.stop}
    recalled = await _recall(s, gate, outgoing, stopped, now) if stopped else {}
    going = [(new, members.get(place)) for place, new in enumerate(outgoing) if place not in recalled]
    begun = iter(await _begin_all(s, going, now) if going else ())
    admissions = {place: MessageStart(0, admission, Status.RETRYING) for place, admission in recalled.items()}
    return [admissions.get(place) or next(begun) for place in range(len(outgoing))]


async def _recall(
    s: AsyncSession, gate: Gate, outgoing: Sequence[Outgoing], stopped: Mapping[int, Member], now: datetime
) -> dict[int, Admission]:
    """Which messages of campaigns that do not go on are not to begin, by their place, and why.

    One that may be out already is not among them: its row says what became of it.
    """
    begun = await _rows_of(s, [once for place in stopped if (once := outgoing[place].once) is not None])
    rows = {place: begun.get(outgoing[place].once or "", (0, Status.RETRYING)) for place in stopped}
    unsent = {place: row for place, row in rows.items() if row[1] in (Status.RETRYING, Status.FAILED)}
    paused = {place: stopped[place].recipient_id for place in unsent if stopped[place].stop == "paused"}
    ids = sorted({recipient_id for recipient_id in paused.values() if recipient_id is not None})
    held = await gate.suspend(s, ids) if ids else set()
    found: dict[int, Admission] = {}
    for place, (message_id, status) in unsent.items():
        if place in paused:
            found[place] = Admission.HELD if paused[place] in held else Admission.PAUSED
            continue
        found[place] = Admission.CANCELLED
        if status is Status.RETRYING:
            await failed(s, message_id, CAMPAIGN_CANCELLED, "its campaign was cancelled or stopped", now)
    return found


async def _rows_of(s: AsyncSession, words: Sequence[str]) -> dict[str, tuple[int, Status]]:
    """The rows that there are already, by `once`."""
    query = select(MESSAGE.c.once, MESSAGE.c.id, MESSAGE.c.status).where(MESSAGE.c.once.in_(words))
    return {once: (message_id, Status(status)) for once, message_id, status in await s.execute(query)}


async def _begin_all(
    s: AsyncSession, outgoing: Sequence[tuple[Outgoing, Member | None]], now: datetime
) -> list[MessageStart]:
    persons = await people.behind(s, {new.phone for new, _ in outgoing})
    rows = [_row(new, persons.get(new.phone), member, now) for new, member in outgoing]
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
    for (new, _), row in zip(outgoing, rows, strict=True):
        message_id = made.pop((row["job_key"], row["job_enqueued_at"]), None)
        if message_id is None:
            begun.append(await _begin_again(s, new, row, now))
        else:
            begun.append(MessageStart(message_id, _admission(row), Status(row["status"])))
    return begun


def _row(new: Outgoing, person: Person | None, member: Member | None, now: datetime) -> dict[str, Any]:
    """The row; without its campaign where that is deleted, as those of messages that were sent before."""
    unwanted = _unwanted(new, person)
    at = new.job_enqueued_at
    return {
        "direction": "out",
        "phone": new.phone,
        "contact_id": person.contact.id if person else None,
        "campaign_id": member and member.campaign_id,
        "recipient_id": member and member.recipient_id,
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


def _admission(row: dict[str, Any]) -> Admission:
    """What the row's error code says; the admissions are named like the codes."""
    return Admission(row["error_code"]) if row["error_code"] else Admission.SEND


async def _begin_again(s: AsyncSession, new: Outgoing, row: dict[str, Any], now: datetime) -> MessageStart:
    """There is a row: it says what an earlier delivery, or another job, made of the message."""
    m = MESSAGE.c
    job = and_(m.job_key == row["job_key"], m.job_enqueued_at == row["job_enqueued_at"])
    which = job if new.once is None else or_(m.once == new.once, job)
    columns = (m.id, m.status, m.wamid, m.phone, m.once, m.job_queue, m.job_key)
    query = select(*columns).where(which).order_by(m.once.is_(None))
    found = (await s.execute(query.limit(1).with_for_update())).one()
    if found.once is not None and found.once == new.once and not await _is_same(s, found.phone, new.phone):
        return MessageStart(found.id, Admission.OTHER_RECIPIENT, Status(found.status), phone=found.phone)
    status, ours = Status(found.status), (found.job_queue, found.job_key) == (new.job_queue, new.job_key)
    if status is Status.SENDING and not ours:
        return MessageStart(found.id, Admission.BUSY, status)
    if status in (Status.SENDING, Status.UNKNOWN):
        await unknown(s, found.id, "an earlier delivery of its job was lost while it sent the message", now)
        return MessageStart(found.id, Admission.UNKNOWN, Status.UNKNOWN)
    if status not in (Status.RETRYING, Status.FAILED):
        return MessageStart(found.id, Admission.REPEAT, status, found.wamid)
    renewed = ("status", "status_at", "error_code", "contact_id", "job_queue", "job_key", "job_enqueued_at")
    values = {name: row[name] for name in renewed}
    await s.execute(update(MESSAGE).where(m.id == found.id).values(**values, wamid=None, error=None))
    await note_all(s, [(found.id, Status(row["status"]), now, row["error_code"])])
    return MessageStart(found.id, _admission(row), Status(row["status"]))


async def _is_same(s: AsyncSession, phone: str, other: str) -> bool:
    """Whether two numbers are one person's, as far as is known."""
    if other in forms(phone):
        return True
    persons = await people.behind(s, (phone, other))
    return len(persons) == 2 and not set(persons[phone].ids).isdisjoint(persons[other].ids)
