"""`export_contacts` and `export_messages`: what the files hold, that they come back the same, jobs half-way."""

from __future__ import annotations

import asyncio
import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import python_calamine
from pydantic import ValidationError
from sqlalchemy import insert

from crmd.crm.campaigns.progress import CampaignProgress
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts import repository as contacts
from crmd.crm.contacts.repository import ContactRow, ContactView
from crmd.crm.database.types import utc_now
from crmd.crm.exports.jobs import export_contacts
from crmd.crm.exports.payloads import ExportContacts, ExportMessages
from crmd.crm.features import forgetting
from crmd.crm.files import transfers
from crmd.crm.messages.tables import Message
from crmd.crm.tabular import writers as xlsx_writer
from crmd.crm.tabular import xlsx_write_child
from crmd.engine.admin.views import State
from crmd.engine.settings import Backoff, QueueSettings
from crmd.errors import Permanent, RecordsUnavailable
from tests.support.context import RecordedRun
from tests.support.database import commit
from tests.support.engine_harness import EngineHarness, kill
from tests.support.transfers import Office, transfer_harness
from tests.support.wait import wait_until

FORMATS = ("csv", "xlsx", "jsonl")
AT = datetime(2024, 1, 31, 12, 30, 15, 250_000, tzinfo=UTC)
# Texts that a format, or a spreadsheet, could take for something else.
ODD = (
    *(
        "=1+1",
        "'=1",
        "+49 30",
        "-",
        "@anna",
        "'quoted'",
        'say "hi"',
        "a,b;c|d",
        "two\nlines",
        "https://example.org",
    ),
    *("_x0041_", "007", "1e5", "true", "ünïcödé 🦊", "<b>&amp;</b>", "#N/A", "TRUE", "2024-01-31"),
)


async def add(office: Office, *rows: ContactRow) -> None:
    await commit(office.database, contacts.upsert, rows)


async def odd_contacts(office: Office) -> None:
    """Contacts that are hard to write and to read again."""
    rows = [
        ContactRow(
            f"+4917012345{n:02}", text, f"p{n}@example.org", ["vip", f"t{n}"], {"note": text, "City": "Köln"}
        )
        for n, text in enumerate(ODD)
    ]
    await add(office, *rows, ContactRow("+491701239999"), ContactRow("+491701239998", tags=["a, b", "[x"]))
    await commit(office.database, contacts.opt_out, "+491701239999", AT)


async def many(office: Office, count: int) -> None:
    await add(office, *(ContactRow(f"+4917{n:08}", f"Person {n}", attributes={"n": n}) for n in range(count)))


async def csv_rows(office: Office, result: dict[str, Any], delimiter: str = ",") -> list[list[str]]:
    with (await office.path(result["file"])).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file, delimiter=delimiter))


def same(one: ContactView) -> tuple[Any, ...]:
    """What an export has to bring over."""
    return one.phone, one.name, one.email, one.tags, one.attributes, one.opted_out_at


async def test_a_csv_file_of_contacts(office: Office) -> None:
    await add(
        office,
        ContactRow(
            "+491701234567", "Zoë", "z@example.org", ["b", "a"], {"city": "Köln", "points": 5, "vip": True}
        ),
        ContactRow("+491701234568", "=1+1", attributes={"city": "+cmd|' /C calc'!A0", "list": [1, "ü"]}),
    )
    result = await office.run_export("export_contacts", name="people")
    header, *rows = await csv_rows(office, result)
    names = ["phone", "name", "email", "tags", "opted_out_at"]
    assert header == [*names, *(f"attributes.{name}" for name in ("city", "list", "points", "vip"))]
    assert rows == [
        ["+491701234567", "Zoë", "z@example.org", "a, b", "", "Köln", "", "5", "true"],
        ["+491701234568", "'=1+1", "", "", "", "'+cmd|' /C calc'!A0", '[1,"ü"]', "", ""],
    ]
    stored = await office.files.get(result["file"])
    assert (stored.kind, stored.name, stored.media_type) == ("export", "people.csv", "text/csv")
    assert (result["rows"], result["name"], result["size_bytes"]) == (2, "people.csv", stored.path.stat().st_size)
    assert datetime.fromisoformat(result["expires_at"]) == stored.expires_at


async def test_the_delimiter_the_mark_and_the_columns_may_be_chosen(office: Office) -> None:
    await add(office, ContactRow("+491701234567", "A;B", attributes={"x": "1"}))
    chosen = ["name", "attributes.x", "attributes.none", "phone", "created_at"]
    result = await office.run_export("export_contacts", delimiter=";", byte_order_mark=False, columns=chosen)
    data = (await office.path(result["file"])).read_bytes()
    assert data.startswith(b"name;attributes.x;attributes.none;phone;created_at\r\n")
    [_, [name, x, none, phone, created_at]] = await csv_rows(office, result, ";")
    assert (name, x, none, phone) == ("A;B", "1", "", "+491701234567")
    assert abs(datetime.fromisoformat(created_at) - utc_now()) < timedelta(minutes=1)


