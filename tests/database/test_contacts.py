"""Contacts: found, added, changed, filtered, forgotten."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from pydantic import ValidationError
from sqlalchemy import func, select, text

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.contacts import people
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.filters import ContactFilter, matching
from crmd.crm.contacts.repository import ContactRow, ContactView, UpsertCounts
from crmd.crm.contacts.routes import ContactsApi
from crmd.crm.contacts.tables import Contact, ContactTag
from crmd.crm.database.base import Base
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.features import forgetting
from crmd.crm.flows.tables import Flow, FlowRun
from crmd.crm.messages.begin import Outgoing, begin_many
from crmd.crm.messages.tables import Message, MessageEvent
from crmd.crm.schema import SCHEMA
from tests.support.database import commit, fetch
from tests.support.postgres import Postgres, waiting_for_locks
from tests.support.started import started

ADA, BOB, EVE = "+491701111111", "+491702222222", "+491703333333"
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)


async def upsert(database: Database, *rows: ContactRow) -> UpsertCounts:
    return await commit(database, contacts.upsert, rows)


async def found(database: Database, **wanted: Any) -> list[str]:
    """The numbers that a filter lets through."""
    return [
        one.phone for one in await fetch(database, contacts.page, ContactFilter.model_validate(wanted), None, 100)
    ]


async def one(database: Database, phone: str) -> ContactView:
    [view] = await fetch(database, contacts.page, ContactFilter(phone=phone), None, 2)
    return view


async def test_a_contact_is_added_once_and_its_name_is_not_overwritten(database: Database) -> None:
    async with database.transaction() as s:
        first = await contacts.ensure(s, ADA)
        again = await contacts.ensure(s, ADA, "Ada")
        third = await contacts.ensure(s, ADA, "Somebody")
        assert first.id == again.id == third.id
        assert (await contacts.by_phone(s, ADA)) is first
        assert (await contacts.by_phone(s, BOB)) is None
    assert (await one(database, ADA)).name == "Ada"


async def test_many_that_add_the_same_contact_at_once_get_the_same(database: Database) -> None:
    async def add() -> int:
        return (await commit(database, contacts.ensure, ADA)).id

    assert len(set(await asyncio.gather(*(add() for _ in range(12))))) == 1


async def test_an_upsert_adds_and_merges(database: Database) -> None:
    counts = await upsert(
        database,
        ContactRow(ADA, "Ada", None, ["vip"], {"city": "Berlin", "plan": 1}),
        ContactRow(BOB),
        ContactRow(ADA, None, "ada@example.com", ["new", "vip"], {"plan": 2}),
    )
    assert counts == UpsertCounts(created=2)
    again = await upsert(
        database,
        ContactRow(ADA, None, None, ["new"], {"plan": 3, "own": {"deep": [1, None]}}),
        ContactRow(BOB),
        ContactRow(EVE, "Eve"),
    )
    assert again == UpsertCounts(created=1, updated=1, unchanged=1)
    view = await one(database, ADA)
    assert (view.name, view.email, view.tags) == ("Ada", "ada@example.com", ("new", "vip"))
    assert view.attributes == {"city": "Berlin", "plan": 3, "own": {"deep": [1, None]}}


async def test_a_tag_alone_changes_a_contact(database: Database) -> None:
    await upsert(database, ContactRow(ADA))
    assert await upsert(database, ContactRow(ADA, tags=["vip"])) == UpsertCounts(updated=1)
    assert await upsert(database, ContactRow(ADA, tags=["vip"])) == UpsertCounts(unchanged=1)
    assert await upsert(database) == UpsertCounts()


async def test_upserts_of_the_same_contacts_at_once_lose_nothing(database: Database) -> None:
    """In different orders, and more than one round of statements; PostgreSQL runs them side by side."""
    phones = [f"+4917{n:08}" for n in range(1_200)]
    orders = (phones, phones[::-1], phones[600:] + phones[:600])
    each = [[ContactRow(phone, attributes={f"a{n}": n}) for phone in order] for n, order in enumerate(orders)]
    counts = await asyncio.gather(*(upsert(database, *rows) for rows in each))
    assert sum(one.created for one in counts) == len(phones)
    page = await fetch(database, contacts.page, ContactFilter(), None, 2_000)
    assert len(page) == len(phones)
    assert all(view.attributes == {"a0": 0, "a1": 1, "a2": 2} for view in page)


async def test_attributes_are_set_and_taken_away(database: Database) -> None:
    await upsert(database, ContactRow(ADA, attributes={"a": 1}))
    async with database.transaction() as s:
        contact = await contacts.ensure(s, ADA)
        assert await contacts.set_attribute(s, contact.id, "b", ["x"])
        assert await contacts.set_attribute(s, contact.id, "a", None)
        assert await contacts.set_attribute(s, contact.id, "never there", None)
        assert not await contacts.set_attribute(s, contact.id + 1, "b", 1)
    assert (await one(database, ADA)).attributes == {"b": ["x"]}


async def test_attributes_set_at_once_lose_nothing(database: Database) -> None:
    await upsert(database, ContactRow(ADA))
    number = (await one(database, ADA)).id

    async def put(name: str) -> None:
        await commit(database, contacts.set_attribute, number, name, name)

    names = [f"n{n}" for n in range(10)]
    await asyncio.gather(*map(put, names))
    assert (await one(database, ADA)).attributes == {name: name for name in names}


async def test_names_that_no_attribute_and_no_tag_has(database: Database) -> None:
    async with database.transaction() as s:
        contact = await contacts.ensure(s, ADA)
        for name in ("", " a", "x" * 65):
            with pytest.raises(ValueError, match="1 to 64 characters"):
                await contacts.set_attribute(s, contact.id, name, 1)
            with pytest.raises(ValueError, match="1 to 64 characters"):
                await contacts.add_tag(s, contact.id, name)


async def test_a_contact_has_a_bounded_number_of_attributes(database: Database) -> None:
    full = {f"n{n}": n for n in range(contacts.MAX_ATTRIBUTES)}
    await upsert(database, ContactRow(ADA, attributes=full))
    async with database.transaction() as s:
        contact = await contacts.ensure(s, ADA)
        with pytest.raises(ValueError, match="at most 200"):
            await contacts.set_attribute(s, contact.id, "more", 1)
        assert await contacts.set_attribute(s, contact.id, "n1", 2)


async def test_tags_are_added_and_taken_away(database: Database) -> None:
    async with database.transaction() as s:
        contact = await contacts.ensure(s, ADA)
        assert await contacts.add_tag(s, contact.id, "vip")
        assert await contacts.add_tag(s, contact.id, "a tag; with 'signs'")
        assert not await contacts.add_tag(s, contact.id, "vip")
        assert not await contacts.add_tag(s, contact.id + 1, "vip")
        assert await contacts.tags(s, contact.id) == ["a tag; with 'signs'", "vip"]
        assert await contacts.remove_tag(s, contact.id, "vip")
        assert not await contacts.remove_tag(s, contact.id, "vip")
        assert await contacts.tags(s, contact.id) == ["a tag; with 'signs'"]


async def test_the_first_opt_out_counts_until_the_opt_in(database: Database) -> None:
    """A number that nobody knew may opt out as well."""
    async with database.transaction() as s:
        assert await contacts.opt_out(s, ADA, AT)
        assert not await contacts.opt_out(s, ADA, AT + timedelta(days=1))
    assert (await one(database, ADA)).opted_out_at == AT
    async with database.transaction() as s:
        assert await contacts.opt_in(s, ADA)
        assert not await contacts.opt_in(s, ADA)
        assert not await contacts.opt_in(s, BOB)
    assert (await one(database, ADA)).opted_out_at is None


@pytest.fixture
async def crowd(database: Database) -> Database:
    await upsert(
        database,
        ContactRow(ADA, "Ada 100%", "ada@example.com", ["a", "b"], {"plan": "5", "n": 5, "on": True, "no": None}),
        ContactRow(BOB, "Bob_x", None, ["b"], {"plan": 5, "n": 5.0, "on": 1, "deep": {"plan": "5"}}),
        ContactRow(EVE, None, "EVE@example.org", [], {'odd "name"': "it's"}),
    )
    await commit(database, contacts.opt_out, EVE, AT)
    return database


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, [ADA, BOB, EVE]),
    ({"tags": ["b"]}, [ADA, BOB]),
    ({"tags": ["a", "b"]}, [ADA]),
    ({"tags": ["a", "none"]}, []),
    ({"any_tags": ["a", "none"]}, [ADA]),
    ({"without_tags": ["a"]}, [BOB, EVE]),
    ({"tags": ["b"], "without_tags": ["a"]}, [BOB]),
    ({"attributes": {"plan": "5"}}, [ADA]),
    ({"attributes": {"plan": 5}}, [BOB]),
    ({"attributes": {"n": 5}}, [ADA, BOB]),
    ({"attributes": {"n": 5.0}}, [ADA, BOB]),
    ({"attributes": {"on": True}}, [ADA]),
    ({"attributes": {"on": 1}}, [BOB]),
    ({"attributes": {"on": False}}, []),
    ({"attributes": {"no": None}}, [ADA]),
    ({"attributes": {"absent": None}}, []),
    ({"attributes": {'odd "name"': "it's"}}, [EVE]),
    ({"attributes": {"plan": "5", "n": 5}}, [ADA]),
    ({"opted_out": True}, [EVE]),
    ({"opted_out": False}, [ADA, BOB]),
    ({"phone": BOB}, [BOB]),
    ({"search": "EXAMPLE.org"}, [EVE]),
    ({"search": "0%"}, [ADA]),
    ({"search": "_"}, [BOB]),
    ({"search": "2222"}, [BOB]),
    ({"created_after": "2020-01-01T00:00:00Z"}, [ADA, BOB, EVE]),
    ({"created_before": "2020-01-01T00:00:00Z"}, []),
]


async def test_filters(crowd: Database) -> None:
    for wanted, expected in FILTERS:
        assert await found(crowd, **wanted) == expected, wanted


@pytest.mark.parametrize(
    "wanted", [{"tag": "a"}, {"tags": [""]}, {"attributes": {"a": [1]}}, {"created_after": "2020-01-01T00:00:00"}]
)
def test_what_is_no_filter(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ContactFilter.model_validate(wanted)


async def test_pages_go_by_id_and_miss_nobody(crowd: Database) -> None:
    seen, after = [], None
    while True:
        page = await fetch(crowd, contacts.page, ContactFilter(), after, 2)
        if not page:
            break
        seen += [view.phone for view in page]
        after = page[-1].id
    assert seen == [ADA, BOB, EVE]


async def test_of_a_contact_that_is_forgotten_nothing_is_left(crowd: Database) -> None:
    async with crowd.transaction() as s:
        ada = await contacts.ensure(s, ADA)
        done = Campaign(name="done", definition={}, status="done", finished_at=AT)
        runs = Campaign(name="runs", definition={}, status="running")
        flow = Flow(name="f", definition={})
        s.add_all([done, runs, flow])
        await s.flush()
        for phone, number in ((ADA, ada.id), (BOB, None)):
            for campaign in (done, runs):
                s.add(
                    CampaignRecipient(
                        campaign_id=campaign.id, contact_id=number, phone=phone, variables={"n": 1}, state="queued"
                    )
                )
            message = Message(direction="out", phone=phone, type="text", text="hi", status="sent", status_at=AT)
            s.add(message)
            await s.flush()
            s.add(MessageEvent(message_id=message.id, status="sent", at=AT))
        s.add(FlowRun(flow_id=flow.id, contact_id=ada.id, definition={}, state="waiting", wake_at=utc_now()))
    async with crowd.transaction() as s:
        assert await contacts.forget(s, ada.id, forgetting())
        assert not await contacts.forget(s, ada.id, forgetting())
    assert await found(crowd) == [BOB, EVE]
    async with crowd.reading() as s:
        left = {
            table.__tablename__: await s.scalar(select(func.count()).select_from(table))
            for table in (CampaignRecipient, Message, MessageEvent, FlowRun, ContactTag)
        }
        kept = (await s.scalars(select(CampaignRecipient).where(CampaignRecipient.phone == ADA))).one()
    assert left == {
        "campaign_recipients": 3,
        "messages": 1,
        "message_events": 1,
        "flow_runs": 0,
        "contact_tags": 1,
    }
    assert (kept.campaign_id, kept.contact_id, kept.variables) == (runs.id, None, {})


def test_every_table_with_a_phone_is_thought_of() -> None:
    """Whoever adds one adds it to `forget` as well."""
    with_phone = {name for name, table in Base.metadata.tables.items() if "phone" in table.columns}
    assert with_phone == {"contacts", "messages", "campaign_recipients", "wa_numbers"}


def test_a_contact_has_a_view_of_everything() -> None:
    assert {*ContactView.__dataclass_fields__} == {column.name for column in Contact.__table__.columns} | {"tags"}


async def test_the_filter_of_a_number_goes_by_its_indexes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/own.sqlite"
    async with started(Database(url, SCHEMA, folder=tmp_path)) as database, database.reading() as s:
        asked = matching(ContactFilter(phone="+5511981234567")).with_only_columns(Contact.id)
        written = asked.compile(s.get_bind(), compile_kwargs={"literal_binds": True})
        plan = [row[3] for row in await s.execute(text(f"EXPLAIN QUERY PLAN {written}"))]
    assert any("contact_identities" in step for step in plan)
    assert [step for step in plan if step.startswith("SCAN")] == []


@pytest.fixture
async def side_by_side(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Database]:
    """A PostgreSQL with connections for several transactions at once."""
    name = postgres.new_database()
    async with started(Database(postgres.url(name), SCHEMA, folder=tmp_path, connections=8)) as database:
        yield database
    postgres.drop(name)


async def test_an_upsert_that_waits_for_a_new_contact_holds_no_row(side_by_side: Database) -> None:
    """One upsert looks before a contact is added and meets it later; the other one finds it at once."""
    database, new = side_by_side, ContactRow("+491700000001")
    late, last = ContactRow("+491700000002", name="b"), ContactRow("+491700000003")
    async with asyncio.TaskGroup() as group, AsyncExitStack() as adding_last:
        await contacts.upsert(await adding_last.enter_async_context(database.transaction()), [last])
        async with database.transaction() as s:
            await contacts.upsert(s, [late])
            first = group.create_task(upsert(database, new, late, last))
            await waiting_for_locks(database, 1)
        await waiting_for_locks(database, 1)  # now for the last one
        second = group.create_task(upsert(database, new, replace(late, name="c")))
        await waiting_for_locks(database, 2)
    assert first.result() == UpsertCounts(created=1, unchanged=2)
    assert second.result() == UpsertCounts(updated=1, unchanged=1)


async def test_a_contact_that_is_forgotten_while_an_upsert_waits_for_it_is_added_again(
    side_by_side: Database,
) -> None:
    database = side_by_side
    await upsert(database, ContactRow(ADA, "Ada"))
    number = (await one(database, ADA)).id
    async with asyncio.TaskGroup() as group, database.transaction() as s:
        assert await contacts.forget(s, number, ())
        upserting = group.create_task(upsert(database, ContactRow(ADA, tags=["vip"])))
        await waiting_for_locks(database, 1)
    assert upserting.result() == UpsertCounts(created=1)
    view = await one(database, ADA)
    assert (view.name, view.tags) == (None, ("vip",))


async def test_a_contact_is_forgotten_although_statuses_take_its_messages_first(side_by_side: Database) -> None:
    database = side_by_side
    async with database.transaction() as s:
        number = (await contacts.ensure(s, ADA)).id
        await begin_many(s, CampaignGate(), [Outgoing(ADA, "text", "x", "message", "k", AT)], AT)
    forget = ContactsApi(database, forgetting()).forget_contact
    async with asyncio.TaskGroup() as group, database.transaction() as s:
        await s.execute(select(Message.id).with_for_update())
        forgotten = group.create_task(forget(make_mocked_request("DELETE", "/", match_info={"id": str(number)})))
        await waiting_for_locks(database, 1)
        assert await people.lock(s, [number])
    assert forgotten.result().status == 204
    assert await fetch(database, contacts.view, number) is None


async def test_a_tag_that_is_added_waits_for_its_contact_first(side_by_side: Database) -> None:
    database = side_by_side
    await upsert(database, ContactRow(ADA))
    number = (await one(database, ADA)).id

    async def tag() -> bool:
        async with database.transaction() as s:
            return await contacts.add_tag(s, number, "vip")

    async with asyncio.TaskGroup() as group, database.transaction() as s:
        await people.lock(s, [number])
        upserting = group.create_task(upsert(database, ContactRow(ADA, tags=["vip"])))
        await waiting_for_locks(database, 1)
        tagging = group.create_task(tag())
        await waiting_for_locks(database, 2)
    assert sorted([upserting.result().updated, int(tagging.result())]) == [0, 1]
    assert (await one(database, ADA)).tags == ("vip",)


async def test_numbers_that_sends_teach_lock_contacts_by_id(side_by_side: Database) -> None:
    database = side_by_side
    pairs = [("+5511981234501", "+551181234501"), ("+5511981234502", "+551181234502")]
    phones = [*pairs[1], *pairs[0]]  # the ids are in another order than the numbers
    async with database.transaction() as s:
        added = [Contact(phone=phone) for phone in phones]
        for contact in added:
            s.add(contact)
            await s.flush()
    ids = [contact.id for contact in added]

    async def teach() -> None:
        async with database.transaction() as s:
            await people.note_sent(s, pairs, utc_now())

    async def lock_all() -> None:
        async with database.transaction() as s:
            await people.lock(s, ids)

    async with asyncio.TaskGroup() as group, database.transaction() as s:
        await people.lock(s, ids[1:2])
        group.create_task(lock_all())
        await waiting_for_locks(database, 1)
        group.create_task(teach())
        await waiting_for_locks(database, 2)


async def test_imports_stops_and_sends_at_once_do_not_deadlock(side_by_side: Database) -> None:
    """A person's two numbers are two contacts, the one that sorts later with the smaller id."""
    database = side_by_side
    longs = [f"+55119812345{number:02}" for number in range(30)]
    shorts = [long.replace("+55119", "+5511") for long in longs]
    async with database.transaction() as s:
        for phone in (phone for pair in zip(longs, shorts, strict=True) for phone in pair):
            s.add(Contact(phone=phone))
            await s.flush()
    draw = random.Random(1)

    async def imports() -> None:
        for turn in range(12):
            await commit(
                database, contacts.upsert, [ContactRow(phone, name=str(turn)) for phone in (*shorts, *longs)]
            )

    async def stops() -> None:
        for _ in range(60):
            await commit(database, contacts.opt_out, draw.choice(longs), utc_now(), "w")

    async def sends(which: str) -> None:
        for turn in range(12):
            batch = [
                Outgoing(phone, "text", "x", "message", f"{which}{turn}{phone}", utc_now()) for phone in longs
            ]
            draw.shuffle(batch)
            await commit(database, begin_many, CampaignGate(), batch, utc_now())

    async with asyncio.TaskGroup() as group:  # who loses in a deadlock raises RecordsUnavailable
        for work in (imports(), imports(), stops(), stops(), sends("a"), sends("b")):
            group.create_task(work)
