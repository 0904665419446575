"""Reads messages: what became of outgoing ones, and what came in."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Row, Select, and_, bindparam, case, delete, exists, func, literal, null, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts.phones import forms
from crmd.crm.contacts.repository import Forgotten
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.upsert import insert_into
from crmd.crm.messages.tables import Message, MessageEvent
from crmd.errors import IllegalTransition

MAX_TEXT = 4096
MAX_ERROR = 2000
OPTED_OUT = "opted_out"
"""Error code of a message that was not sent because its contact wants none."""
MARKETING_STOPPED = "marketing_stopped"
"""Error code of a marketing message that was not sent because its contact wants none."""
BY_HAND = "settled_by_hand"
"""Error code of an unknown message of which a person says that it was not sent."""

MESSAGE: Any = Message.__table__


class Status(StrEnum):
    """The statuses of a message; `tables.Message.status` says what each means."""

    SENDING = "sending"
    RETRYING = "retrying"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"
    RECEIVED = "received"


OPEN = (Status.SENDING, Status.RETRYING, Status.UNKNOWN)
"""Nobody has said yet what became of the message."""


class MessageFilter(BaseModel):
    """Messages for which everything given is true; an empty filter is all messages."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    direction: Literal["out", "in"] | None = Field(None, description="Sent (out) or received (in).")
    status: Status | None = Field(None, description="Those with this status.")
    phone: str | None = Field(None, description="Those to or from this number, E.164.")
    contact_id: int | None = Field(None, description="Those to or from this contact.")
    campaign_id: int | None = Field(None, description="Those of this campaign.")
    created_after: AwareDatetime | None = Field(None, description="Created at this instant or later.")
    created_before: AwareDatetime | None = Field(None, description="Created before this instant.")


# Outcomes


def _accepting() -> Any:
    """Put together once, as each message costs it: a status webhook that was faster stands."""
    other = MESSAGE.alias("other")
    wamid = bindparam("its_wamid", type_=MESSAGE.c.wamid.type)
    taken = exists().where(other.c.wamid == wamid, other.c.id != bindparam("its_id"))
    untold = or_(
        *(MESSAGE.c.status == status.value for status in OPEN),
        and_(MESSAGE.c.status == Status.FAILED.value, MESSAGE.c.wamid.is_(None)),
    )
    changes = {
        "status": Status.ACCEPTED.value,
        "status_at": bindparam("its_at", type_=MESSAGE.c.status_at.type),
        "error_code": None,
        "error": None,
    }
    return (
        update(MESSAGE)
        .where(MESSAGE.c.id == bindparam("its_id"))
        .values(
            wamid=case((~taken, func.coalesce(MESSAGE.c.wamid, wamid)), else_=MESSAGE.c.wamid),
            **{name: case((untold, value), else_=MESSAGE.c[name]) for name, value in changes.items()},
        )
    )


_ACCEPTING = _accepting()
_ACCEPTED_STEPS = select(
    MESSAGE.c.id, literal(Status.ACCEPTED.value), bindparam("at", type_=MessageEvent.at.type), null()
).where(MESSAGE.c.id.in_(bindparam("ids", expanding=True)))


async def accepted_many(s: AsyncSession, taken: Sequence[tuple[int, str]], now: datetime) -> None:
    """WhatsApp took messages: id of the row and wamid of each. One that was forgotten meanwhile is left out."""
    connection = await s.connection()
    # By id, as statuses lock them: so two transactions never wait for each other.
    rows = [{"its_id": message_id, "its_wamid": wamid, "its_at": now} for message_id, wamid in sorted(taken)]
    await connection.execute(_ACCEPTING, rows)
    columns, ids = ["message_id", "status", "at", "error_code"], [message_id for message_id, _ in taken]
    noting = insert_into(s, MessageEvent).from_select(columns, _ACCEPTED_STEPS).on_conflict_do_nothing()
    await connection.execute(noting, {"at": now, "ids": ids})


