"""Contacts: found, added, changed and forgotten; one by one and in bulk."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Executable,
    Select,
    and_,
    bindparam,
    collate,
    delete,
    func,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts.filters import ContactFilter, matching
from crmd.crm.contacts.phones import forms
from crmd.crm.contacts.tables import Contact, ContactTag, WaNumber
from crmd.crm.database.types import Instant, utc_now
from crmd.crm.database.upsert import insert_into

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
    opt_word_at: datetime | None
    opt_word_wamid: str | None
    marketing_stopped_at: datetime | None
    marketing_choice_at: datetime | None
    last_inbound_at: datetime | None
    created_at: datetime
    updated_at: datetime


_COLUMNS = tuple(getattr(Contact, one.name) for one in fields(ContactView) if one.name != "tags")
# Put together once: a list that `in_` is given itself stays in a reference cycle until the collector comes by.
_TAGGED = select(ContactTag.contact_id, ContactTag.tag).where(
    ContactTag.contact_id.in_(bindparam("ids", expanding=True))
)


async def by_phone(s: AsyncSession, phone: str) -> Contact | None:
    """The contact that a number in E.164 stands for, in whatever form."""
    person = await people.one_behind(s, phone)
    return await s.get(Contact, person.contact.id) if person else None


async def ensure(s: AsyncSession, phone: str, name: str | None = None) -> Contact:
    """The contact that a number stands for, added if there is none. The name is taken where none is known."""
    contact = await by_phone(s, phone) or await _by_earlier_sends(s, phone) or await _add(s, phone)
    if contact.name is None and name is not None:
        contact.name = name
        await s.flush()
    return contact


async def set_attribute(s: AsyncSession, contact_id: int, name: str, value: Any) -> bool:
    """Sets an attribute; None takes it away. False where there is no such contact; raises ValueError."""
    check_attribute_name(name)
    found = await people.lock(s, [contact_id])
    if not found:
        return False
    [contact] = found
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
    adding = insert_into(s, ContactTag).values(contact_id=contact_id, tag=tag).on_conflict_do_nothing()
    return await _change_tags(s, contact_id, adding.returning(ContactTag.contact_id))


async def remove_tag(s: AsyncSession, contact_id: int, tag: str) -> bool:
    """Takes a tag away; False where the contact does not have it."""
    removing = delete(ContactTag).where(ContactTag.contact_id == contact_id, ContactTag.tag == tag)
    return await _change_tags(s, contact_id, removing.returning(ContactTag.contact_id))


async def tags(s: AsyncSession, contact_id: int) -> list[str]:
    """A contact's tags, sorted."""
    query = select(ContactTag.tag).where(ContactTag.contact_id == contact_id)
    return sorted(await s.scalars(query))


async def opt_out(s: AsyncSession, phone: str, at: datetime, wamid: str = "") -> bool:
    """Notes that a number wants no more messages, known or not; False where that was so before.

    Of words for and against messages the later one holds, in whatever order they are noted: by `at`, and of two of
    the same second by the message's id, compared byte by byte.
    """
    await ensure(s, phone)
    later = _later_word(s, at, wamid)
    since = func.coalesce(Contact.opted_out_at, literal(at, Instant))
    changes = {"opted_out_at": since, "opt_word_at": at, "opt_word_wamid": wamid}
    return any(one.opted_out_at is None for one in await _decide(s, phone, later, changes))


async def opt_in(s: AsyncSession, phone: str, at: datetime | None = None, wamid: str = "") -> bool:
    """Notes that a number wants messages again; False where nothing else was known.

    Of words the later one holds, as for `opt_out`. Without `at` it is decided now, whatever was said before.
    """
    if at is not None:
        await ensure(s, phone)  # an older word against messages may still come
    said_at, since = at or utc_now(), Contact.opted_out_at
    # An opt-out that came from elsewhere, such as an import, has no word; it stands against one of its instant.
    own = and_(since == said_at, Contact.opt_word_at == said_at)
    later = and_(_later_word(s, said_at, wamid), or_(since.is_(None), since < said_at, own))
    changes = {"opted_out_at": None, "opt_word_at": said_at, "opt_word_wamid": wamid}
    found = await _decide(s, phone, true() if at is None else later, changes)
    return any(one.opted_out_at is not None for one in found)


async def stop_marketing(s: AsyncSession, phone: str, at: datetime) -> bool:
    """Notes that a number wants no marketing, known or not; False where that was so before.

    Of choices the later one holds, in whatever order they are noted; of two of the same second the one against.
    """
    await ensure(s, phone)
    chosen = Contact.marketing_choice_at
    since = func.coalesce(Contact.marketing_stopped_at, literal(at, Instant))
    changes = {"marketing_stopped_at": since, "marketing_choice_at": at}
    found = await _decide(s, phone, or_(chosen.is_(None), chosen <= at), changes)
    return any(one.marketing_stopped_at is None for one in found)