async def test_xlsx_opens_with_the_right_rows_and_without_formulas(office: Office) -> None:
    await odd_contacts(office)
    result = await office.run_export(
        "export_contacts", format="xlsx", columns=["phone", "name", "attributes.note"]
    )
    book = python_calamine.load_workbook(await office.path(result["file"]))
    assert book.sheet_names == ["Contacts"]
    header, *rows = book.get_sheet_by_index(0).to_python()
    assert header == ["phone", "name", "attributes.note"]
    expected = [[f"+4917012345{n:02}", text, text] for n, text in enumerate(ODD)]
    assert rows == [*expected, ["+491701239998", "", ""], ["+491701239999", "", ""]]
    assert result["rows"] == len(rows)


async def test_xlsx_keeps_kinds_and_cuts_what_no_cell_holds(office: Office) -> None:
    values = {"n": 5, "x": 2.5, "b": True, "none": None, "big": 2**60, "long": "x" * 40_000}
    await add(office, ContactRow("+491701234567", attributes=values))
    columns = [f"attributes.{name}" for name in values]
    result = await office.run_export("export_contacts", format="xlsx", columns=columns)
    sheet = python_calamine.load_workbook(await office.path(result["file"])).get_sheet_by_index(0)
    [_, [n, x, b, none, big, long]] = sheet.to_python()
    assert (n, x, b, none, big) == (5.0, 2.5, True, "", str(2**60))
    assert len(str(long)) == 32_767


async def test_json_lines_hold_contacts_as_they_are(office: Office) -> None:
    big = 2**70
    await add(
        office, ContactRow("+491701234567", "=1", None, ["b", "a"], {"n": 1, "deep": {"x": [None]}, "big": big})
    )
    result = await office.run_export("export_contacts", format="jsonl")
    [line] = (await office.path(result["file"])).read_text("utf-8").splitlines()
    assert json.loads(line) == {
        "phone": "+491701234567",
        "name": "=1",
        "email": None,
        "tags": ["a", "b"],
        "opted_out_at": None,
        "attributes": {"n": 1, "deep": {"x": [None]}, "big": big},
    }


@pytest.mark.parametrize("format", FORMATS)
async def test_what_is_exported_and_imported_is_the_same(office: Office, tmp_path: Path, format: str) -> None:
    await odd_contacts(office)
    before = [same(one) for one in await office.contacts()]
    exported = await office.run_export("export_contacts", format=format)
    office.write((await office.path(exported["file"])).read_bytes(), "back")
    async with office.database.transaction() as s:
        for one in await office.contacts():
            await contacts.forget(s, one.id, forgetting())
    result = await office.run_import("back")
    assert (result["created"], result["rejected"]) == (len(before), 0)
    assert sorted(same(one) for one in await office.contacts()) == sorted(before)


FORMS = ("+5215512345678", "+525512345679", "+551181234567", "+5511981234568", "+5491123456789", "+541123456780")
"""People of Mexico, Brazil and Argentina under the numbers that WhatsApp knows them by."""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("region", [None, "MX"])
async def test_numbers_in_whatsapps_forms_come_back(office: Office, format: str, region: str | None) -> None:
    await add(office, *(ContactRow(phone, f"Person {phone}") for phone in FORMS))
    exported = await office.run_export("export_contacts", format=format)
    office.write((await office.path(exported["file"])).read_bytes(), "back")
    result = await office.run_import("back", default_region=region)
    assert (result["unchanged"], result["rejected"]) == (len(FORMS), 0)


@pytest.mark.parametrize(("region", "begin"), [("MX", "+52"), ("BR", "+55"), ("AR", "+54")])
async def test_whatsapps_forms_are_known_without_their_plus(office: Office, region: str, begin: str) -> None:
    wanted = {phone for phone in FORMS if phone.startswith(begin)}
    office.write("phone\n" + "".join(f"{phone[1:]}\n" for phone in wanted))
    assert (await office.run_import("contacts.csv", default_region=region))["rejected"] == 0
    assert {one.phone for one in await office.contacts()} == wanted


@pytest.mark.parametrize("format", ["xlsx", "jsonl"])
async def test_kinds_come_back_too(office: Office, format: str) -> None:
    await add(office, ContactRow("+491701234567", attributes={"n": 5, "x": 2.5, "b": True, "text": "5"}))
    exported = await office.run_export("export_contacts", format=format)
    office.write((await office.path(exported["file"])).read_bytes(), "back")
    assert (await office.run_import("back"))["unchanged"] == 1


