"""One person under several numbers: by what WhatsApp says of sends, and by the rules of three countries."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.filters import ContactFilter
from crmd.crm.contacts.phones import forms, masked, may_be_same
from crmd.crm.contacts.repository import ContactRow
from crmd.crm.contacts.tables import Contact, ContactIdentity, WaNumber
from crmd.crm.database.database import Database
from crmd.crm.features import forgetting
from crmd.crm.messages.begin import Admission, Outgoing, begin
from crmd.crm.messages.queries import MessageFilter, page, record_inbound
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.messages.statuses import StatusUpdate
from tests.support.database import commit, fetch

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
LONG, SHORT = "+5511981234567", "+551181234567"
ADA, HER_WA = "+4915112345678", "+4915112345679"


def outgoing(phone: str, key: str = "k", **fields: object) -> Outgoing:
    return Outgoing(phone, "text", "hi", "message", key, AT, **fields)  # type: ignore[arg-type]


async def admission(database: Database, phone: str, key: str = "k", **fields: object) -> Admission:
    return (await commit(database, begin, CampaignGate(), outgoing(phone, key, **fields), AT)).admission


async def teach(database: Database, phone: str, wa_phone: str) -> None:
    await commit(database, people.note_sent, [(phone, wa_phone)], AT)


async def all_phones(database: Database) -> list[str]:
    async with database.reading() as s:
        return list(await s.scalars(select(Contact.phone).order_by(Contact.id)))


@pytest.mark.parametrize(
    ("phone", "other"),
    [
        ("+5511981234567", "+551181234567"),
        ("+5585991234567", "+558591234567"),
        ("+5215512345678", "+525512345678"),
        ("+5491123456789", "+541123456789"),
    ],
)
def test_two_forms_of_one_number(phone: str, other: str) -> None:
    assert forms(phone) == (phone, other)
    assert forms(other) == (other, phone)


@pytest.mark.parametrize(
    "phone",
    [
        "+551132345678",  # a landline of São Paulo, not +5511932345678
        "+5511932345678",
        "+4915112345678",
        "+5115112345678",
        "+55119812345678",
        "+5511",
        "+52155123456789",
    ],
)
def test_a_number_with_one_form(phone: str) -> None:
    assert forms(phone) == (phone,)


def test_what_whatsapp_may_say_of_a_number() -> None:
    assert may_be_same(LONG, SHORT)
    assert may_be_same(ADA, HER_WA)
    assert not may_be_same(ADA, ADA)
    assert not may_be_same("+15551234567", "+9115551234567"), "another country's code was put before it"
    assert not may_be_same("+5511981234567", "+555511981234567")
    assert masked(LONG) == "+55…4567"


@pytest.mark.parametrize(("known", "writes"), [(LONG, SHORT), (SHORT, LONG)])
async def test_who_writes_by_the_other_form_meets_the_contact(database: Database, known: str, writes: str) -> None:
    async with database.transaction() as s:
        contact = await contacts.ensure(s, known, "Ana")
        assert (await contacts.ensure(s, writes)) is contact
        assert (await contacts.by_phone(s, writes)) is contact
        await contacts.opt_out(s, writes, AT, "w1")
    assert await all_phones(database) == [known]
    assert await admission(database, known) is await admission(database, writes, "k2") is Admission.OPTED_OUT
    assert await commit(database, contacts.opt_in, writes, AT + timedelta(seconds=1), "w2")
    assert await admission(database, known) is Admission.SEND


async def test_where_both_are_contacts_a_word_holds_for_both_and_neither_is_merged(database: Database) -> None:
    async with database.transaction() as s:  # as 0.1.0 left them
        s.add_all([Contact(phone=LONG, name="Ana", attributes={"a": 1}), Contact(phone=SHORT, name="A.")])
    async with database.transaction() as s:
        assert (await contacts.ensure(s, SHORT)).phone == SHORT, "each number has its own contact first"
        await contacts.opt_out(s, SHORT, AT, "w1")
    async with database.reading() as s:
        rows = (await s.scalars(select(Contact).order_by(Contact.id))).all()
    assert [(one.phone, one.name, one.opted_out_at) for one in rows] == [(LONG, "Ana", AT), (SHORT, "A.", AT)]
    assert await admission(database, LONG) is Admission.OPTED_OUT


async def test_an_opt_out_of_0_1_0_under_one_form_holds_for_the_other(database: Database) -> None:
    async with database.transaction() as s:
        s.add_all([Contact(phone=LONG), Contact(phone=SHORT, opted_out_at=AT)])
    assert await admission(database, LONG) is Admission.OPTED_OUT


async def test_the_answer_to_a_send_teaches_the_number(database: Database) -> None:
    repository = MessageRepository(database, CampaignGate())
    ada = (await commit(database, contacts.ensure, ADA)).id
    begun = await repository.begin(outgoing(ADA))
    await repository.accepted(begun.message_id, "wamid.1", phone=ADA, wa_phone=HER_WA)
    async with database.transaction() as s:
        assert (await contacts.ensure(s, HER_WA)).id == ada
        await contacts.opt_out(s, HER_WA, AT, "w1")
    assert await admission(database, ADA, "k2") is Admission.OPTED_OUT
    assert await all_phones(database) == [ADA]


async def test_a_status_teaches_it_where_the_answer_was_lost(database: Database) -> None:
    repository = MessageRepository(database, CampaignGate())
    ada = (await commit(database, contacts.ensure, ADA)).id
    begun = await repository.begin(outgoing(ADA))
    await repository.unknown(begun.message_id, "no answer")
    [applied] = await repository.apply_statuses([StatusUpdate("wamid.1", "sent", AT, "k", recipient=HER_WA)])
    assert applied
    found = await fetch(database, contacts.by_phone, HER_WA)
    assert found
    assert found.id == ada


@pytest.mark.parametrize("first", ["who writes", "who is written to"])
async def test_what_was_taught_before_there_was_a_contact(database: Database, first: str) -> None:
    await teach(database, ADA, HER_WA)
    await teach(database, ADA, HER_WA)
    numbers = (HER_WA, ADA) if first == "who writes" else (ADA, HER_WA)
    async with database.transaction() as s:
        contact = await contacts.ensure(s, numbers[0])
        assert (await contacts.ensure(s, numbers[1])) is contact
        await contacts.opt_out(s, HER_WA, AT, "w1")
    assert await admission(database, ADA) is await admission(database, HER_WA, "k2") is Admission.OPTED_OUT


async def test_what_was_taught_before_an_import(database: Database) -> None:
    await teach(database, ADA, HER_WA)
    await commit(database, contacts.upsert, [ContactRow(ADA, "Ada")])
    async with database.transaction() as s:
        assert (await contacts.ensure(s, HER_WA)).name == "Ada"
        await contacts.opt_out(s, HER_WA, AT, "w1")
    assert await admission(database, ADA) is Admission.OPTED_OUT


@pytest.mark.parametrize(("words", "out"), [([(0, "out"), (1, "in")], False), ([(1, "out"), (0, "in")], True)])
async def test_two_contacts_that_turn_out_to_be_one_person_keep_the_later_word(
    database: Database, words: list[tuple[int, str]], out: bool
) -> None:
    for phone, (seconds, what) in zip((ADA, HER_WA), words, strict=True):
        async with database.transaction() as s:
            at = AT + timedelta(seconds=seconds)
            await (contacts.opt_out if what == "out" else contacts.opt_in)(s, phone, at, "w")
    await commit(database, contacts.stop_marketing, HER_WA, AT)
    await teach(database, ADA, HER_WA)
    async with database.reading() as s:
        rows = (await s.scalars(select(Contact))).all()
    assert {one.opted_out_at is not None for one in rows} == {out}
    assert {one.marketing_stopped_at for one in rows} == {AT}
    assert len(rows) == 2
    assert await admission(database, ADA) is (Admission.OPTED_OUT if out else Admission.SEND)
    assert await admission(database, ADA, "k2", marketing=True) is (
        Admission.OPTED_OUT if out else Admission.MARKETING_STOPPED
    )


async def test_a_stranger_is_not_believed(database: Database) -> None:
    await commit(database, contacts.ensure, "+15551234567")
    await teach(database, "+15551234567", "+9115551234567")
    async with database.reading() as s:
        for table in (ContactIdentity, WaNumber):
            assert await s.scalar(select(func.count()).select_from(table)) == 0


async def test_imports_meet_the_same_person(database: Database) -> None:
    async with database.transaction() as s:
        await contacts.ensure(s, LONG, "Ana")
        await contacts.ensure(s, ADA)
    await teach(database, ADA, HER_WA)
    rows = [ContactRow(SHORT, email="a@example.com"), ContactRow(HER_WA, "Ada"), ContactRow("+5215512345678", "M")]
    again = [ContactRow("+525512345678", email="m@example.com"), ContactRow(LONG, tags=["vip"])]
    async with database.transaction() as s:
        assert await contacts.existing(s, [SHORT, HER_WA, "+525512345678"]) == {SHORT, HER_WA}
        counts = await contacts.upsert(s, rows + again)
        await contacts.opt_out_many(s, [(SHORT, AT), ("+525512345678", AT)])
    assert (counts.created, counts.updated) == (1, 2)
    async with database.reading() as s:
        found = {one.phone: one for one in await contacts.page(s, ContactFilter(), None, 10)}
    assert list(found) == [LONG, ADA, "+5215512345678"]
    assert (found[LONG].name, found[LONG].email, found[LONG].tags) == ("Ana", "a@example.com", ("vip",))
    assert (found[ADA].name, found["+5215512345678"].email) == ("Ada", "m@example.com")
    assert [one.opted_out_at for one in found.values()] == [AT, None, AT]


async def test_a_contact_is_found_by_each_of_its_numbers(database: Database) -> None:
    async with database.transaction() as s:
        ana = await contacts.ensure(s, LONG)
        await contacts.ensure(s, ADA)
        await record_inbound(s, ana, wamid="w", type="text", text="hi", at=AT, now=AT, phone=SHORT)
    await teach(database, ADA, HER_WA)
    async with database.reading() as s:
        for asked, phone in ((SHORT, LONG), (LONG, LONG), (HER_WA, ADA)):
            assert [one.phone for one in await contacts.page(s, ContactFilter(phone=asked), None, 9)] == [phone]
        assert [one.contact_id for one in await page(s, MessageFilter(phone=LONG), None, 9)] == [ana.id]


async def test_of_a_person_that_is_forgotten_no_number_is_left(database: Database) -> None:
    await teach(database, "+4915100000001", "+4915100000002")
    async with database.transaction() as s:
        ada = await contacts.ensure(s, "+4915100000002")
        await record_inbound(s, ada, wamid="w", type="text", text="hi", at=AT, now=AT, phone="+4915100000001")
    await admission(database, "+4915100000001")
    async with database.transaction() as s:
        assert await contacts.forget(s, ada.id, forgetting())
        assert await page(s, MessageFilter(), None, 9) == []
        for table in (ContactIdentity, WaNumber, Contact):
            assert await s.scalar(select(func.count()).select_from(table)) == 0


async def test_one_word_for_one_person_is_one_message(database: Database) -> None:
    await commit(database, contacts.ensure, ADA)
    await teach(database, ADA, HER_WA)
    for phone, other in ((LONG, SHORT), (ADA, HER_WA)):
        assert await admission(database, phone, f"a{phone}", once=f"word{phone}") is Admission.SEND
        assert await admission(database, other, f"b{phone}", once=f"word{phone}") is Admission.BUSY


async def test_many_that_teach_and_opt_out_at_once(database: Database) -> None:
    """Two daemons: no transaction waits for another for ever, and no word is lost."""
    async with database.transaction() as s:
        s.add_all([Contact(phone=LONG), Contact(phone=SHORT), Contact(phone=ADA), Contact(phone=HER_WA)])

    async def out(phone: str, second: int) -> None:
        await commit(database, contacts.opt_out, phone, AT + timedelta(seconds=second), "w")

    await asyncio.gather(
        *(teach(database, *pair) for pair in ((LONG, SHORT), (SHORT, LONG), (ADA, HER_WA), (HER_WA, ADA))),
        *(out(phone, second) for second, phone in enumerate((SHORT, LONG, HER_WA, ADA))),
    )
    async with database.reading() as s:
        rows = (await s.scalars(select(Contact))).all()
    assert all(one.opted_out_at is not None for one in rows)
