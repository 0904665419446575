"""A file with more than fifty kinds of bad rows: the report names each, and the good rows between are in."""

from __future__ import annotations

import pytest

from crmd.crm.imports import jobs as import_contacts
from crmd.errors import Permanent
from tests.support.transfers import Office

HEADER = "phone,name,email,tags,opted_out_at,attributes,city,attributes.note"
GOOD = 3
"""Good rows between two bad ones."""


def row(
    phone: str = "+4930111222", name: str = "", email: str = "", tags: str = "", out: str = "", **more: str
) -> str:
    cells = (phone, name, email, tags, out, more.get("attributes", ""), more.get("city", ""), more.get("note", ""))
    return ",".join(cells)


def number(begin: str) -> str:
    return row(phone=begin)


# kind -> (what stands in the file, the column that the report names, a part of the reason)
BAD: dict[str, tuple[str | bytes, str, str]] = {
    # phones
    "no phone": (row(phone="", name="Anna"), "phone", "has no phone number"),
    "blank phone": (row(phone="   ", name="Anna"), "phone", "has no phone number"),
    "letters": (number("call me"), "phone", "is not a phone number"),
    "a mail address as phone": (number("anna@example.org"), "phone", "is not a phone number"),
    "a date as phone": (number("31.01.2024"), "phone", "is not a number in use in DE"),
    "too short": (number("+4917"), "phone", "too short"),
    "too long": (number("+491701234567890123"), "phone", "too long"),
    "far too long": (number("1" * 100), "phone", "is not a phone number"),
    "no such country": (number("+9991701234567"), "phone", "country code that does not exist"),
    "not in use": (number("0123"), "phone", "is not a number in use in DE"),
    "only a plus": (number("+"), "phone", "is not a phone number"),
    "only a country": (number("+49"), "phone", "is"),
    "rounded by a spreadsheet": (number("4.91701E+11"), "phone", "rounded by a spreadsheet"),
    "rounded with a comma": (number('"4,91701E+11"'), "phone", "rounded by a spreadsheet"),
    "two numbers": (number("+491701234567; +491701234568"), "phone", "holds several numbers"),
    "two numbers in lines": (number('"+491701234567\n+491701234568"'), "phone", "holds several numbers"),
    "a number with a fraction": (number("1701234567.5"), "phone", "a number with a fraction"),
    "an error of a spreadsheet": (number("#N/A"), "phone", "is not a phone number"),
    "nothing but null": (number("NULL"), "phone", "is not a phone number"),
    # duplicates
    "duplicate": (number("+491700000001"), "", "has the same number as row 2"),
    "duplicate in other words": (number("0049 (170) 000-0001"), "", "has the same number as row 2"),
    "duplicate without plus": (number("491700000001"), "", "has the same number as row 2"),
    # mail, names, tags
    "mail without at": (row(email="anna.example.org"), "email", "is not an e-mail address"),
    "mail without domain": (row(email="anna@"), "email", "is not an e-mail address"),
    "mail with a space": (row(email="an na@example.org"), "email", "is not an e-mail address"),
    "two mails": (row(email="a@example.org;b@example.org"), "email", "is not an e-mail address"),
    "mail without a dot": (row(email="anna@localhost"), "email", "is not an e-mail address"),
    "mail with dots": (row(email="anna@example..org"), "email", "is not an e-mail address"),
    "mail too long": (row(email="a" * 250 + "@example.org"), "email", "is not an e-mail address"),
    "name too long": (row(name="N" * 201), "name", "a name has at most 200"),
    "tag too long": (row(tags="t" * 65), "tags", "a tag of more than 64"),
    "too many tags": (row(tags=";".join(f"t{n}" for n in range(51))), "tags", "at most 50"),
    "a broken list of tags": (row(tags="[a"), "tags", "begins like a JSON list"),
    # opt-out and attributes
    "opt-out is no time": (row(out="31st of May"), "opted_out_at", "is neither yes, no nor a time"),
    "attributes are no JSON": (row(attributes="{a:1}"), "attributes", "is not a JSON object"),
    "attributes are a list": (row(attributes="[1]"), "attributes", "is not a JSON object"),
    "an attribute without a name": (
        row(attributes='"{"" "":1}"'),
        "attributes",
        "an attribute's name has 1 to 64",
    ),
    "attribute too long": (row(note="x" * 5000), "attributes.note", "an attribute has at most 4,096"),
    # formulas
    "formula": (row(name="=1+1"), "name", "is a formula"),
    "formula as phone": (number("=A1"), "phone", "is a formula"),
    "formula with a link": (row(city='"=HYPERLINK(""http://evil.example"")"'), "city", "is a formula"),
    "formula by plus": (row(city="+SUM(A1)"), "city", "is a formula"),
    "formula by at": (row(city="@SUM(A1)"), "city", "is a formula"),
    "formula that starts a program": (row(city="-cmd|' /C calc'!A0"), "city", "is a formula"),
    # encodings
    "one byte letters": (row(name="J?rg").encode().replace(b"?", b"\xf6"), "name", "not of the file's encoding"),
    "half a letter": (row(city="K?ln").encode().replace(b"?", b"\xc3"), "city", "not of the file's encoding"),
    "a lost letter": (row(name="J\ufffdrg"), "name", "not of the file's encoding"),
    "zero bytes": (row(name="A\0nna"), "name", "control characters"),
    "control characters": (row(city="\x1b[31mred"), "city", "control characters"),
    "a deleted letter": (row(email="\x7fa@example.org"), "email", "control characters"),
    # the table itself
    "cells missing": ("+4930111222,Anna", "", "has 2 cells where the header has 8"),
    "cells too many": (row() + ",more", "", "has 9 cells where the header has 8"),
    "a delimiter that is not quoted": (row(name="Müller, Anna", note="n"), "", "has 9 cells"),
    "another delimiter": ("+4930111222;Anna;;;;;;", "", "has 1 cells where the header has 8"),
    "far too many cells": ("," * 600, "", "601 cells; at most 500"),
    "huge cell": (row(name="x" * 40_000), "name", "a cell has at most 32,767"),
    "gigantic cell": (row(name="x" * 150_000), "", "a cell of more than 131,072"),
    "endless line": ("x" * 1_100_000, "", "a line of more than 1,048,576"),
    "a quote that is open": (row(name='"Anna'), "", "quote"),
    "quotes that are not paired": (row(name='"Anna "the" B"'), "", "quotes are not paired"),
}