async def resume_marketing(s: AsyncSession, phone: str, at: datetime) -> bool:
    """Notes that a number wants marketing again; False where nothing else was known, or a later choice holds."""
    await ensure(s, phone)
    chosen = Contact.marketing_choice_at
    changes = {"marketing_stopped_at": None, "marketing_choice_at": at}
    found = await _decide(s, phone, or_(chosen.is_(None), chosen < at), changes)
    return any(one.marketing_stopped_at is not None for one in found)


async def view(s: AsyncSession, contact_id: int) -> ContactView | None:
    """A contact with its tags."""
    found = await _views(s, select(*_COLUMNS).where(Contact.id == contact_id))
    return found[0] if found else None


async def page(s: AsyncSession, wanted: ContactFilter, after_id: int | None, limit: int) -> list[ContactView]:
    """Contacts that a filter lets through, by id, after one."""
    query = matching(wanted).with_only_columns(*_COLUMNS).order_by(Contact.id).limit(limit)
    return await _views(s, query if after_id is None else query.where(Contact.id > after_id))


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A contact that is about to be deleted."""

    id: int
    phone: str
    others: frozenset[str]
    """Its other numbers."""


Forget = Callable[[AsyncSession, Forgotten], Awaitable[None]]
"""Deletes what a feature keeps of a contact."""


async def forget(s: AsyncSession, contact_id: int, also: Iterable[Forget]) -> bool:
    """Deletes a contact, and what each of `also` keeps of it; False where there is none."""
    phone = await s.scalar(select(Contact.phone).where(Contact.id == contact_id).with_for_update())
    if phone is None:
        return False
    others = (await people.numbers_of(s, {contact_id: phone}))[contact_id]
    forgotten = Forgotten(contact_id, phone, frozenset(others))
    for forget_it in also:
        await forget_it(s, forgotten)
    known = others | {phone}
    await s.execute(delete(WaNumber).where(or_(WaNumber.phone.in_(known), WaNumber.wa_phone.in_(known))))
    await s.execute(delete(Contact).where(Contact.id == contact_id))
    return True


async def _by_earlier_sends(s: AsyncSession, phone: str) -> Contact | None:
    """The contact that was added meanwhile under the number that messages went to."""
    for other in sorted(await people.written_to(s, phone)):
        contact = await by_phone(s, other)
        if contact is not None:
            await people.add_numbers(s, contact.id, [phone], utc_now())
            return contact
    return None


async def _add(s: AsyncSession, phone: str) -> Contact:
    """A new contact, unless another transaction was faster."""
    now = utc_now()
    values: dict[str, Any] = {"phone": phone, "attributes": {}, "created_at": now, "updated_at": now}
    adding = insert_into(s, Contact).values(**values).on_conflict_do_nothing()
    made = await s.scalar(adding.returning(Contact.id))
    if made is not None:
        await people.add_numbers(s, made, await people.written_to(s, phone), now)
    return (await s.scalars(select(Contact).where(Contact.phone == phone))).one()


def _later_word(s: AsyncSession, at: datetime, wamid: str) -> ColumnElement[bool]:
    """Whether a word is later than the one that holds. PostgreSQL would compare text by its locale."""
    known: Any = Contact.opt_word_wamid
    known_at = Contact.opt_word_at
    is_sqlite = s.get_bind().dialect.name == "sqlite"
    same_second = and_(known_at == at, (known if is_sqlite else collate(known, "C")) < wamid)
    return or_(known_at.is_(None), known_at < at, same_second)


async def _decide(
    s: AsyncSession, phone: str, holds: ColumnElement[bool], changes: dict[str, Any]
) -> list[people.Known]:
    """Changes all contacts of a person for which a condition holds, which the same statement looks at.

    Returns those that it changed, as they were before.
    """
    person = await people.one_behind(s, phone)
    if person is None:
        return []
    if len(person.contacts) > 1:
        await people.lock(s, person.ids)  # always in the same order
    deciding = update(Contact).where(Contact.id.in_(person.ids), holds).values(**changes).returning(Contact.id)
    changed = set(await s.scalars(deciding.execution_options(synchronize_session=False)))
    return [one for one in person.contacts if one.id in changed]


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


async def _change_tags(s: AsyncSession, contact_id: int, statement: Executable) -> bool:
    """Runs a statement that returns a row where it changed something; then the contact is changed too."""
    # The contact before its tags, as upserts do.
    changed = bool(await people.lock(s, [contact_id])) and (await s.scalars(statement)).first() is not None
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


# Contacts in bulk: new ones are added, existing ones get what is given


CHUNK_ROWS = 1_000
"""Rows of one round of statements."""

_CONTACT: Any = Contact.__table__
_TAG: Any = ContactTag.__table__
# Put together once: a list that `in_` is given itself stays in a reference cycle until the collector comes by.
_LOCK = (
    select(*(_CONTACT.c[name] for name in ("phone", "id", "name", "email", "attributes")))
    .where(_CONTACT.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(_CONTACT.c.id)
    .with_for_update(key_share=True)
)
_UPDATE = (
    update(_CONTACT)
    .where(_CONTACT.c.id == bindparam("row"))
    .values({name: bindparam(name) for name in ("name", "email", "attributes", "updated_at")})
)


@dataclass(slots=True)
class ContactRow:
    """What is known of a contact. None: nothing is said about it."""

    phone: str
    """E.164; `normal_phone` makes it so."""
    name: str | None = None
    email: str | None = None
    tags: Sequence[str] = ()
    """Tags to add; others stay."""
    attributes: dict[str, Any] = field(default_factory=dict)
    """Attributes to set; others stay."""


@dataclass(slots=True)
class UpsertCounts:
    """What became of the contacts of an upsert, each counted once."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0


