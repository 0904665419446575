"""`import_contacts`: what comes in, what is refused and named, and what a second run does."""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from pydantic import ValidationError

from crmd.crm.contacts import repository as contacts
from crmd.crm.features import forgetting
from crmd.crm.imports.jobs import CHUNK_ROWS, import_contacts
from crmd.crm.imports.payloads import ImportContacts
from crmd.crm.tabular.xlsx_source import MAX_CHILDREN
from crmd.errors import Permanent, Snooze
from crmd.jobs import JobContext
from tests.support.context import RecordedRun
from tests.support.transfers import Office

MARCH = datetime(2024, 3, 1, tzinfo=UTC)
COUNTS = ("rows", "created", "updated", "unchanged", "skipped", "rejected")


def counts(result: dict[str, Any]) -> dict[str, int]:
    return {name: result[name] for name in COUNTS if result[name]}


def lines(count: int, begin: int = 0) -> str:
    return "".join(f"+4917{n:08},Person {n}\n" for n in range(begin, begin + count))


async def test_a_csv_file_becomes_contacts(office: Office) -> None:
    path = office.write(
        "Telefon;Vorname;Nachname;E-Mail;Tags;Stadt\n"
        "0170 1234567;Jörg;Müßig;joerg@example.org;vip, neu;Köln\n"
        "+43 664 1234567;Zoë;;;;\n"
    )
    result = await office.run_import(path, default_region="DE", tags=["import"])
    assert counts(result) == {"rows": 2, "created": 2}
    assert result["report"] is None
    assert result["columns"] == {
        "Telefon": "phone",
        "Vorname": "first_name",
        "Nachname": "last_name",
        "E-Mail": "email",
        "Tags": "tags",
        "Stadt": "attributes.Stadt",
    }
    assert result["source"] == {"format": "csv", "encoding": "utf-8", "delimiter": ";"}
    found = await office.by_phone()
    one = found["+491701234567"]
    assert (one.name, one.email, one.tags) == ("Jörg Müßig", "joerg@example.org", ("import", "neu", "vip"))
    assert one.attributes == {"Stadt": "Köln"}
    two = found["+436641234567"]
    assert (two.name, two.email, two.tags, two.attributes) == ("Zoë", None, ("import",), {})


async def test_json_lines_keep_the_kinds_of_their_values(office: Office) -> None:
    rows = [
        {"phone": "+491701234567", "name": "A", "tags": ["x", "y"], "attributes": {"n": 1, "list": [1, "a"]}},
        {"mobile": 1, "phone": "+491701234568", "ok": True, "name": None},
    ]
    result = await office.run_import(office.write("\n".join(map(json.dumps, rows)), "c.jsonl"))
    # of the two columns that may be the phone the mobile one is taken
    assert counts(result) == {"rows": 2, "rejected": 2}
    result = await office.run_import("c.jsonl", key="b", columns={"phone": "phone"})
    assert counts(result) == {"rows": 2, "created": 2}
    found = await office.by_phone()
    assert found["+491701234567"].attributes == {"n": 1, "list": [1, "a"]}
    assert found["+491701234568"].attributes == {"mobile": 1, "ok": True}


async def test_an_xlsx_file_becomes_contacts(office: Office) -> None:
    with xlsxwriter.Workbook(str(office.folder / "c.xlsx")) as book:
        sheet = book.add_worksheet("Kunden")
        sheet.write_row(0, 0, ["Our customers"])
        sheet.write_row(2, 0, ["Handy", "Name", "Punkte", "Seit"])
        sheet.write_row(3, 0, [491701234567, "Zoë", 17, ""])
        sheet.write_datetime(3, 3, datetime(2024, 1, 31), book.add_format({"num_format": "dd.mm.yyyy"}))
        sheet.write_row(4, 0, [4.91701e22, "Rounded"])
    result = await office.run_import("c.xlsx", default_region="DE")
    assert counts(result) == {"rows": 2, "created": 1, "rejected": 1}
    assert result["source"] == {"format": "xlsx", "sheet": "Kunden"}
    assert (await office.by_phone())["+491701234567"].attributes == {"Punkte": 17, "Seit": "2024-01-31"}
    assert [row["row"] for row in await office.report(result)] == ["5"]