async def accepted(s: AsyncSession, message_id: int, wamid: str, now: datetime) -> None:
    """WhatsApp took the message. What a status webhook told first stands."""
    await accepted_many(s, [(message_id, wamid)], now)


async def failed(
    s: AsyncSession,
    message_id: int,
    code: str | None,
    error: str,
    now: datetime,
    *,
    since: Sequence[Status] = OPEN,
) -> bool:
    """The message did not go out and its job is over. False: its status is none of `since`, and stands."""
    return await _move(s, message_id, Status.FAILED, now, since, code, error)


async def retrying(s: AsyncSession, message_id: int, code: str | None, error: str, now: datetime) -> bool:
    """The message did not go out this time, and its job will try again. False: it was not being sent."""
    return await _move(s, message_id, Status.RETRYING, now, (Status.SENDING,), code, error)


async def unknown(s: AsyncSession, message_id: int, error: str, now: datetime) -> bool:
    """The message may have gone out. False: it was not being sent."""
    return await _move(s, message_id, Status.UNKNOWN, now, (Status.SENDING,), None, error)


async def settle_by_hand(
    s: AsyncSession, message_id: int, status: Literal["sent", "failed"], now: datetime
) -> Message | None:
    """A person found out what became of an unknown message. None: no such row. Raises IllegalTransition."""
    row = await s.get(Message, message_id, with_for_update=True)
    if row is None:
        return None
    if row.status != Status.UNKNOWN:
        raise IllegalTransition(f"message {message_id} is {row.status}; only unknown messages are settled by hand")
    row.status, row.status_at, row.error_code, row.error = status, now, None, None
    if status == "failed":
        row.error_code, row.error = BY_HAND, "a person says that it was not sent"
    await note_all(s, [(message_id, Status(status), now, row.error_code)])
    return row


async def _move(
    s: AsyncSession,
    message_id: int,
    status: Status,
    now: datetime,
    since: Sequence[Status],
    code: str | None,
    error: str,
) -> bool:
    values = {"status": status.value, "status_at": now, "error_code": code, "error": error[:MAX_ERROR]}
    movable = MESSAGE.c.status.in_([one.value for one in since])
    moving = update(MESSAGE).where(MESSAGE.c.id == message_id, movable).values(values).returning(MESSAGE.c.id)
    moved = await s.scalar(moving) is not None
    if moved:
        await note_all(s, [(message_id, status, now, code)])
    return moved


async def note_all(s: AsyncSession, steps: Iterable[tuple[int, Status, datetime, str | None]]) -> None:
    """Adds steps to histories: id, status, when, error code. One that is there stays as it was first."""
    rows = [
        {"message_id": message_id, "status": status.value, "at": at, "error_code": code}
        for message_id, status, at, code in steps
    ]
    if rows:
        connection = await s.connection()
        await connection.execute(insert_into(s, MessageEvent).on_conflict_do_nothing(), rows)


# Inbound


async def record_inbound(
    s: AsyncSession,
    contact: Contact,
    *,
    wamid: str,
    type: str,
    text: str | None,
    at: datetime,
    now: datetime,
    phone: str | None = None,
    opens_window: bool = True,
) -> Message | None:
    """Writes down a message that came in, and when its contact last wrote. None: it was written down before.

    `phone` is the number that it came from, where that is not the contact's. `opens_window`: whether free-form
    messages are allowed for 24 hours from `at` on.
    """
    values = {
        "direction": "in",
        "phone": phone or contact.phone,
        "contact_id": contact.id,
        "wamid": wamid,
        "type": type,
        "text": text and text[:MAX_TEXT],
        "status": Status.RECEIVED.value,
        "status_at": at,
        "created_at": now,
    }
    made = await s.scalar(insert_into(s, Message).values(values).on_conflict_do_nothing().returning(Message.id))
    if made is None:
        return None
    if opens_window:
        earlier = or_(Contact.last_inbound_at.is_(None), Contact.last_inbound_at < at)
        await s.execute(update(Contact).where(Contact.id == contact.id, earlier).values(last_inbound_at=at))
    return await s.get_one(Message, made)