async def upsert(s: AsyncSession, rows: Sequence[ContactRow]) -> UpsertCounts:
    """Adds or updates contacts by phone, in whatever form; of several rows of one contact later ones win.

    All rows are one transaction, that of the session: a thousand or two are a good measure.
    """
    phones = list(dict.fromkeys(row.phone for row in rows))
    persons: dict[str, people.Person] = {}
    for begin in range(0, len(phones), CHUNK_ROWS):
        persons |= await people.behind(s, phones[begin : begin + CHUNK_ROWS])
    by_phone = _merged(_as_known(rows, persons))
    created, known = await _add_and_lock(s, by_phone, persons)
    ids = created | {phone: one.id for phone, one in known.items()}
    tagged = await _add_tags(s, ((ids[phone], tag) for phone, row in by_phone.items() for tag in row.tags))
    updated = await _update(s, [(one, by_phone[phone]) for phone, one in known.items()], tagged)
    return UpsertCounts(len(created), updated, len(known) - updated)


def _as_known(rows: Sequence[ContactRow], persons: Mapping[str, people.Person]) -> list[ContactRow]:
    """The rows under the numbers that their contacts have: another form of a number meets the same contact."""
    met = {phone: person.contact.phone for phone, person in persons.items()}
    for phone in dict.fromkeys(row.phone for row in rows):  # of two forms of a new number the first one counts
        if phone not in met:
            met |= {form: phone for form in forms(phone) if form not in met}
    return [row if met[row.phone] == row.phone else replace(row, phone=met[row.phone]) for row in rows]


@dataclass(slots=True)
class _Known:
    """A contact that is there already."""

    id: int
    name: str | None
    email: str | None
    attributes: dict[str, Any]


async def _add_and_lock(
    s: AsyncSession, by_phone: Mapping[str, ContactRow], persons: Mapping[str, people.Person]
) -> tuple[dict[str, int], dict[str, _Known]]:
    """Adds the contacts that are not there, by phone, then locks the others, by id; returns both.

    In this order everywhere: whoever waits for a number that another transaction is adding holds no row for which
    that one may have to wait.
    """
    persons = dict(persons)
    created: dict[str, int] = {}
    missing = sorted(by_phone.keys() - {person.contact.phone for person in persons.values()})
    while True:
        for begin in range(0, len(missing), CHUNK_ROWS):
            chunk = missing[begin : begin + CHUNK_ROWS]
            created |= await _insert(s, [by_phone[phone] for phone in chunk])
            # The rest was added by other transactions since we looked.
            persons |= await people.behind(s, [phone for phone in chunk if phone not in created])
        locked = await _lock(s, persons.values())
        known = {phone: locked[phone] for phone in by_phone if phone in locked and phone not in created}
        missing = sorted(by_phone.keys() - created.keys() - known.keys())
        if not missing:  # else they were forgotten since we looked
            return created, known


async def _lock(s: AsyncSession, persons: Iterable[people.Person]) -> dict[str, _Known]:
    """Keeps all contacts of people for this transaction, by id like everybody else; returns them by phone."""
    ids = sorted({number for person in persons for number in person.ids})
    known: dict[str, _Known] = {}
    for begin in range(0, len(ids), CHUNK_ROWS):
        found = await s.execute(_LOCK, {"ids": ids[begin : begin + CHUNK_ROWS]})
        known |= {phone: _Known(*rest) for phone, *rest in found}
    return known