async def test_so_many_xlsx_files_are_read_at_a_time_and_the_others_wait(office: Office) -> None:
    with xlsxwriter.Workbook(str(office.folder / "c.xlsx")) as book:
        book.add_worksheet().write_column(0, 0, ["phone", "+491701234567"])
    sources = [office.xlsx.open(office.folder / "c.xlsx", None) for _ in range(MAX_CHILDREN)]
    try:
        with pytest.raises(Snooze, match="are being read; this one waits"):
            await office.run_import("c.xlsx")
        sources.pop().close()
        assert counts(await office.run_import("c.xlsx")) == {"rows": 1, "created": 1}
        sources.append(office.xlsx.open(office.folder / "c.xlsx", None))
        with pytest.raises(Snooze):
            await office.run_import("c.xlsx", key="b")
    finally:
        for source in sources:
            source.close()
            source.close()
    for number in range(2 * MAX_CHILDREN):  # one that cannot be read gives its place back too
        with pytest.raises(Permanent):
            await office.run_import(office.write(b"PK\x03\x04broken", "d.xlsx"), key=f"d{number}")
    assert counts(await office.run_import("c.xlsx", key="c")) == {"rows": 1, "unchanged": 1}


async def test_an_uploaded_file_is_taken_by_its_id(office: Office) -> None:
    async with office.files.create(kind="upload", name="my people.csv", media_type="text/csv") as new:
        new.path.write_text("phone\n+491701234567\nx\n")
    payload = ImportContacts(file=new.id)
    result = dict(await import_contacts(office.context("import_contacts"), payload))
    assert counts(result) == {"rows": 2, "created": 1, "rejected": 1}
    assert (await office.files.get(result["report"])).name == "my people-rejected.csv"
    with pytest.raises(Permanent, match="no file"):
        await import_contacts(office.context("import_contacts", "b"), ImportContacts(file="0" * 32))


@pytest.mark.parametrize(
    ("header", "row", "name"),
    [
        ("Telefon;Vorname;Name", "+491701234567;Ada;Lovelace", "Ada Lovelace"),
        ("Nom;Prénom;Téléphone", "Lovelace;Ada;+491701234567", "Ada Lovelace"),
        ("Nombre;Apellidos;Teléfono WhatsApp", "Ada;Lovelace King;+491701234567", "Ada Lovelace King"),
        ("Nome;Cognome;Cellulare", "Ada;Lovelace;+491701234567", "Ada Lovelace"),
        ("Nome;Sobrenome;Celular", "Ada;;+491701234567", "Ada"),
        ("First name;Name;Phone", "Ada;Ada Lovelace;+491701234567", "Ada Lovelace"),
        ("Name;Nachname;Phone", "Ada Lovelace;Lovelace;+491701234567", "Ada Lovelace"),
    ],
)
async def test_no_half_of_a_name_is_lost(office: Office, header: str, row: str, name: str) -> None:
    assert counts(await office.run_import(office.write(f"{header}\n{row}\n"))) == {"rows": 1, "created": 1}
    assert (await office.by_phone())["+491701234567"].name == name


GOOGLE = (
    "First Name,Last Name,Labels,E-mail 1 - Label,E-mail 1 - Value,"
    "Phone 1 - Label,Phone 1 - Value,Phone 2 - Label,Phone 2 - Value\n"
)


