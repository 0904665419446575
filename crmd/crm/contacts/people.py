"""Who is behind a number: a person may write under several, and be several contacts.

WhatsApp knows some people by another number than the one they are written to: without the ninth digit in Brazil,
with or without the 1 in Mexico and the 9 in Argentina. What the answer to a send says of it is kept as an identity
of the contact; before there is one, the rules of these countries say which numbers may be the same. Contacts are
never merged: what a person decides holds for all of them, and what is asked of a number is asked of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts.phones import forms, may_be_same
from crmd.crm.contacts.tables import Contact, ContactIdentity, WaNumber
from crmd.crm.database.upsert import insert_into

PHONE = "phone"
"""Kind of an identity: another number."""

_CONTACT: Any = Contact.__table__
_IDENTITY: Any = ContactIdentity.__table__
_KNOWN = [_CONTACT.c[name] for name in ("id", "phone", "opted_out_at", "marketing_stopped_at")]
_NUMBERS: Any = bindparam("numbers", expanding=True)
# Put together once: a list that `in_` is given itself stays in a reference cycle until the collector comes by.
_FIND = union_all(
    select(_CONTACT.c.phone.label("number"), *_KNOWN).where(_CONTACT.c.phone.in_(_NUMBERS)),
    select(_IDENTITY.c.value, *_KNOWN)
    .join(_CONTACT, _CONTACT.c.id == _IDENTITY.c.contact_id)
    .where(_IDENTITY.c.kind == PHONE, _IDENTITY.c.value.in_(_NUMBERS)),
)


@dataclass(frozen=True, slots=True)
class Known:
    """One contact of a person."""

    id: int
    phone: str
    opted_out_at: datetime | None
    marketing_stopped_at: datetime | None


@dataclass(frozen=True, slots=True)
class Person:
    """The contacts that a number stands for, one at least, the likeliest first."""

    contacts: tuple[Known, ...]

    @property
    def contact(self) -> Known:
        """The one that has the number, else the one that WhatsApp knows by it, else one that may be meant."""
        return self.contacts[0]

    @property
    def ids(self) -> list[int]:
        """In ascending order, in which rows are locked."""
        return sorted(one.id for one in self.contacts)

    @property
    def opted_out(self) -> bool:
        """Whether the person wants no messages."""
        return any(one.opted_out_at is not None for one in self.contacts)

    @property
    def stopped_marketing(self) -> bool:
        """Whether the person wants no marketing."""
        return any(one.marketing_stopped_at is not None for one in self.contacts)


async def behind(s: AsyncSession, phones: Iterable[str]) -> dict[str, Person]:
    """The people behind numbers in E.164, a thousand or two at most; unknown numbers are left out."""
    asked = {phone: forms(phone) for phone in phones}
    if not asked:
        return {}
    rows = await s.execute(_FIND, {"numbers": sorted({one for same in asked.values() for one in same})})
    by_number: dict[str, list[Known]] = {}
    for number, *known in rows:
        by_number.setdefault(number, []).append(Known(*known))
    found: dict[str, Person] = {}
    for phone, same in asked.items():
        # The number itself before its other form, a contact's own number before an identity.
        ranked = [
            (place, one.phone != number, one.id, one)
            for place, number in enumerate(same)
            for one in by_number.get(number, ())
        ]
        if ranked:
            found[phone] = Person(tuple(dict.fromkeys(one for *_, one in sorted(ranked, key=_rank))))
    return found


async def one_behind(s: AsyncSession, phone: str) -> Person | None:
    """The person behind a number."""
    return (await behind(s, [phone])).get(phone)


async def lock(s: AsyncSession, ids: Sequence[int]) -> list[Contact]:
    """Contacts by id, kept for this transaction; rows that refer to them may be added meanwhile."""
    query = select(Contact).where(Contact.id.in_(ids)).order_by(Contact.id).with_for_update(key_share=True)
    return list(await s.scalars(query.execution_options(populate_existing=True)))


async def lock_behind(s: AsyncSession, phone: str) -> None:
    """Keeps all contacts of a person for this transaction, before it changes one of them."""
    person = await one_behind(s, phone)
    if person is not None:
        await lock(s, person.ids)


async def numbers_of(s: AsyncSession, contacts: Mapping[int, str]) -> dict[int, set[str]]:
    """All numbers of contacts, given with their phones by id: these, their other forms and the identities."""
    found = {contact_id: set(forms(phone)) for contact_id, phone in contacts.items()}
    if found:
        query = select(ContactIdentity.contact_id, ContactIdentity.value).where(
            ContactIdentity.contact_id.in_(found), ContactIdentity.kind == PHONE
        )
        for contact_id, value in await s.execute(query):
            found[contact_id].update(forms(value))
    return found


async def note_sent(s: AsyncSession, pairs: Iterable[tuple[str, str]], now: datetime) -> None:
    """What WhatsApp says of sends: the number that was written to, and the other one that it has for it.

    It is kept with the contacts that have either number, and for those to come. A number that cannot be the same
    person's is not believed.
    """
    taught = sorted({pair for pair in pairs if may_be_same(*pair)})
    known = await behind(s, {number for pair in taught for number in pair})
    links: list[dict[int, set[str]]] = []
    for phone, other in taught:
        linked: dict[int, set[str]] = {}
        for number, same in ((phone, other), (other, phone)):
            for contact in known[number].contacts if number in known else ():
                linked.setdefault(contact.id, set()).update({same} - {contact.phone})
        if linked:
            links.append(linked)
        else:
            values = {"phone": phone, "wa_phone": other, "created_at": now}
            await s.execute(insert_into(s, WaNumber).values(values).on_conflict_do_nothing())
    await _link(s, links, now)


async def written_to(s: AsyncSession, phone: str) -> set[str]:
    """Other numbers that sends have shown to be the same, before there was a contact to keep them with."""
    there = select(WaNumber.wa_phone).where(WaNumber.phone == phone)
    back = select(WaNumber.phone).where(WaNumber.wa_phone == phone)
    return {*await s.scalars(there), *await s.scalars(back)}


async def add_numbers(s: AsyncSession, contact_id: int, numbers: Iterable[str], now: datetime) -> None:
    """Notes other numbers of a contact."""
    await _link(s, [{contact_id: set(numbers)}], now)


def _rank(found: tuple[int, bool, int, Known]) -> tuple[int, bool, int]:
    return found[:3]


async def _link(s: AsyncSession, links: Sequence[Mapping[int, set[str]]], now: datetime) -> None:
    """Gives contacts identities; where some turn out to be one person, the later of their words holds for all.

    Of all links the identities come first, then the locks, by id like everybody's.
    """
    pairs = {(contact_id, value) for linked in links for contact_id, values in linked.items() for value in values}
    if pairs:
        rows = [
            {"contact_id": contact_id, "kind": PHONE, "scope": "", "value": value, "created_at": now}
            for contact_id, value in sorted(pairs)
        ]
        connection = await s.connection()
        await connection.execute(insert_into(s, ContactIdentity).on_conflict_do_nothing(), rows)
    shared = [linked for linked in links if len(linked) > 1]
    if shared:
        locked = {one.id: one for one in await lock(s, sorted({one for linked in shared for one in linked}))}
        for linked in shared:
            _agree([locked[one] for one in sorted(linked) if one in locked])
        await s.flush()


def _agree(contacts: Sequence[Contact]) -> None:
    """The later word, and the later choice, of several contacts holds for each of them."""
    said = [(_said_at(one), one) for one in contacts]
    spoken = [(at, one.id, one) for at, one in said if at is not None]
    if spoken:
        *_, last = max(spoken)
        word = last.opted_out_at, last.opt_word_at, last.opt_word_wamid
        for one in contacts:
            one.opted_out_at, one.opt_word_at, one.opt_word_wamid = word
    chosen = [(at, one.id, one) for one in contacts if (at := one.marketing_choice_at) is not None]
    if chosen:
        *_, last = max(
            chosen, key=lambda choice: (choice[0], choice[2].marketing_stopped_at is not None, choice[1])
        )
        stopped_at, chosen_at = last.marketing_stopped_at, last.marketing_choice_at
        for one in contacts:
            one.marketing_stopped_at, one.marketing_choice_at = stopped_at, chosen_at


def _said_at(contact: Contact) -> tuple[datetime, str] | None:
    """When the word that stands was said; an opt-out may have come from elsewhere, such as an import."""
    at, wamid = contact.opt_word_at, contact.opt_word_wamid or ""
    if contact.opted_out_at is not None and (at is None or contact.opted_out_at > at):
        return contact.opted_out_at, ""
    return None if at is None else (at, wamid)
