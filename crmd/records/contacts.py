"""Contacts: found, added, changed, and forgotten."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Executable, Select, bindparam, delete, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.records.contact_filter import ContactFilter as ContactFilter
from crmd.records.contact_filter import matching as matching
from crmd.records.contact_upsert import ContactRow as ContactRow
from crmd.records.contact_upsert import UpsertCounts as UpsertCounts
from crmd.records.contact_upsert import upsert as upsert
from crmd.records.phones import normal_phone as normal_phone
from crmd.records.tables import Campaign, CampaignRecipient, Contact, ContactTag, FlowRun, Message
from crmd.records.types import Chars, utc_now
from crmd.records.upsert import insert_into

MAX_NAME = 200
"""Characters."""
MAX_EMAIL = 254
MAX_TAG = 64
MAX_ATTRIBUTE_NAME = 64
MAX_ATTRIBUTES = 200
"""Attributes of one contact."""


@dataclass(frozen=True, slots=True)
class ContactView:
    """A contact with its tags, as it was when it was read."""

    id: int
    phone: str
    name: str | None
    email: str | None
    tags: tuple[str, ...]
    """Sorted."""
    attributes: dict[str, Any]
    opted_out_at: datetime | None
    last_inbound_at: datetime | None
    created_at: datetime
    updated_at: datetime


_COLUMNS = tuple(getattr(Contact, one.name) for one in fields(ContactView) if one.name != "tags")
# Put together once: a list that `in_` is given itself stays in a reference cycle until the collector comes by.
_TAGGED = select(ContactTag.contact_id, ContactTag.tag).where(
    ContactTag.contact_id.in_(bindparam("ids", expanding=True))
)


async def by_phone(s: AsyncSession, phone: str) -> Contact | None:
    """The contact with a number in E.164."""
    return (await s.scalars(select(Contact).where(Contact.phone == phone))).one_or_none()


async def ensure(s: AsyncSession, phone: str, name: str | None = None) -> Contact:
    """The contact with a number, added if there is none. The name is taken where none is known."""
    now = utc_now()
    values: dict[str, Any] = {"phone": phone, "name": name, "attributes": {}, "created_at": now, "updated_at": now}
    await s.execute(insert_into(s, Contact).values(**values).on_conflict_do_nothing())
    contact = (await s.scalars(select(Contact).where(Contact.phone == phone))).one()
    if contact.name is None and name is not None:
        contact.name = name
        await s.flush()
    return contact


async def set_attribute(s: AsyncSession, contact_id: int, name: str, value: Any) -> bool:
    """Sets an attribute; None takes it away. False where there is no such contact; raises ValueError."""
    check_attribute_name(name)
    contact = await s.get(Contact, contact_id, with_for_update=True, populate_existing=True)
    if contact is None:
        return False
    attributes = {**contact.attributes, name: value}
    if value is None:
        del attributes[name]
    if len(attributes) > MAX_ATTRIBUTES:
        raise ValueError(f"a contact has at most {MAX_ATTRIBUTES} attributes")
    contact.attributes = attributes
    await s.flush()
    return True


async def add_tag(s: AsyncSession, contact_id: int, tag: str) -> bool:
    """Adds a tag; False where the contact has it, or there is no such contact. Raises ValueError."""
    check_tag(tag)
    contact = select(Contact.id, literal(tag, Chars)).where(Contact.id == contact_id)
    statement = insert_into(s, ContactTag).from_select(["contact_id", "tag"], contact)
    return await _touched(s, contact_id, statement.on_conflict_do_nothing().returning(ContactTag.contact_id))


async def remove_tag(s: AsyncSession, contact_id: int, tag: str) -> bool:
    """Takes a tag away; False where the contact does not have it."""
    statement = delete(ContactTag).where(ContactTag.contact_id == contact_id, ContactTag.tag == tag)
    return await _touched(s, contact_id, statement.returning(ContactTag.contact_id))


async def tags(s: AsyncSession, contact_id: int) -> list[str]:
    """A contact's tags, sorted."""
    query = select(ContactTag.tag).where(ContactTag.contact_id == contact_id)
    return sorted(await s.scalars(query))