@pytest.mark.parametrize(
    ("phones", "phone"),
    [
        ("Work,+49 30 901820,Mobile,+49 170 1234567", "+491701234567"),
        ("Mobile,+49 170 1234567,Work,+49 151 23456789", "+491701234567"),
        ("Work,+49 151 23456789,Mobil,+49 170 1234567", "+491701234567"),
        ("Work,+49 30 901820,Home,+49 30 901821", "+4930901820"),
        ("Home,+49 30 901820,Other,+49 170 1234567", "+491701234567"),
        ("Mobile,12345,Work,+49 30 901820", "+4930901820"),
        (",,Work,+49 30 901820", "+4930901820"),
        ("* Mobile,+49 30 901820 ::: +49 170 1234567,,", "+491701234567"),
        ("Work,+49 30 901820 ::: x ::: +49 30 901821,,", "+4930901820"),
        ("Work,n/a ::: +49 30 901820,,", "+4930901820"),
    ],
)
@pytest.mark.parametrize("kind", ["Label", "Type"])
async def test_of_googles_phones_the_mobile_one_is_taken(
    office: Office, phones: str, phone: str, kind: str
) -> None:
    row = f"Ada,Lovelace,* myContacts ::: Club,Home,ada@example.org ::: a@example.com,{phones}\n"
    result = await office.run_import(office.write(GOOGLE.replace("Label,", f"{kind},") + row))
    assert counts(result) == {"rows": 1, "created": 1}
    [one] = await office.contacts()
    assert (one.phone, one.name, one.email) == (phone, "Ada Lovelace", "ada@example.org")
    assert one.tags == ("Club", "myContacts")


async def test_the_numbers_that_are_not_taken_become_attributes(office: Office) -> None:
    office.write(GOOGLE + "Ada,,,,,Work,+49 30 901820,Mobile,+49 170 1234567\nBo,,,,,Work,1,Mobile,2\n")
    result = await office.run_import("contacts.csv")
    [one] = await office.contacts()
    assert one.attributes["Phone_1_Value"] == "+49 30 901820"
    assert "Phone_2_Value" not in one.attributes
    [refused] = await office.report(result)
    assert (refused["column"], refused["value"]) == ("Phone 1 - Value", "1")


async def test_a_file_without_a_header(office: Office) -> None:
    path = office.write("Anna,0170 1234567,x\nBo,0170 1234568,y\n")
    result = await office.run_import(path, default_region="DE", columns={"3": "attributes.code"})
    assert counts(result) == {"rows": 2, "created": 2}
    assert (await office.by_phone())["+491701234568"].attributes == {"code": "y"}


async def test_whether_there_is_a_header_may_be_said(office: Office) -> None:
    path = office.write("who,number\nAnna,+491701234567\n")
    result = await office.run_import(path, header=True, columns={"number": "phone", "who": "name"})
    assert counts(result) == {"rows": 1, "created": 1}
    result = await office.run_import(path, key="b", header=False, columns={"2": "phone"})
    assert counts(result) == {"rows": 2, "unchanged": 1, "rejected": 1}


@pytest.mark.parametrize(
    ("value", "out"),
    [
        *[
            (value, True)
            for value in ("yes", "TRUE", "1", "x", "ja", "sí", "oui", "sim", "да", "1.0", "✓", "Opted out")
        ],
        *[
            (value, True)
            for value in ("Unsubscribed", "2024-01-31", "31.01.2024", "1/31/2024 10:00", "31/01/2024")
        ],
        *[(value, True) for value in ("2024-01-31 12:00:00 UTC", "2024-01-31T12:00:00+02:00", "STOP", "baja")],
        *[(value, False) for value in ("no", "FALSE", "0", "nein", "não", "нет", "", " ", "0000-00-00 00:00:00")],
        *[(value, False) for value in ("null", "n/a", "-", "0.0", "opted in", "Subscribed")],
    ],
)
async def test_what_a_cell_of_an_opt_out_column_means(office: Office, value: str, out: bool) -> None:
    result = await office.run_import(office.write(f"phone,Do not contact,city\n+491701234567,{value},Köln\n"))
    assert counts(result) == {"rows": 1, "created": 1}
    found = (await office.by_phone())["+491701234567"]
    assert ((found.opted_out_at is not None), found.attributes) == (out, {"city": "Köln"})


async def test_a_number_with_a_plus_that_became_a_decimal_one_is_the_number_it_was(office: Office) -> None:
    await office.run_import(office.write("phone\n+491701234567.0\n491701234568.0\n"), default_region="DE")
    assert set(await office.by_phone()) == {"+491701234567", "+491701234568"}


