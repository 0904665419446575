"""Whose word holds: the later one, in whatever order and however many at once they are noted."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from itertools import permutations

from sqlalchemy import update

from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.filters import ContactFilter
from crmd.crm.contacts.repository import ContactRow, ContactView
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.database import Database
from tests.support.database import commit, fetch

PHONE = "+4915112345678"
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)

Word = tuple[str, datetime, str]


async def say(database: Database, word: Word, phone: str = PHONE) -> None:
    what, at, wamid = word
    await commit(database, contacts.opt_out if what == "out" else contacts.opt_in, phone, at, wamid)


async def contact(database: Database, phone: str = PHONE) -> ContactView:
    found = await fetch(database, contacts.by_phone, phone)
    assert found
    view = await fetch(database, contacts.view, found.id)
    assert view
    return view


async def is_out(database: Database, phone: str = PHONE) -> bool:
    return (await contact(database, phone)).opted_out_at is not None


async def test_the_later_word_holds_in_whatever_order_they_come(database: Database) -> None:
    words: list[list[Word]] = [
        [("out", AT + SECOND, "w1"), ("in", AT, "w2"), ("out", AT - SECOND, "w3")],
        [("in", AT + SECOND, "w1"), ("out", AT, "w2"), ("in", AT - SECOND, "w3")],
        [("out", AT, "wB"), ("in", AT, "wA"), ("in", AT, "w9")],
        [("in", AT, "wa"), ("out", AT, "wB"), ("out", AT, "w_")],
        [("out", AT, "w1"), ("in", AT + SECOND, "w0"), ("out", AT + 2 * SECOND, "w0"), ("in", AT, "w9")],
    ]
    number = 0
    for said in words:
        last = max(said, key=lambda word: word[1:])
        for order in permutations(said):
            number += 1
            phone = f"+49151{number:08}"
            for word in order:
                await say(database, word, phone)
            assert await is_out(database, phone) == (last[0] == "out"), order


async def test_the_later_word_holds_however_many_are_said_at_once(database: Database) -> None:
    generator = random.Random(11)
    for number in range(5):
        phone = f"+49151{number:08}"
        words: list[Word] = [
            (generator.choice(("in", "out")), AT + generator.randrange(4) * SECOND, f"w{n}") for n in range(12)
        ]
        await asyncio.gather(*(say(database, word, phone) for word in words))
        last = max(words, key=lambda word: word[1:])
        assert await is_out(database, phone) == (last[0] == "out"), words


async def test_the_same_word_again_changes_nothing(database: Database) -> None:
    await say(database, ("out", AT, "w1"))
    before = await contact(database)
    await say(database, ("out", AT, "w1"))
    assert await contact(database) == before


async def test_an_opt_out_of_a_daemon_of_0_1_0_stands_against_an_older_word(database: Database) -> None:
    """It writes no word beside."""
    await say(database, ("in", AT, "w1"))
    async with database.transaction() as s:
        await s.execute(update(Contact).values(opted_out_at=AT + 2 * SECOND))
    await say(database, ("in", AT + SECOND, "w2"))
    assert await is_out(database)
    await say(database, ("in", AT + 2 * SECOND, "w2"))
    assert await is_out(database)
    await say(database, ("in", AT + 3 * SECOND, "w3"))
    assert not await is_out(database)


async def test_an_older_export_that_is_imported_again_undoes_no_later_word(database: Database) -> None:
    await say(database, ("out", AT, "w1"))
    await say(database, ("in", AT + SECOND, "w2"))
    await commit(database, contacts.opt_out_many, [(PHONE, AT)])
    assert not await is_out(database)
    await commit(database, contacts.opt_out_many, [(PHONE, AT + 2 * SECOND)])
    assert await is_out(database)


async def test_what_a_person_decides_now_holds_whatever_was_said(database: Database) -> None:
    await say(database, ("out", datetime(2100, 1, 1, tzinfo=UTC), "w1"))
    assert await commit(database, contacts.opt_in, PHONE)
    assert not await is_out(database)


async def test_the_later_choice_about_marketing_holds(database: Database) -> None:
    choices = [("stop", 0), ("resume", 1), ("stop", 1), ("resume", 2)]
    for number, order in enumerate(permutations(choices)):
        phone = f"+49151{number:08}"
        async with database.transaction() as s:
            for what, seconds in order:
                decide = contacts.stop_marketing if what == "stop" else contacts.resume_marketing
                await decide(s, phone, AT + seconds * SECOND)
        found = await contact(database, phone)
        assert (found.marketing_stopped_at, found.opted_out_at) == (None, None), order


async def test_of_two_choices_of_a_second_the_one_against_holds(database: Database) -> None:
    for phone, first in ((PHONE, True), ("+4915187654321", False)):
        for stop in (first, not first):
            await commit(database, contacts.stop_marketing if stop else contacts.resume_marketing, phone, AT)
        assert (await contact(database, phone)).marketing_stopped_at == AT


async def test_marketing_is_no_general_opt_out_and_can_be_asked_for(database: Database) -> None:
    async with database.transaction() as s:
        await contacts.upsert(s, [ContactRow("+4915187654321")])
        await contacts.stop_marketing(s, PHONE, AT)
        assert not await contacts.opt_in(s, PHONE)
        found = await contacts.page(s, ContactFilter(marketing_stopped=True), None, 9)
        assert [one.phone for one in found] == [PHONE]
        assert await contacts.page(s, ContactFilter(opted_out=True), None, 9) == []
    assert (await contact(database)).marketing_stopped_at == AT