async def _insert(s: AsyncSession, rows: Sequence[ContactRow]) -> dict[str, int]:
    """Adds contacts; returns the ids of those that were not there."""
    if not rows:
        return {}
    now = utc_now()
    values = [
        {
            "phone": row.phone,
            "name": row.name,
            "email": row.email,
            "attributes": row.attributes,
            "created_at": now,
            "updated_at": now,
        }
        for row in rows
    ]
    c = _CONTACT.c
    added = await s.execute(insert_into(s, _CONTACT).on_conflict_do_nothing().returning(c.phone, c.id), values)
    return {row.phone: row.id for row in added}


async def _add_tags(s: AsyncSession, pairs: Iterable[tuple[int, str]]) -> set[int]:
    """Adds tags; returns the contacts that got one."""
    values = [{"contact_id": number, "tag": tag} for number, tag in dict.fromkeys(pairs)]
    if not values:
        return set()
    statement = insert_into(s, _TAG).on_conflict_do_nothing().returning(_TAG.c.contact_id)
    return set(await s.scalars(statement, values))


async def _update(s: AsyncSession, pairs: Sequence[tuple[_Known, ContactRow]], tagged: set[int]) -> int:
    """Writes what is given and differs; returns how many contacts that, or a tag, has changed."""
    now = utc_now()
    changes = []
    for known, row in pairs:
        name = known.name if row.name is None else row.name
        email = known.email if row.email is None else row.email
        attributes = {**known.attributes, **row.attributes}
        same = (name, email, attributes) == (known.name, known.email, known.attributes)
        if not same or known.id in tagged:
            changes.append(
                {"row": known.id, "name": name, "email": email, "attributes": attributes, "updated_at": now}
            )
    if changes:
        connection = await s.connection()
        await connection.execute(_UPDATE, changes)
    return len(changes)


def _merged(rows: Sequence[ContactRow]) -> dict[str, ContactRow]:
    merged: dict[str, ContactRow] = {}
    for row in rows:
        earlier = merged.get(row.phone)
        if earlier is None:
            merged[row.phone] = row
            continue
        merged[row.phone] = ContactRow(
            row.phone,
            earlier.name if row.name is None else row.name,
            earlier.email if row.email is None else row.email,
            (*earlier.tags, *row.tags),
            {**earlier.attributes, **row.attributes},
        )
    return merged


# Questions about contacts, and one change, that imports and exports put to many at once


_OPT_OUT = (
    update(_CONTACT)
    .where(_CONTACT.c.id == bindparam("row"), _CONTACT.c.opted_out_at.is_(None))
    .where(or_(_CONTACT.c.opt_word_at.is_(None), _CONTACT.c.opt_word_at < bindparam("at")))
    .values(opted_out_at=bindparam("at"))
)


async def existing(s: AsyncSession, phones: Sequence[str]) -> set[str]:
    """Those of the numbers that are contacts' already; give a thousand or two at most."""
    return set(await people.behind(s, phones))


async def opt_out_many(s: AsyncSession, pairs: Sequence[tuple[str, datetime]]) -> None:
    """Notes of contacts since when they want no messages; what is known earlier, or was said later, stands."""
    persons = await people.behind(s, {phone for phone, _ in pairs})
    rows = {(one.id, at) for phone, at in pairs if phone in persons for one in persons[phone].contacts}
    if rows:
        connection = await s.connection()
        await connection.execute(_OPT_OUT, [{"row": row, "at": at} for row, at in sorted(rows)])


async def extent(s: AsyncSession, wanted: ContactFilter) -> tuple[int, int]:
    """How many contacts a filter lets through, and the greatest id among them."""
    chosen = matching(wanted).with_only_columns(Contact.id).subquery()
    row = (await s.execute(select(func.count(), func.max(chosen.c.id)).select_from(chosen))).one()
    return row[0], row[1] or 0


async def attribute_names(s: AsyncSession, wanted: ContactFilter, limit: int) -> list[str]:
    """The names of the attributes that these contacts have, sorted; at most `limit`."""
    if s.get_bind().dialect.name == "postgresql":
        entry = func.jsonb_object_keys(Contact.attributes).table_valued("key").render_derived()
    else:
        entry = func.json_each(Contact.attributes).table_valued("key")
    query = select(entry.c.key).select_from(Contact).join(entry, true())
    condition = matching(wanted).whereclause
    if condition is not None:
        query = query.where(condition)
    return list(await s.scalars(query.distinct().order_by(entry.c.key).limit(limit)))