async def test_more_attributes_than_columns_stand_in_one(office: Office) -> None:
    wide = [ContactRow(f"+49170123456{n}", attributes={f"a{n}{m}": "1" for m in range(150)}) for n in range(2)]
    await add(office, *wide)
    result = await office.run_export("export_contacts", columns=["phone", "attributes"])
    header, row, _ = await csv_rows(office, result)
    assert header == ["phone", "attributes"]
    assert json.loads(row[1]) == wide[0].attributes
    office.write((await office.path(result["file"])).read_bytes(), "back")
    assert (await office.run_import("back"))["unchanged"] == 2


async def test_contacts_are_chosen_by_a_filter(office: Office) -> None:
    await add(
        office,
        ContactRow("+491701234567", tags=["vip"], attributes={"city": "Köln"}),
        ContactRow("+491701234568", tags=["vip"], attributes={"city": "Bonn", "other": "1"}),
        ContactRow("+491701234569"),
    )
    wanted = {"tags": ["vip"], "attributes": {"city": "Köln"}}
    result = await office.run_export("export_contacts", filter=wanted, columns=["phone", "attributes"])
    assert await csv_rows(office, result) == [["phone", "attributes.city"], ["+491701234567", "Köln"]]
    nobody = await office.run_export("export_contacts", key="b", filter={"tags": ["none"]}, columns=["phone"])
    assert (nobody["rows"], await csv_rows(office, nobody)) == (0, [["phone"]])


async def add_messages(office: Office) -> None:
    async with office.database.transaction() as s:
        campaign = Campaign(name="spring", definition={}, status="done", progress=CampaignProgress())
        s.add(campaign)
        await s.flush()
        rows = [
            ("out", "+491701234567", "delivered", campaign.id, AT),
            ("out", "+491701234568", "failed", campaign.id, AT + timedelta(hours=1)),
            ("out", "+491701234568", "read", None, AT + timedelta(hours=2)),
            ("in", "+491701234567", "received", None, AT + timedelta(hours=3)),
        ]
        for direction, phone, status, campaign_id, at in rows:
            values = {"direction": direction, "phone": phone, "type": "text", "text": "=hello", "status": status}
            await s.execute(
                insert(Message).values(**values, status_at=at, campaign_id=campaign_id, created_at=at, wamid=None)
            )


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, [1, 2, 3, 4]),
        ({"direction": "in"}, [4]),
        ({"status": "failed"}, [2]),
        ({"campaign_id": 1}, [1, 2]),
        ({"phone": "+491701234568"}, [2, 3]),
        ({"created_after": "2024-01-31T13:30:15.25Z", "created_before": "2024-01-31T15:30:15.25Z"}, [2, 3]),
    ],
)
async def test_messages_are_chosen_by_a_filter(office: Office, wanted: dict[str, Any], ids: list[int]) -> None:
    await add_messages(office)
    result = await office.run_export("export_messages", filter=wanted, columns=["id"])
    assert await csv_rows(office, result) == [["id"], *([str(number)] for number in ids)]


@pytest.mark.parametrize("format", FORMATS)
async def test_messages_in_each_format(office: Office, format: str) -> None:
    await add_messages(office)
    wanted = {"status": "failed"}
    result = await office.run_export("export_messages", format=format, filter=wanted)
    path = await office.path(result["file"])
    values = ["2024-01-31T13:30:15.250Z", "out", "+491701234568", "text", "=hello", "failed"]
    if format == "csv":
        [_, row] = await csv_rows(office, result)
        assert row[1:7] == [*values[:4], "'=hello", "failed"]
    elif format == "xlsx":
        [header, cells] = python_calamine.load_workbook(path).get_sheet_by_name("Messages").to_python()
        assert header[:4] == ["id", "created_at", "direction", "phone"]
        assert cells[1:7] == values
    else:
        [line] = path.read_text().splitlines()
        assert list(json.loads(line).values())[1:7] == values