# Questions


async def by_wamid(s: AsyncSession, wamid: str) -> Message | None:
    """The message with WhatsApp's id."""
    return await s.scalar(select(Message).where(Message.wamid == wamid))


async def doubtful(s: AsyncSession, before: datetime, after_id: int, limit: int) -> list[Message]:
    """Messages that stand as sending or retrying since before an instant, by id: their job may be gone."""
    open_ones = Message.status.in_([Status.SENDING.value, Status.RETRYING.value])
    query = select(Message).where(open_ones, Message.status_at < before, Message.id > after_id)
    return list(await s.scalars(query.order_by(Message.id).limit(limit)))


async def of_jobs(s: AsyncSession, queue: str, keys: Sequence[str]) -> list[Message]:
    """The outgoing messages of all jobs that ever had one of these keys, by id."""
    query = select(Message).where(Message.job_key.in_(keys), Message.job_queue == queue)
    return list(await s.scalars(query.order_by(Message.id)))


async def campaign_counts(s: AsyncSession, campaign_id: int) -> dict[str, int]:
    """How many of a campaign's messages stand in each status; statuses without any are left out."""
    query = select(Message.status, func.count()).where(Message.campaign_id == campaign_id).group_by(Message.status)
    return {row[0]: row[1] for row in await s.execute(query)}


def matching(wanted: MessageFilter) -> Select[Message]:
    """The messages that a filter lets through, in no order."""
    query = select(Message)
    if wanted.phone is not None:
        query = query.where(Message.phone.in_(forms(wanted.phone)))
    for name in ("direction", "status", "contact_id", "campaign_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(Message, name) == value)
    if wanted.created_after is not None:
        query = query.where(Message.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        query = query.where(Message.created_at < wanted.created_before)
    return query


async def page(
    s: AsyncSession, wanted: MessageFilter, after_id: int | None, limit: int, *, newest_first: bool = False
) -> list[Message]:
    """Messages behind one, by id: oldest first, or newest first."""
    query = matching(wanted)
    if after_id is not None:
        query = query.where(Message.id < after_id if newest_first else Message.id > after_id)
    return list(await s.scalars(query.order_by(Message.id.desc() if newest_first else Message.id).limit(limit)))


async def history(s: AsyncSession, message_id: int) -> list[MessageEvent]:
    """What happened to a message, in the order in which it happened."""
    query = select(MessageEvent).where(MessageEvent.message_id == message_id)
    return list(await s.scalars(query.order_by(MessageEvent.at, MessageEvent.status)))


async def forget(s: AsyncSession, contact: Forgotten) -> None:
    """Deletes a contact's messages, also those to its other numbers, unless they are another contact's."""
    nobodys = and_(Message.phone.in_(contact.others), Message.contact_id.is_(None))
    its = or_(Message.phone == contact.phone, Message.contact_id == contact.id, nobodys)
    await s.execute(delete(Message).where(its))


# Messages for exports: which ones, by a single look, and then the rows in portions


_PORTION = 5_000
_CHOSEN = Message.id.in_(bindparam("chosen", expanding=True))


async def ids(s: AsyncSession, wanted: MessageFilter) -> array[int]:
    """The ids of the messages that a filter lets through, in order; eight bytes each.

    Paging through the filter itself would make SQLite sort all messages of a status or a time for every page.
    """
    found = array("q")
    result = await s.stream(matching(wanted).with_only_columns(Message.id).order_by(Message.id))
    async for portion in result.scalars().partitions(_PORTION):
        found.extend(portion)
    return found


async def rows(s: AsyncSession, chosen: Sequence[int], columns: Sequence[str]) -> Sequence[Row[Any]]:
    """Some columns of some messages, by id; those that are gone are left out. Give a thousand at most."""
    query = select(*(getattr(Message, name) for name in columns)).where(_CHOSEN)
    return (await s.execute(query.order_by(Message.id), {"chosen": chosen})).all()