async def opt_out(s: AsyncSession, phone: str, at: datetime) -> bool:
    """Notes that a number wants no more messages, known or not; False where that was so before."""
    await ensure(s, phone)
    statement = update(Contact).where(Contact.phone == phone, Contact.opted_out_at.is_(None))
    changed = await s.scalars(statement.values(opted_out_at=at).returning(Contact.id))
    return changed.one_or_none() is not None


async def opt_in(s: AsyncSession, phone: str) -> bool:
    """Notes that a number wants messages again; False where nothing else was known."""
    statement = update(Contact).where(Contact.phone == phone, Contact.opted_out_at.is_not(None))
    changed = await s.scalars(statement.values(opted_out_at=None).returning(Contact.id))
    return changed.one_or_none() is not None


async def view(s: AsyncSession, contact_id: int) -> ContactView | None:
    """A contact with its tags."""
    found = await _views(s, select(*_COLUMNS).where(Contact.id == contact_id))
    return found[0] if found else None


async def page(s: AsyncSession, wanted: ContactFilter, after_id: int | None, limit: int) -> list[ContactView]:
    """Contacts that a filter lets through, by id, after one."""
    query = matching(wanted).with_only_columns(*_COLUMNS).order_by(Contact.id).limit(limit)
    return await _views(s, query if after_id is None else query.where(Contact.id > after_id))


async def forget(s: AsyncSession, contact_id: int) -> bool:
    """Deletes a contact, its messages, flow runs and its part in finished campaigns; False where there is none.

    Of campaigns that still run the number stays: without it the next batch would write to it once more.
    """
    phone = await s.scalar(select(Contact.phone).where(Contact.id == contact_id).with_for_update())
    if phone is None:
        return False
    # By campaign: their index begins with it.
    part = CampaignRecipient.phone == phone
    finished = select(Campaign.id).where(Campaign.finished_at.is_not(None))
    await s.execute(delete(CampaignRecipient).where(part, CampaignRecipient.campaign_id.in_(finished)))
    running = select(Campaign.id).where(Campaign.finished_at.is_(None))
    kept = update(CampaignRecipient).where(part, CampaignRecipient.campaign_id.in_(running))
    await s.execute(kept.values(variables={}, contact_id=None))
    await s.execute(delete(Message).where(Message.phone == phone))
    await s.execute(delete(FlowRun).where(FlowRun.contact_id == contact_id))
    await s.execute(delete(Contact).where(Contact.id == contact_id))
    return True


def check_tag(tag: str) -> str:
    """The tag; raises ValueError where it cannot be one."""
    if not tag.strip() or tag != tag.strip() or len(tag) > MAX_TAG:
        raise ValueError(f"a tag has 1 to {MAX_TAG} characters, without spaces around it")
    return tag


def check_attribute_name(name: str) -> str:
    """The name; raises ValueError where no attribute can have it."""
    if not name.strip() or name != name.strip() or len(name) > MAX_ATTRIBUTE_NAME:
        raise ValueError(f"an attribute's name has 1 to {MAX_ATTRIBUTE_NAME} characters, without spaces around it")
    return name


async def _touched(s: AsyncSession, contact_id: int, statement: Executable) -> bool:
    """Runs a statement that returns a row where it changed something; then the contact is changed too."""
    changed = (await s.scalars(statement)).first() is not None
    if changed:
        await s.execute(update(Contact).where(Contact.id == contact_id).values(updated_at=utc_now()))
    return changed


async def _views(s: AsyncSession, query: Select[Any]) -> list[ContactView]:
    rows = (await s.execute(query)).all()
    tags_of: dict[int, list[str]] = {row.id: [] for row in rows}
    if tags_of:
        for contact_id, tag in await s.execute(_TAGGED, {"ids": list(tags_of)}):
            tags_of[contact_id].append(tag)
    return [ContactView(**row._mapping, tags=tuple(sorted(tags_of[row.id]))) for row in rows]