def mixed_file() -> tuple[bytes, dict[str, int], set[str]]:
    """Good rows with bad ones between; in which line each kind of bad row begins; and the good numbers."""
    parts: list[bytes] = [HEADER.encode()]
    line = 1
    begins: dict[str, int] = {}
    good: set[str] = set()

    def add(data: bytes) -> int:
        nonlocal line
        parts.append(data)
        begin = line + 1
        line += 1 + data.count(b"\n")
        return begin

    def add_good() -> None:
        for _ in range(GOOD):
            phone = f"+49170{len(good) + 1:07}"
            good.add(phone)
            add(row(phone=phone, name="Jörg Müßig", city="Köln").encode())

    for kind, (data, _, _) in BAD.items():
        add_good()
        begins[kind] = add(data if isinstance(data, bytes) else data.encode())
    add_good()
    return b"\n".join(parts) + b"\n", begins, good


async def test_every_kind_is_named_and_the_good_rows_are_in(office: Office) -> None:
    assert len(BAD) >= 50
    data, begins, good = mixed_file()
    result = await office.run_import(office.write(data), default_region="DE")
    assert result["source"] == {"format": "csv", "encoding": "utf-8", "delimiter": ","}
    report = {int(entry["row"]): entry for entry in await office.report(result)}
    found = {kind: (report.get(begin) or {}).get("reason", "") for kind, begin in begins.items()}
    assert {kind: found[kind] for kind, (_, _, reason) in BAD.items() if reason not in found[kind]} == {}
    columns = {kind: report[begin]["column"] for kind, begin in begins.items()}
    assert {kind: columns[kind] for kind, (_, column, _) in BAD.items() if column != columns[kind]} == {}
    stored = await office.by_phone()
    assert set(stored) == good
    assert {(one.name, tuple(one.attributes.items())) for one in stored.values()} == {
        ("Jörg Müßig", (("city", "Köln"),))
    }
    assert result["rejected"] == len(report)
    assert result["created"] == len(good)
    # a record of two lines whose quotes are broken counts once for each line
    assert result["rows"] == len(good) + len(report)


