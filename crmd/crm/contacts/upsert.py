"""Contacts in bulk: new ones are added, existing ones get what is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts.phones import forms
from crmd.crm.contacts.tables import Contact, ContactTag
from crmd.crm.database.types import utc_now
from crmd.crm.database.upsert import insert_into

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
    known = await _lock(s, persons.values())
    counts = UpsertCounts()
    # New ones in the same order everywhere: two upserts at the same time wait for each other's.
    phones = sorted(by_phone)
    for begin in range(0, len(phones), CHUNK_ROWS):
        await _upsert_chunk(s, [by_phone[phone] for phone in phones[begin : begin + CHUNK_ROWS]], known, counts)
    return counts


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


async def _upsert_chunk(
    s: AsyncSession, rows: list[ContactRow], locked: Mapping[str, _Known], counts: UpsertCounts
) -> None:
    known = {row.phone: locked[row.phone] for row in rows if row.phone in locked}
    created = await _insert(s, [row for row in rows if row.phone not in known])
    lost = [row.phone for row in rows if row.phone not in known and row.phone not in created]
    if lost:  # another daemon added them since we looked
        met = await _lock(s, (await people.behind(s, lost)).values())
        known |= {phone: met[phone] for phone in lost if phone in met}
    ids = created | {phone: one.id for phone, one in known.items()}
    tagged = await _add_tags(s, ((ids[row.phone], tag) for row in rows for tag in row.tags))
    updated = await _update(s, [(known[row.phone], row) for row in rows if row.phone in known], tagged)
    counts.created += len(created)
    counts.updated += updated
    counts.unchanged += len(known) - updated


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
