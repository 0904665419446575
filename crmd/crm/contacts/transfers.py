"""Questions about contacts, and one change, that imports and exports put to many at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.contacts import people
from crmd.crm.contacts.filters import ContactFilter, matching
from crmd.crm.contacts.tables import Contact

_CONTACT: Any = Contact.__table__
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
    """The names of the attributes that these contacts have, sorted; the first so many."""
    if s.get_bind().dialect.name == "postgresql":
        entry = func.jsonb_object_keys(Contact.attributes).table_valued("key").render_derived()
    else:
        entry = func.json_each(Contact.attributes).table_valued("key")
    query = select(entry.c.key).select_from(Contact).join(entry, true())
    condition = matching(wanted).whereclause
    if condition is not None:
        query = query.where(condition)
    return list(await s.scalars(query.distinct().order_by(entry.c.key).limit(limit)))