async def test_the_report_opens_in_a_spreadsheet_without_doing_harm(office: Office) -> None:
    result = await office.run_import(office.write("phone,name\n+491701234567,\"=cmd|'/C calc'!A0\"\n"))
    text = (await office.path(result["report"])).read_bytes().decode()
    assert text.startswith("\ufeffrow,column,value,reason\r\n")
    [entry] = await office.report(result)
    assert entry["value"] == "'=cmd|'/C calc'!A0"
    stored = await office.files.get(result["report"])
    assert (stored.kind, stored.name, stored.media_type) == ("report", "contacts-rejected.csv", "text/csv")


async def test_values_in_the_report_are_short_and_on_one_line(office: Office) -> None:
    result = await office.run_import(office.write(f'phone,name\n+491701234567,"a\n{"b" * 500}"\n'))
    [entry] = await office.report(result)
    assert entry["value"].startswith("a\\nbbb")
    assert len(entry["value"]) < 100
    assert entry["value"].endswith("…")


async def test_bad_rows_of_json_lines(office: Office) -> None:
    bad = {
        "{": "not JSON",
        "[]": "no JSON object",
        '{"phone": true}': "is not a phone number",
        '{"phone": 1.5}': "is not a phone number",
        '{"phone": ["+491701234567"]}': "is not a phone number",
        '{"name": "Anna"}': "has no phone number",
        '{"phone": "+491701234567", "name": {"first": "A"}}': "is a list or an object",
        '{"phone": "+491701234567", "tags": [["a"]]}': "is a list or an object",
        '{"phone": "+491701234567", "attributes": "x"}': "is not a JSON object",
        '{"phone": "+491701234567", "attributes": {"a": "' + "x" * 5000 + '"}}': "has at most 4,096",
        '{"phone": "+491701234567", "attributes": {'
        + ",".join(f'"a{n}": 1' for n in range(250))
        + "}}": "than 200",
        '{"phone": "+491701234567", "name": "A\\u0000"}': "control characters",
    }
    good = '{"phone": "+491701234567", "name": "=1+1", "attributes": {"a": null}}'
    result = await office.run_import(office.write("\n".join([*bad, good]), "c.jsonl"))
    reasons = [entry["reason"] for entry in await office.report(result)]
    assert [part for part, reason in zip(bad.values(), reasons, strict=True) if part not in reason] == []
    [one] = await office.contacts()
    assert (one.name, one.attributes) == ("=1+1", {"a": None})


@pytest.mark.parametrize("line", ["x", '"x', "+1,,,,,,", "=1+1", "\udcff"])
async def test_a_file_of_broken_rows_is_given_up_with_a_report(
    office: Office, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_contacts, "MAX_BROKEN", 400)
    good = "".join(f"+4917{n:08}\n" for n in range(100))
    data = f"phone\n{good}" + f"{line}\n" * 3_000
    with pytest.raises(Permanent, match=r"are not contacts; the report, file [0-9a-f]+, says why") as caught:
        await office.run_import(office.write(data.encode("utf-8", "surrogateescape")))
    assert caught.value.code == "too_many_rejected"
    assert len(await office.contacts()) == 100, "what is in stays in"
    file_id = str(caught.value).partition("file ")[2].partition(",")[0]
    assert 400 < len((await office.path(file_id)).read_text().splitlines()) < 1_000


async def test_many_bad_rows_among_as_many_good_ones_and_repeated_ones_are_only_reported(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_contacts, "MAX_BROKEN", 100)
    half = "phone\n" + "".join(f"+4917{n:08}\nx\n" for n in range(400))
    assert (await office.run_import(office.write(half)))["rejected"] == 400
    repeated = "phone\n" + "+491700000001\n" * 1_000
    assert (await office.run_import(office.write(repeated), key="b"))["rejected"] == 999