async def test_an_opt_in_column_is_not_turned_around(office: Office) -> None:
    await office.run_import(office.write("phone,Opted in\n+491701234567,no\n+491701234568,yes\n"))
    found = await office.by_phone()
    assert {phone: one.opted_out_at for phone, one in found.items()} == dict.fromkeys(found)
    assert found["+491701234567"].attributes == {"Opted_in": "no"}


async def test_of_a_date_that_reads_both_ways_the_later_one_counts_and_of_several_columns_the_earliest(
    office: Office,
) -> None:
    await office.run_import(
        office.write(
            "phone,Opt-out,opt_out_at\n+491701234567,,04/03/2024\n+491701234568,yes,03.04.2024\n"
            "+491701234569,no,2024-03-01\n"
        )
    )
    since = {phone[-1]: one.opted_out_at for phone, one in (await office.by_phone()).items()}
    assert since == {"7": datetime(2024, 4, 3, tzinfo=UTC), "8": datetime(2024, 4, 3, tzinfo=UTC), "9": MARCH}


async def test_a_row_that_is_refused_still_opts_out_who_is_there(office: Office) -> None:
    """Unclear, beside another mistake, or in a second row of a number: nobody is written to by chance."""
    numbers = [f"+49170123456{n}" for n in range(7)]
    await office.run_import(office.write("phone,name\n" + "".join(f"{number},N\n" for number in numbers)))
    path = office.write(
        "phone,email,DNC\n"
        f"{numbers[0]},,since the 31st of May\n"
        f"{numbers[1]},not an address,yes\n"
        f"{numbers[2]},not an address,no\n"
        f"{numbers[3]},,no\n"
        f"{numbers[3]},,yes\n"
        f"{numbers[4]},,https://example.org/unsubscribe?x=1\n"
        f"{numbers[5]},,=TRUE()\n"
        "+491701234599,,perhaps\n",
        "b.csv",
    )
    assert counts(await office.run_import(path, key="b")) == {"rows": 8, "unchanged": 1, "rejected": 7}
    found = await office.by_phone()
    assert [found[number].opted_out_at is not None for number in numbers] == [
        *[True, True, False, True, False, True, False]
    ]
    assert "+491701234599" not in found


async def test_an_opt_out_counts_also_where_contacts_that_are_there_are_skipped(office: Office) -> None:
    await office.run_import(office.write("phone,name\n+491701234567,A\n"))
    result = await office.run_import(
        office.write("phone,name,Baja\n+491701234567,B,sí\n", "b.csv"), key="b", update="skip"
    )
    assert counts(result) == {"rows": 1, "skipped": 1}
    found = (await office.by_phone())["+491701234567"]
    assert (found.name, found.opted_out_at is not None) == ("A", True)


async def test_what_is_there_is_merged_or_skipped(office: Office) -> None:
    await office.run_import(office.write("phone,name,email,tags,a,b\n+491701234567,Old,o@example.org,x,1,2\n"))
    path = office.write("phone,name,email,tags,a\n+491701234567,New,,y,3\n+491701234568,Other,,,\n", "new.csv")
    result = await office.run_import(path, key="skip", update="skip")
    assert counts(result) == {"rows": 2, "created": 1, "skipped": 1}
    assert (await office.by_phone())["+491701234567"].name == "Old"
    result = await office.run_import(path, key="merge")
    assert counts(result) == {"rows": 2, "updated": 1, "unchanged": 1}
    one = (await office.by_phone())["+491701234567"]
    assert (one.name, one.email, one.tags) == ("New", "o@example.org", ("x", "y"))
    assert one.attributes == {"a": "3", "b": "2"}


