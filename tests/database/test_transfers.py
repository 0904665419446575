"""What imports and exports keep and ask, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.filters import ContactFilter
from crmd.crm.contacts.repository import ContactRow
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.files import transfers
from crmd.crm.files.tables import Transfer
from crmd.crm.messages import queries as messages
from crmd.crm.messages.queries import MessageFilter, Status
from crmd.crm.messages.tables import Message
from tests.support.database import commit, fetch
from tests.support.transfers import open_office

NOW = datetime(2024, 1, 31, 12, tzinfo=UTC)
KIND = "import_contacts"


async def begin(
    database: Database, key: str = "job", at: datetime = NOW, now: datetime = NOW
) -> transfers.StartedTransfer:
    return await commit(database, transfers.begin, KIND, key, at, "file", now)


async def test_a_transfer_goes_on_where_it_was_until_it_is_finished(database: Database) -> None:
    first = await begin(database)
    assert (first.counts, first.cursor, first.result) == ({}, {}, None)
    await commit(database, transfers.advance, first.id, {"created": 5}, {"row": 7})
    again = await begin(database)
    assert (again.id, again.counts, again.cursor) == (first.id, {"created": 5}, {"row": 7})
    await commit(
        database, transfers.finish, first.id, counts={"created": 9}, result={"rows": 9}, now=NOW, report_id="r"
    )
    done = await begin(database)
    assert (done.id, done.result) == (first.id, {"rows": 9})
    async with database.reading() as s:
        row = await s.get_one(Transfer, first.id)
        assert (row.file_id, row.report_id, row.counts, row.finished_at) == ("file", "r", {"created": 9}, NOW)


async def test_a_job_added_anew_takes_over_what_is_not_finished_and_nothing_else(database: Database) -> None:
    later = NOW + timedelta(minutes=1)
    first = await begin(database)
    assert (await begin(database, "other")).id != first.id
    assert (await begin(database, at=later)).id == first.id
    await commit(database, transfers.finish, first.id, counts={}, result={"rows": 1}, now=NOW)
    new = await begin(database, at=later + timedelta(minutes=1))
    assert new.id != first.id
    assert new.result is None
    assert (await begin(database, at=later)).result == {"rows": 1}


async def test_old_transfers_are_deleted(database: Database) -> None:
    for number in range(3):
        await begin(database, f"job-{number}")
    await begin(database, "new", now=NOW + transfers.KEEP + timedelta(seconds=1))
    async with database.reading() as s:
        assert await s.scalar(select(func.count()).select_from(Transfer)) == 1


async def test_questions_about_contacts(database: Database) -> None:
    rows = [
        ContactRow("+491701234567", tags=["vip"], attributes={"b": 1, "a": None}),
        ContactRow("+491701234568", attributes={"c": {"d": 1}}),
        ContactRow("+491701234569"),
    ]
    vip = ContactFilter(tags=("vip",))
    async with database.transaction() as s:
        await contacts.upsert(s, rows)
        await contacts.opt_out_many(s, [("+491701234567", NOW), ("+499999999999", NOW)])
        await contacts.opt_out_many(s, [("+491701234567", NOW + timedelta(days=1))])
        await contacts.opt_out_many(s, [])
    async with database.reading() as s:
        assert await contacts.existing(s, ["+491701234567", "+491701111111"]) == {"+491701234567"}
        assert await contacts.attribute_names(s, ContactFilter(), 10) == ["a", "b", "c"]
        assert await contacts.attribute_names(s, ContactFilter(), 2) == ["a", "b"]
        assert await contacts.attribute_names(s, vip, 10) == ["a", "b"]
        count, last = await contacts.extent(s, ContactFilter())
        assert (count, last >= 3) == (3, True)
        assert await contacts.extent(s, ContactFilter(tags=("none",))) == (0, 0)
        opted_out = await contacts.page(s, ContactFilter(opted_out=True), None, 10)
        assert [(one.phone, one.opted_out_at) for one in opted_out] == [("+491701234567", NOW)]


async def test_messages_are_chosen_once_and_read_in_portions(database: Database) -> None:
    values = {"direction": "out", "phone": "+491701234567", "type": "text", "status_at": NOW, "created_at": NOW}
    async with database.transaction() as s:
        s.add_all(Message(**values, status=status) for status in ("failed", "sent", "failed"))
    chosen = await fetch(database, messages.ids, MessageFilter(status=Status.FAILED))
    assert len(chosen) == 2
    rows = await fetch(database, messages.rows, [*chosen, 10**6], ["id", "status"])
    assert [tuple(row) for row in rows] == [(number, "failed") for number in chosen]


async def test_an_import_and_an_export_from_end_to_end(database: Database, tmp_path: Path) -> None:
    async with open_office(database, tmp_path) as office:
        path = office.write("phone,name,city,tags,opted_out_at\n+491701234567,Zoë,Köln,vip,yes\nbad,,,,\n")
        imported = await office.run_import(path)
        assert (imported["created"], imported["rejected"]) == (1, 1)
        assert (await office.run_import(path, key="again", update="skip"))["skipped"] == 1
        exported = await office.run_export("export_contacts", columns=["phone", "tags", "attributes"])
        assert (await office.path(exported["file"])).read_text("utf-8-sig").splitlines() == [
            "phone,tags,attributes.city",
            "+491701234567,vip,Köln",
        ]
        assert (await office.run_export("export_messages"))["rows"] == 0
        assert (await office.contacts())[0].opted_out_at is not None
        assert abs((await office.contacts())[0].created_at - utc_now()) < timedelta(minutes=5)
