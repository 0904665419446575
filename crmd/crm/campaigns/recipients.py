"""Who campaigns go to: one row for each (campaign, phone), so that nobody gets a message twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Select, delete, exists, func, literal, null, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.campaigns.progress import SendProgress
from crmd.crm.campaigns.repository import CampaignStatus
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.contacts import people
from crmd.crm.contacts.people import Person
from crmd.crm.contacts.phones import forms
from crmd.crm.contacts.repository import Forgotten
from crmd.crm.contacts.tables import Contact, ContactTag
from crmd.crm.database.types import Json
from crmd.crm.database.upsert import insert_into
from crmd.crm.messages.tables import Message

MAX_REASON = 200
MAX_REASONS = 50
"""Different reasons that `skipped_reasons` lists, the most frequent first."""
NEWEST_MESSAGES = 50
_TABLE: Any = CampaignRecipient.__table__


class RecipientState(StrEnum):
    """How far a recipient's message is."""

    PENDING = "pending"
    QUEUED = "queued"
    """Its job is in the store, or was there."""
    SKIPPED = "skipped"
    """It gets none, for the reason given."""


@dataclass(frozen=True, slots=True)
class NewRecipient:
    """Somebody that a campaign goes to; with a reason: does not go to."""

    phone: str
    """E.164; what was given in its place where that is not a number."""
    variables: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """A recipient whose message is to be queued."""

    id: int
    phone: str
    variables: dict[str, Any]
    contact: Contact | None
    tags: tuple[str, ...]
    person: Person | None = None
    repeats: bool = False
    """Whether the same person is an earlier recipient of the campaign, by another number."""


def once_of(campaign_id: int, recipient_id: int) -> str:
    """The word under which a recipient's message goes out once."""
    return f"campaign:{campaign_id}:{recipient_id}"


def key_of(campaign_id: int, recipient_id: int, round_: int) -> str:
    """The key of the message's job in a round of the campaign, from 0."""
    once = once_of(campaign_id, recipient_id)
    return f"{once}:{round_}" if round_ else once


async def add(s: AsyncSession, campaign_id: int, rows: Sequence[NewRecipient]) -> int:
    """Adds recipients that are not there yet; says how many those were."""
    if not rows:
        return 0
    values = [
        {
            "campaign_id": campaign_id,
            "contact_id": None,
            "phone": row.phone,
            "variables": dict(row.variables),
            "state": (RecipientState.SKIPPED if row.reason else RecipientState.PENDING).value,
            "reason": row.reason and row.reason[:MAX_REASON],
        }
        for row in rows
    ]
    insert = insert_into(s, CampaignRecipient).on_conflict_do_nothing().returning(_TABLE.c.id)
    connection = await s.connection()
    return len((await connection.execute(insert, values)).all())


async def add_contacts(
    s: AsyncSession, campaign_id: int, contacts: Select[Any], after_id: int, limit: int
) -> int | None:
    """Adds the next contacts of a query as recipients; returns the last one's id, None where there are no more."""
    chunk = contacts.where(Contact.id > after_id).with_only_columns(Contact.id, maintain_column_froms=True)
    ids = chunk.order_by(Contact.id).limit(limit).subquery()
    last: int | None = await s.scalar(select(func.max(ids.c.id)))
    if last is None:
        return None
    rows = contacts.where(Contact.id > after_id, Contact.id <= last).with_only_columns(
        literal(campaign_id),
        Contact.id,
        Contact.phone,
        literal({}, Json),
        literal(RecipientState.PENDING.value),
        null(),
        maintain_column_froms=True,
    )
    names = ["campaign_id", "contact_id", "phone", "variables", "state", "reason"]
    insert = insert_into(s, CampaignRecipient).from_select(names, rows.order_by(Contact.id))
    await s.execute(insert.on_conflict_do_nothing())
    return last