async def test_pages_follow_each_other_without_gaps(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.crm.exports.jobs.PAGE_ROWS", 7)
    await many(office, 50)
    run = RecordedRun()
    payload = ExportContacts(columns=("phone",))
    result = dict(await export_contacts(office.context("export_contacts", run=run), payload))
    assert [row[0] for row in (await csv_rows(office, result))[1:]] == [f"+4917{n:08}" for n in range(50)]
    fractions = [fraction for fraction, _ in run.progress_notes]
    assert fractions == sorted(fractions)
    assert run.progress_notes[-1] == (0.99, "50 rows")


async def test_a_job_that_is_repeated_returns_the_same_file(office: Office) -> None:
    await many(office, 3)
    first = await office.run_export("export_contacts")
    await many(office, 5)
    assert await office.run_export("export_contacts") == first
    assert (await office.run_export("export_contacts", key="another"))["rows"] == 5


async def test_a_sheet_that_is_full_fails_the_job_with_the_advice(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(xlsx_writer, "MAX_ROWS", 2)
    await many(office, 3)
    with pytest.raises(Permanent, match="XLSX holds at most 2 rows; take csv or jsonl"):
        await office.run_export("export_contacts", format="xlsx")
    assert list(office.files.folder.iterdir()) == []


async def test_a_file_that_cannot_be_written_is_tried_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(office, 3)
    monkeypatch.setattr(xlsx_write_child, "__file__", "/nonexistent.py")
    with pytest.raises(OSError, match="writing XLSX ended with"):
        await office.run_export("export_contacts", format="xlsx")
    assert list(office.files.folder.iterdir()) == []


async def test_a_database_that_is_unavailable_is_waited_for(office: Office) -> None:
    await office.database.stop()
    with pytest.raises(RecordsUnavailable):  # the engine lets the job wait, and no attempt is spent
        await office.run_export("export_contacts")


class _Stuck(RecordedRun):
    """Holds the job as soon as it tells progress."""

    async def progress(self, fraction: float, note: str | None) -> None:
        await super().progress(fraction, note)
        await asyncio.Event().wait()


@pytest.mark.parametrize("format", FORMATS)
async def test_a_cancelled_export_leaves_nothing(office: Office, format: str) -> None:
    await many(office, 3)
    run = _Stuck()
    payload = ExportContacts.model_validate({"format": format})
    task = asyncio.create_task(export_contacts(office.context("export_contacts", run=run), payload))
    await wait_until(lambda: run.progress_notes)
    assert [path.suffix for path in office.files.folder.iterdir()] == [".part"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(office.files.folder.iterdir()) == []


async def test_a_stopped_xlsx_ends_while_it_is_packed(office: Office, tmp_path: Path) -> None:
    writer = xlsx_writer.XlsxWriter(tmp_path / "x.xlsx", ["n"], "S")
    writer.write([[n] for n in range(30_000)])
    finishing = asyncio.create_task(asyncio.to_thread(writer.finish))
    await asyncio.sleep(0)
    writer.stop()
    with pytest.raises(OSError, match="writing XLSX ended with -9"):
        await finishing
    writer.close()
    writer.close()


async def test_exports_in_a_real_queue(harness: EngineHarness, office: Office) -> None:
    await many(office, 200)
    await harness.start_pool(resources=office.resources)
    keys = [await harness.add("export", "export_contacts", format=format) for format in FORMATS]
    keys.append(await harness.add("export", "export_messages"))
    views = [await harness.finished("export", key, 30.0) for key in keys]
    assert [view.state for view in views] == [State.COMPLETED] * 4
    assert [view.result["rows"] for view in views] == [200, 200, 200, 0]


async def test_a_daemon_that_dies_leaves_no_whole_file_and_the_next_one_makes_it(
    harness: EngineHarness, office: Office
) -> None:
    await many(office, 2_000)
    first = await harness.start_pool("one", resources=office.resources)
    key = await harness.add("export", "export_contacts", format="xlsx")
    await wait_until(lambda: list(office.files.folder.glob("*.part")), 10.0)
    await kill(first)
    await harness.start_pool("one", resources=office.resources)
    view = await harness.finished("export", key, 30.0)
    assert view.state is State.COMPLETED, view.error
    sheet = python_calamine.load_workbook(await office.path(view.result["file"])).get_sheet_by_index(0)
    assert sheet.height == 2_001


async def test_an_export_that_takes_too_long_is_tried_again(
    office: Office, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hung = asyncio.Event()
    finish = transfers.finish

    async def slow_once(*args: Any, **fields: Any) -> None:
        if not hung.is_set():
            hung.set()
            await asyncio.Event().wait()
        await finish(*args, **fields)

    monkeypatch.setattr(transfers, "finish", slow_once)
    quick = QueueSettings("export", timeout_seconds=1.0, attempts=2, backoff=Backoff(0.01, 0.02))
    async with transfer_harness(store_url, quick) as harness:
        await harness.start_pool(resources=office.resources)
        view = await harness.finished("export", await harness.add("export", "export_contacts"), 30.0)
        assert (view.state, view.attempt) == (State.COMPLETED, 2)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"format": "ods"}, "'csv', 'xlsx' or 'jsonl'"),
        ({"columns": ["telephone"]}, '"telephone" is not a column'),
        ({"columns": ["attributes."]}, '"attributes." is not a column'),
        ({"columns": []}, "at least 1 item"),
        ({"delimiter": "="}, "must be a character such as"),
        ({"filter": {"tag": "x"}}, "Extra inputs"),
        ({"name": " "}, "must not be blank"),
    ],
)
def test_bad_payloads_are_refused_with_the_reason(payload: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ExportContacts.model_validate(payload)
    if "columns" in payload or "format" in payload:
        with pytest.raises(ValidationError):
            ExportMessages.model_validate(payload)