async def test_an_opt_out_is_taken_over_and_never_taken_back(office: Office) -> None:
    path = office.write(
        "phone,opted_out_at\n+491701234567,2024-01-31T12:00:00Z\n+491701234568,yes\n+491701234569,\n"
        "+491701234570,no\n+491701234571,perhaps\n"
    )
    assert counts(await office.run_import(path)) == {"rows": 5, "created": 4, "rejected": 1}
    found = await office.by_phone()
    assert found["+491701234567"].opted_out_at == datetime(2024, 1, 31, 12, tzinfo=UTC)
    assert found["+491701234568"].opted_out_at is not None
    assert found["+491701234569"].opted_out_at is found["+491701234570"].opted_out_at is None
    await office.run_import(office.write("phone,opted_out_at\n+491701234567,\n", "again.csv"), key="b")
    assert (await office.by_phone())["+491701234567"].opted_out_at is not None


async def test_a_dry_run_reports_and_changes_nothing(office: Office) -> None:
    await office.run_import(office.write(lines(1)))
    path = office.write("phone,name\n" + lines(3) + "bad,x\n", "more.csv")
    result = await office.run_import(path, key="b", dry_run=True)
    assert counts(result) == {"rows": 4, "created": 2, "updated": 1, "rejected": 1}
    assert result["dry_run"] is True
    assert len(await office.report(result)) == 1
    assert len(await office.contacts()) == 1


async def test_progress_is_told(office: Office) -> None:
    run = RecordedRun()
    await office.run_import(office.write("phone,name\n" + lines(CHUNK_ROWS * 3)), run=run)
    fractions = [fraction for fraction, _ in run.progress_notes]
    assert len(fractions) == 3
    assert fractions == sorted(fractions)
    assert run.progress_notes[-1] == (0.99, f"{CHUNK_ROWS * 3:,} rows, 0 rejected")


@pytest.mark.parametrize(
    ("data", "payload", "reason"),
    [
        ("", {}, "it is empty"),
        ("\n\n", {}, "it has no rows"),
        ("city,name\nKöln,Anna\n", {}, "no column is known as the phone number; there are 'city', 'name'"),
        ("phone\n+491701234567\n", {"columns": {"mobile": "name"}}, "no column 'mobile'; it has 'phone'"),
        ("phone\n", {"encoding": "utf-16"}, "cannot be read as utf-16"),
        ("phone\n", {"format": "xlsx"}, "damaged"),
        (b"%PDF", {}, "PDF"),
    ],
)
async def test_a_file_that_cannot_be_imported_fails_with_the_reason(
    office: Office, data: str | bytes, payload: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Permanent, match=reason) as caught:
        await office.run_import(office.write(data), **payload)
    assert caught.value.code == "unreadable_file"


async def test_only_files_of_the_folder_are_read(office: Office, tmp_path: Path) -> None:
    (tmp_path / "outside.csv").write_text("phone\n+491701234567\n")
    (office.folder / "link.csv").symlink_to(tmp_path / "outside.csv")
    os.mkfifo(office.folder / "pipe.csv")
    for path in ("../outside.csv", str(tmp_path / "outside.csv"), "link.csv", "pipe.csv", "none.csv", ".", "a\0b"):
        with pytest.raises(Permanent) as caught:
            await office.run_import(path)
        assert caught.value.code == "no_file"
    assert await office.contacts() == []


async def test_a_job_that_is_repeated_returns_the_same_and_does_nothing(office: Office) -> None:
    path = office.write("phone,name\n" + lines(3) + "bad,x\n")
    first = await office.run_import(path)
    (office.folder / path).write_text("phone,name\n" + lines(9))
    assert await office.run_import(path) == first
    assert len(await office.contacts()) == 3
    assert counts(await office.run_import(path, key="another")) == {"rows": 9, "created": 6, "unchanged": 3}


class _Hurrying(RecordedRun):
    """A job whose time is up with its first chunk of rows."""

    @property
    def deadline(self) -> float | None:
        self.asked = getattr(self, "asked", 0) + 1
        return time.monotonic() + (600.0 if self.asked == 1 else 1.0)

    @deadline.setter
    def deadline(self, value: float | None) -> None:
        """Set by the context, and of no account."""