async def pending(s: AsyncSession, campaign_id: int, limit: int) -> list[Recipient]:
    """The next recipients whose messages are to be queued, with what is known of them as contacts."""
    query = (
        select(CampaignRecipient)
        .where(
            CampaignRecipient.campaign_id == campaign_id, CampaignRecipient.state == RecipientState.PENDING.value
        )
        .order_by(CampaignRecipient.id)
        .limit(limit)
    )
    rows = (await s.scalars(query)).all()
    persons = await people.behind(s, {one.phone for one in rows})
    ids = [person.contact.id for person in persons.values()]
    contacts = {one.id: one for one in await s.scalars(select(Contact).where(Contact.id.in_(ids)))} if ids else {}
    tags = await _tags(s, ids)
    repeated = await _repeated(s, campaign_id, rows, persons)
    found = []
    for one in rows:
        person = persons.get(one.phone)
        contact_id = person.contact.id if person else 0
        known = contacts.get(contact_id), tags.get(contact_id, ())
        found.append(Recipient(one.id, one.phone, one.variables, *known, person, one.id in repeated))
    return found


async def mark_queued(s: AsyncSession, ids: Sequence[int]) -> None:
    """The jobs of these recipients' messages are in the store."""
    await _mark(s, ids, RecipientState.QUEUED, None)


async def mark_skipped(s: AsyncSession, reasons: Mapping[int, str]) -> None:
    """These recipients get no message, for the reason given."""
    by_reason: dict[str, list[int]] = {}
    for recipient_id, reason in reasons.items():
        by_reason.setdefault(reason[:MAX_REASON], []).append(recipient_id)
    for reason, ids in by_reason.items():
        await _mark(s, ids, RecipientState.SKIPPED, reason)


async def suspend(s: AsyncSession, ids: Sequence[int]) -> set[int]:
    """Takes back messages that were about to be sent: they are queued again when their campaign goes on.

    Gives the recipients whose campaign is still paused: where it was just resumed they are left as they are.
    """
    paused = (
        select(Campaign.id)
        .where(Campaign.status == CampaignStatus.PAUSED)
        .where(Campaign.id.in_(select(CampaignRecipient.campaign_id).where(CampaignRecipient.id.in_(ids))))
    )
    campaigns = (await s.scalars(paused.order_by(Campaign.id).with_for_update())).all()
    where = CampaignRecipient.id.in_(ids), CampaignRecipient.campaign_id.in_(campaigns)
    suspended = set(await s.scalars(select(CampaignRecipient.id).where(*where)))
    if suspended:
        await take_back(s, sorted(suspended))
    return suspended


async def counts(s: AsyncSession, campaign_id: int) -> dict[str, int]:
    """How many of a campaign's recipients are in each state; all states are named."""
    query = select(CampaignRecipient.state, func.count()).where(CampaignRecipient.campaign_id == campaign_id)
    rows = (await s.execute(query.group_by(CampaignRecipient.state))).all()
    found = {state: count for state, count in rows}  # noqa: C416 - mypy takes no rows for pairs
    return {state.value: found.get(state.value, 0) for state in RecipientState}


async def skipped_reasons(s: AsyncSession, campaign_id: int) -> dict[str, int]:
    """How many recipients were skipped for each reason, the most frequent first."""
    number = func.count()
    query = (
        select(CampaignRecipient.reason, number)
        .where(CampaignRecipient.campaign_id == campaign_id)
        .where(CampaignRecipient.state == RecipientState.SKIPPED.value)
        .group_by(CampaignRecipient.reason)
        .order_by(number.desc(), CampaignRecipient.reason)
        .limit(MAX_REASONS)
    )
    return {reason or "": count for reason, count in await s.execute(query)}


async def unsent(s: AsyncSession, campaign_id: int, after_id: int, limit: int) -> list[int]:
    """Queued recipients whose messages have not begun, by id."""
    query = (
        select(CampaignRecipient.id)
        .where(CampaignRecipient.campaign_id == campaign_id)
        .where(CampaignRecipient.state == RecipientState.QUEUED.value, CampaignRecipient.id > after_id)
        .where(~exists().where(Message.recipient_id == CampaignRecipient.id))
        .order_by(CampaignRecipient.id)
        .limit(limit)
    )
    return list(await s.scalars(query))