class _Stopping(RecordedRun):
    """Stops the job from within, as soon as it has told so much progress."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    async def progress(self, fraction: float, note: str | None) -> None:
        await super().progress(fraction, note)
        if len(self.progress_notes) == self.after:
            raise asyncio.CancelledError


async def test_a_run_that_was_stopped_goes_on_where_it_was(office: Office) -> None:
    data = "phone,name\nbad,first\n" + lines(CHUNK_ROWS * 3) + lines(1) + "worse,last\n"
    path = office.write(data)
    with pytest.raises(asyncio.CancelledError):
        await office.run_import(path, run=_Stopping(after=2))
    there = len(await office.contacts())
    assert CHUNK_ROWS <= there < CHUNK_ROWS * 3
    async with office.database.transaction() as s:  # what was done is not done again
        await contacts.set_attribute(s, (await office.contacts())[0].id, "mark", "x")
        await contacts.forget(s, (await office.contacts())[1].id, forgetting())
    result = await office.run_import(path)
    assert counts(result) == {"rows": CHUNK_ROWS * 3 + 3, "created": CHUNK_ROWS * 3, "rejected": 3}
    assert len(await office.contacts()) == CHUNK_ROWS * 3 - 1
    # the report is whole, and knows duplicates of rows that the first run had
    assert [row["row"] for row in await office.report(result)] == [
        "2",
        str(CHUNK_ROWS * 3 + 3),
        str(CHUNK_ROWS * 3 + 4),
    ]
    assert (await office.report(result))[1]["reason"] == "has the same number as row 3"


async def test_a_file_that_changed_meanwhile_is_read_from_its_beginning(office: Office) -> None:
    path = office.write("phone,name\n" + lines(CHUNK_ROWS * 2))
    with pytest.raises(asyncio.CancelledError):
        await office.run_import(path, run=_Stopping(after=1))
    office.write("phone,name\n" + lines(10, begin=5000), path)
    assert counts(await office.run_import(path)) == {"rows": 10, "created": 10}


async def test_an_import_gives_its_place_up_before_the_timeout(office: Office) -> None:
    path = office.write("phone,name\n" + lines(CHUNK_ROWS * 3))
    payload = ImportContacts(path=path)

    def nearly_out_of_time() -> JobContext:
        return office.context("import_contacts", run=_Hurrying())

    for _ in range(3):
        with pytest.raises(Snooze, match="the timeout is near"):
            await import_contacts(nearly_out_of_time(), payload)
    assert len(await office.contacts()) == CHUNK_ROWS * 3
    result = dict(await import_contacts(nearly_out_of_time(), payload))
    assert counts(result) == {"rows": CHUNK_ROWS * 3, "created": CHUNK_ROWS * 3}


async def test_a_database_that_is_unavailable_is_waited_for(office: Office) -> None:
    path = office.write("phone,name\n" + lines(1))
    await office.database.stop()
    with pytest.raises(Snooze, match="goes on where it was"):
        await office.run_import(path)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "either file or path"),
        ({"file": "a", "path": "b"}, "either file or path"),
        ({"path": "a", "encoding": "rot13"}, '"rot13" is not a text encoding'),
        ({"path": "a", "encoding": "klingon"}, '"klingon" is not a text encoding'),
        ({"path": "a", "delimiter": ";;"}, "at most 1 character"),
        ({"path": "a", "delimiter": '"'}, "cannot be a quote"),
        ({"path": "a", "default_region": "Germany"}, "not a country code"),
        ({"path": "a", "columns": {"x": "telephone"}}, '"telephone" is not a field'),
        ({"path": "a", "columns": {"x": "attributes."}}, "an attribute's name has 1 to 64"),
        ({"path": "a", "columns": {"x": "phone", "y": "phone"}}, "several columns are to be phone"),
        ({"path": "a", "tags": [" "]}, "a tag has 1 to 64"),
        ({"path": "a", "update": "replace"}, "'merge' or 'skip'"),
        ({"path": "a", "colums": {}}, "Extra inputs"),
    ],
)
def test_bad_payloads_are_refused_with_the_reason(payload: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        ImportContacts.model_validate(payload)