async def take_back(s: AsyncSession, ids: Sequence[int]) -> None:
    """These queued recipients are pending again."""
    where = update(CampaignRecipient).where(CampaignRecipient.id.in_(ids))
    still_queued = where.where(CampaignRecipient.state == RecipientState.QUEUED.value)
    await s.execute(still_queued.values(state=RecipientState.PENDING.value))


async def send_progress(s: AsyncSession, campaign_id: int, since_message_id: int = 0) -> SendProgress:
    """How far sending is. It looks who came last and counts no jobs, as those can be cancelled or lost."""
    ours = Message.campaign_id == campaign_id
    newest = select(Message.id, Message.recipient_id).where(ours).order_by(Message.id.desc())
    rows = (await s.execute(newest.limit(NEWEST_MESSAGES))).all()
    last = max((row.recipient_id for row in rows if row.recipient_id), default=0)
    behind = select(func.count()).where(
        CampaignRecipient.campaign_id == campaign_id,
        CampaignRecipient.state == RecipientState.QUEUED.value,
        CampaignRecipient.id > last,
    )
    begun = select(func.count()).where(ours, Message.id > since_message_id)
    return SendProgress(rows[0].id if rows else 0, await s.scalar(behind) or 0, await s.scalar(begun) or 0, last)


async def forget(s: AsyncSession, contact: Forgotten) -> None:
    """Deletes a contact's part in finished campaigns.

    Of campaigns that still run the number stays: without it the next batch would write to it once more.
    """
    # By campaign: their index begins with it.
    part = CampaignRecipient.phone == contact.phone
    finished = select(Campaign.id).where(Campaign.finished_at.is_not(None))
    await s.execute(delete(CampaignRecipient).where(part, CampaignRecipient.campaign_id.in_(finished)))
    running = select(Campaign.id).where(Campaign.finished_at.is_(None))
    kept = update(CampaignRecipient).where(part, CampaignRecipient.campaign_id.in_(running))
    await s.execute(kept.values(variables={}, contact_id=None))


async def _mark(s: AsyncSession, ids: Sequence[int], state: RecipientState, reason: str | None) -> None:
    still_pending = CampaignRecipient.state == RecipientState.PENDING.value
    where = update(CampaignRecipient).where(CampaignRecipient.id.in_(ids), still_pending)
    await s.execute(where.values(state=state.value, reason=reason))


async def _repeated(
    s: AsyncSession, campaign_id: int, rows: Sequence[CampaignRecipient], persons: Mapping[str, Person]
) -> set[int]:
    """Those of the recipients that come after another number of the same person."""
    contacts = {one.id: one.phone for person in persons.values() for one in person.contacts}
    numbers = await people.numbers_of(s, contacts)
    others: dict[int, set[str]] = {}
    for row in rows:
        person = persons.get(row.phone)
        known = (numbers[one.id] for one in person.contacts) if person else ()
        same = {*forms(row.phone), *(number for some in known for number in some)} - {row.phone}
        if same:
            others[row.id] = same
    if not others:
        return set()
    wanted = {number for same in others.values() for number in same}
    query = select(CampaignRecipient.phone, CampaignRecipient.id).where(
        CampaignRecipient.campaign_id == campaign_id,
        CampaignRecipient.phone.in_(wanted),
        CampaignRecipient.state != RecipientState.SKIPPED.value,
    )
    first = {phone: recipient_id for phone, recipient_id in await s.execute(query)}  # noqa: C416 - as above
    return {
        recipient_id
        for recipient_id, same in others.items()
        if any(first.get(number, recipient_id) < recipient_id for number in same)
    }


async def _tags(s: AsyncSession, contact_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    if not contact_ids:
        return {}
    query = select(ContactTag.contact_id, ContactTag.tag).where(ContactTag.contact_id.in_(contact_ids))
    found: dict[int, list[str]] = {}
    for contact_id, tag in await s.execute(query.order_by(ContactTag.contact_id, ContactTag.tag)):
        found.setdefault(contact_id, []).append(tag)
    return {contact_id: tuple(tags) for contact_id, tags in found.items()}
