"""Readers of CSV, JSON Lines and XLSX against real files, what columns are taken for, and formulas."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from crmd.crm.imports.columns import Columns, TooManyColumns, UnknownColumn, find_header, guess_names, is_known
from crmd.crm.tabular import xlsx_read_child
from crmd.crm.tabular.defuse import defuse, is_formula, undefuse
from crmd.crm.tabular.opening import Reading, open_source
from crmd.crm.tabular.rows import Row, Source, UnreadableFile
from crmd.crm.tabular.text_sources import MAX_LINE_CHARS
from crmd.crm.tabular.xlsx_source import XlsxReaders

# What people of different countries have in their files, and the encodings in which theirs may be.
GERMAN = [
    ["Telefon", "Name", "Stadt"],
    ["+491701234567", "Jörg Müßig", "Köln"],
    ["+491701234568", "Zoë", "Ürdingen"],
]
POLISH = [
    ["Telefon", "Imię", "Miasto"],
    ["+48512345678", "Łukasz", "Łódź"],
    ["+48512345679", "Małgorzata", "Gdańsk"],
]
RUSSIAN = [["Телефон", "Имя"], ["+79161234567", "Иван Петров"], ["+79161234568", "Ольга Иванова, Москва"]]
JAPANESE = [["電話番号", "名前"], ["+819012345678", "山田太郎"], ["+819012345679", "カタカナとひらがな"]]
CHINESE = [["电话", "姓名"], ["+8613812345678", "张伟 你好世界"], ["+8613812345679", "李娜 测试数据"]]


@contextmanager
def opened(path: Path, **how: Any) -> Iterator[Source]:
    source = open_source(path, Reading(**how), is_known, XlsxReaders())
    try:
        yield source
    finally:
        source.close()


def read(path: Path, **how: Any) -> list[Row]:
    with opened(path, **how) as source:
        return list(source)


def cells(path: Path, **how: Any) -> list[list[Any]]:
    return [list(row.cells) for row in read(path, **how)]


def text_of(rows: list[list[str]], delimiter: str = ",", end: str = "\r\n") -> str:
    quoted = [[f'"{cell}"' if set(cell) & set(',;\t|"\n') else cell for cell in row] for row in rows]
    return end.join(delimiter.join(row) for row in quoted) + end


def write(path: Path, data: bytes | str) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_each_delimiter_and_line_end(tmp_path: Path, delimiter: str, end: str) -> None:
    path = write(tmp_path / "f", text_of([*GERMAN, ["+491701234569", "a,b;c", "d\te|f"]], delimiter, end))
    with opened(path) as source:
        assert [list(row.cells) for row in source] == [*GERMAN, ["+491701234569", "a,b;c", "d\te|f"]]
        assert source.description["delimiter"] == {"\t": "tab"}.get(delimiter, delimiter)


@pytest.mark.parametrize(
    ("encoding", "table", "region"),
    [
        ("utf-8", GERMAN, None),
        ("utf-8-sig", GERMAN, None),
        ("utf-16", GERMAN, None),
        ("utf-16-le", GERMAN, None),
        ("utf-16-be", GERMAN, None),
        ("utf-32", GERMAN, None),
        ("cp1252", GERMAN, None),
        ("cp850", GERMAN, None),
        ("cp1250", POLISH, None),
        ("cp1250", POLISH, "PL"),
        ("cp1251", RUSSIAN, None),
        ("koi8_r", RUSSIAN, None),
        ("shift_jis", JAPANESE, None),
        ("gb18030", CHINESE, None),
        ("utf-8", JAPANESE, None),
    ],
)
def test_each_encoding_is_found_out(
    tmp_path: Path, encoding: str, table: list[list[str]], region: str | None
) -> None:
    # a few kilobytes, as a file of contacts has
    table = table + table[1:] * 30
    assert cells(write(tmp_path / "f.csv", text_of(table, ";").encode(encoding)), region=region) == table


def test_the_region_decides_between_code_pages_that_fit_equally(tmp_path: Path) -> None:
    table = [["Telefon", "Name"], ["+905321234567", "Gökçe, İstanbul, şeker"]]
    assert cells(write(tmp_path / "f.csv", text_of(table, ";").encode("cp1254")), region="TR") == table


def test_the_encoding_and_delimiter_may_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "a^b\nJ\x81rg^c\n".encode("cp850", "replace").replace(b"?", b"\x81"))
    assert cells(path, encoding="cp850", delimiter="^") == [["a", "b"], ["Jürg", "c"]]


def test_letters_beyond_ascii_are_sought_in_the_whole_file(tmp_path: Path) -> None:
    lines = ["phone,name"] + ["+491701234567,Anna"] * 60_000 + ["+491701234568,Jörg"]
    path = write(tmp_path / "f.csv", "\n".join(lines).encode("cp1252"))
    assert cells(path)[-1] == ["+491701234568", "Jörg"]


def test_one_line_in_another_encoding_spoils_only_itself(tmp_path: Path) -> None:
    good = "".join(f"+4917012345{n:02},Jürgen\n" for n in range(20)).encode()
    path = write(tmp_path / "f.csv", b"phone,name\n" + good + "+491701234599,Jörg\n".encode("cp1252") + good)
    rows = cells(path)
    assert rows[1][1] == rows[-1][1] == "Jürgen"
    assert rows[21][1] == "J\udcf6rg"  # refused later, as no text has such a letter


def test_excels_first_line_says_the_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", "sep=|\nphone|name\n+491701234567|a,b\n")
    assert cells(path) == [["phone", "name"], ["+491701234567", "a,b"]]


def test_commas_in_texts_do_not_hide_the_semicolon(tmp_path: Path) -> None:
    text = "Telefon;Adresse\n" + "".join(f"+4917012345{n:02};Am Weg {n}, 50667 Köln, DE\n" for n in range(30))
    assert {len(row) for row in cells(write(tmp_path / "f.csv", text))} == {2}


def test_a_file_with_one_column(tmp_path: Path) -> None:
    assert cells(write(tmp_path / "f.csv", "phone\n+491701234567\n")) == [["phone"], ["+491701234567"]]


def test_blank_lines_are_left_out_and_numbers_are_those_of_the_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "f.csv", 'phone,name\n\n , \n+491701234567,"two\nlines"\n+491701234568,x\n')
    assert [(row.number, row.cells) for row in read(path)] == [
        (1, ("phone", "name")),
        (4, ("+491701234567", "two\nlines")),
        (6, ("+491701234568", "x")),
    ]


def test_an_open_quote_costs_its_line_only(tmp_path: Path) -> None:
    lines = ["phone,name", '+491701234567,"Anna', *(f"+4917012345{n:02},x" for n in range(80))]
    rows = read(write(tmp_path / "f.csv", "\n".join(lines)))
    assert (rows[1].number, rows[1].problem) == (2, "a quote is opened and not closed")
    assert [row.number for row in rows if row.problem is None] == [1, *range(3, 83)]


def test_an_open_quote_that_a_later_quote_closes_costs_one_line_too(tmp_path: Path) -> None:
    text = 'phone,name\n+491701234567,"Anna\n+491701234568,"Berta"\n+491701234569,Cora\n'
    rows = read(write(tmp_path / "f.csv", text))
    assert [(row.number, bool(row.problem)) for row in rows] == [(1, False), (2, True), (3, False), (4, False)]


def test_an_open_quote_in_the_last_line(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "f.csv", 'phone,name\n+491701234567,"Anna'))
    assert [(row.number, row.problem) for row in rows[1:]] == [(2, "a quote is opened and not closed")]


def test_quotes_that_are_not_paired(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "f.csv", 'phone,name\n+491701234567,"Anna "the" B"\n+491701234568,B "the" C\n'))
    assert "quotes are not paired" in (rows[1].problem or "")
    assert rows[2].cells == ("+491701234568", 'B "the" C')


def test_huge_cells_and_lines_cost_themselves_only(tmp_path: Path) -> None:
    text = (
        f"phone,name\n1,{'x' * 200_000}\n2,{'y' * (MAX_LINE_CHARS + 5)}\n"
        f'3,"open\n4,{"z" * (MAX_LINE_CHARS * 2)}\n5,ok\n'
    )
    rows = read(write(tmp_path / "f.csv", text))
    assert [(row.number, row.problem) for row in rows[1:]] == [
        (2, "a cell of more than 131,072 characters"),
        (3, "a line of more than 1,048,576 characters"),
        (4, "a quote is opened and not closed"),
        (5, "a line of more than 1,048,576 characters"),
        (6, None),
    ]


def test_a_row_of_too_many_cells(tmp_path: Path) -> None:
    rows = read(write(tmp_path / "f.csv", f"phone,name\n1,2{',' * 600}\n"))
    assert rows[1].problem == "602 cells; at most 500 are read"


def test_json_lines_with_bad_ones_between(tmp_path: Path) -> None:
    path = tmp_path / "f"
    good = {"phone": "+491701234567", "name": "Zoë", "tags": ["a"], "attributes": {"n": 1}}
    lines = [json.dumps(good), "", "{broken", "[1]", '"text"', '{"n": NaN}', json.dumps({"phone": 1})]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    rows = read(path)
    assert rows[0].fields == good
    assert rows[-1].fields == {"phone": 1}
    assert [row.number for row in rows] == [1, 3, 4, 5, 6, 7]
    assert [(row.problem or "")[:8] for row in rows[1:-1]] == ["not JSON", "no JSON ", "no JSON ", "not JSON"]


def test_json_lines_that_are_too_long_or_too_wide(tmp_path: Path) -> None:
    wide = json.dumps({f"f{n}": n for n in range(600)})
    path = write(tmp_path / "f.jsonl", f'{{"a": "{"x" * MAX_LINE_CHARS}"}}\n{wide}\n{{"phone": "1"}}\n')
    assert [row.problem for row in read(path)] == [
        "a line of more than 1,048,576 characters",
        "600 fields; at most 500 are read",
        None,
    ]


def book(path: Path, sheets: dict[str, list[list[Any]]], hidden: str | None = None) -> Path:
    with xlsxwriter.Workbook(str(path)) as workbook:
        for name, rows in sheets.items():
            sheet = workbook.add_worksheet(name)
            if name == hidden:
                sheet.hide()
            else:
                sheet.activate()
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    return path


def test_xlsx_values_keep_their_kind(tmp_path: Path) -> None:
    path = book(
        tmp_path / "f",
        {
            "S": [
                ["phone", "n", "x", "b"],
                ["+491701234567", 5, 2.5, True],
                [],
                ["'quoted", 491701234567, "", "=1+1"],
            ]
        },
    )
    with opened(path) as source:
        rows = list(source)
        assert source.description == {"format": "xlsx", "sheet": "S"}
        assert source.fraction() == 1.0
    assert [(row.number, row.cells) for row in rows] == [
        (1, ("phone", "n", "x", "b")),
        (2, ("+491701234567", 5, 2.5, True)),
        (4, ("'quoted", 491701234567, "", 0)),
    ]


def test_the_first_visible_sheet_with_cells_is_read_or_the_one_that_is_named(tmp_path: Path) -> None:
    path = book(tmp_path / "f.xlsx", {"Hidden": [["h"]], "Empty": [], "Data": [["d"]], "More": [["m"]]}, "Hidden")
    assert cells(path) == [["d"]]
    assert cells(path, sheet="More") == [["m"]]
    with pytest.raises(UnreadableFile, match=r"no sheet 'Nope'; it has 'Hidden', 'Empty', 'Data', 'More'"):
        read(path, sheet="Nope")


def test_a_huge_xlsx_cell_is_cut_so_that_it_is_refused(tmp_path: Path) -> None:
    # 32,767 characters are the most that Excel allows; other programs write what they like
    path = book(tmp_path / "f.xlsx", {"S": [["x" * 30_000]]})
    _edit(path, "xl/sharedStrings.xml", lambda text: text.replace("x" * 30_000, "x" * 3_000_000))
    [[cell]] = cells(path)
    assert len(cell) == xlsx_read_child.MAX_CELL_CHARS + 1


def test_a_sheet_that_spans_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.xlsx"
    with xlsxwriter.Workbook(str(path)) as workbook:
        sheet = workbook.add_worksheet()
        sheet.write(0, 0, "phone")
        sheet.write(1_048_575, 400, "far away")
    with pytest.raises(UnreadableFile, match=r"spans more than|takes more than"):
        read(path)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "f.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("xl/workbook.xml", "<workbook/>")
        with package.open("xl/worksheets/sheet1.xml", "w") as entry:
            entry.write(b"\0" * 1024)
    _claim_size(path, 2**31)
    with pytest.raises(UnreadableFile, match="larger than 1 GiB"):
        read(path)


def test_a_damaged_workbook_is_refused(tmp_path: Path) -> None:
    path = book(tmp_path / "f.xlsx", {"S": [["phone"], ["+491701234567"]]})
    _edit(path, "xl/workbook.xml", lambda text: text.replace("<sheet ", "<broken "))
    with pytest.raises(UnreadableFile, match=r"cannot be read as XLSX|no visible sheet"):
        read(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1rest", "old Excel file"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04 and no more", "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "not a text file"),
        (b'[{"phone": "1"}]', "neither CSV, XLSX nor JSON Lines"),
        (b"<html><body>", "neither CSV, XLSX nor JSON Lines"),
    ],
)
def test_what_is_no_table_is_refused_with_the_reason(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        read(write(tmp_path / "f", data))


def test_a_format_that_is_said_and_wrong(tmp_path: Path) -> None:
    path = book(tmp_path / "f.xlsx", {"S": [["a"]]})
    with pytest.raises(UnreadableFile, match="it is not csv but an XLSX"):
        read(path, format="csv")
    with pytest.raises(UnreadableFile, match="damaged"):
        read(write(tmp_path / "g", "phone,name"), format="xlsx")
    with pytest.raises(UnreadableFile, match="cannot be read as utf-16"):
        read(write(tmp_path / "h", "phone,name"), encoding="utf-16")


def test_a_reader_of_xlsx_can_be_interrupted_and_closed_twice(tmp_path: Path) -> None:
    path = book(tmp_path / "f.xlsx", {"S": [["n"], *([n] for n in range(50_000))]})
    with opened(path) as source:
        rows = iter(source)
        next(rows)
        source.interrupt()
        with pytest.raises(UnreadableFile, match="reading it failed"):
            list(rows)
    source.close()


def _claim_size(path: Path, size: int) -> None:
    """Makes the last entry of a package say that it is so large when it is unpacked."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = size.to_bytes(4, "little")
    path.write_bytes(data)


def _edit(path: Path, name: str, change: Any) -> None:
    """Rewrites one part of a workbook."""
    with zipfile.ZipFile(path) as package:
        parts = {entry: package.read(entry) for entry in package.namelist()}
    parts[name] = change(parts[name].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for entry, data in parts.items():
            package.writestr(entry, data)


# Columns


@pytest.mark.parametrize(
    ("names", "targets"),
    [
        (["Phone", "Name", "E-Mail"], ["phone", "name", "email"]),
        (["TELEFON", "Vorname", "Nachname", "Stadt"], ["phone", "first_name", "last_name", "attributes.Stadt"]),
        (["Telefon", "Handy", "Name"], ["attributes.Telefon", "phone", "name"]),
        (["Phone 1 - Value", "E-mail 1 - Value", "Labels"], ["phone", "email", "tags"]),
        (["Téléphone portable", "Prénom", "Courriel"], ["phone", "first_name", "email"]),
        (["Número", "Teléfono", "Apellidos"], ["attributes.Número", "phone", "last_name"]),
        (["Телефон", "Имя", "Фамилия"], ["phone", "first_name", "last_name"]),
        (["電話番号", "名前"], ["phone", "name"]),
        (["phone", "first name", "full name"], ["phone", "attributes.first_name", "name"]),
        (["phone", "Kunden-Nr.", "", "!!"], ["phone", "attributes.Kunden_Nr", "attributes.column_3", "ignore"]),
        (["phone", "city", "city"], ["phone", "attributes.city", "attributes.city_2"]),
        (["phone", "a b", "a-b"], ["phone", "attributes.a_b", "attributes.a_b_2"]),
        (["phone", "attributes.a b", "attributes"], ["phone", "attributes.a b", "attributes"]),
        (["phone", "opted_out_at", "created_at"], ["phone", "opted_out_at", "ignore"]),
    ],
)
def test_names_are_guessed(names: list[str], targets: list[str]) -> None:
    assert Columns(names, {}).targets == targets


@pytest.mark.parametrize(
    ("first", "last"),
    [
        *[("Vorname", "Name"), ("Vorname", "Nachname"), ("Name", "Nachname"), ("Vorname", "Familienname")],
        *[("Prénom", "Nom"), ("Prénom", "Nom de famille"), ("PRENOM", "NOM")],
        *[
            ("Nombre", "Apellidos"),
            ("Nombre", "Apellido"),
            ("Nombres", "Apellidos"),
            ("Nombre", "Apellido Paterno"),
        ],
        *[("Nome", "Cognome"), ("Nome", "Sobrenome"), ("Nome", "Apelido"), ("Primeiro nome", "Nome")],
        *[("First Name", "Last Name"), ("First name", "Name"), ("Name", "Surname"), ("Given Name", "Family Name")],
        *[("Voornaam", "Naam"), ("Voornaam", "Achternaam"), ("Imię", "Nazwisko"), ("Имя", "Фамилия")],
        *[("Förnamn", "Efternamn"), ("Fornavn", "Etternavn"), ("Etunimi", "Sukunimi"), ("Ad", "Soyad")],
        *[("Jméno", "Příjmení"), ("Keresztnév", "Vezetéknév"), ("Prenume", "Nume")],
    ],
)
@pytest.mark.parametrize("around", [[], ["E-Mail", "Ort"]])
def test_halves_of_a_name_are_known(first: str, last: str, around: list[str]) -> None:
    assert Columns(["Phone", first, last, *around], {}).targets[1:3] == ["first_name", "last_name"]
    assert Columns([last, *around, "Phone", first], {}).targets[0] == "last_name"
    assert Columns([first, last, "Phone"], {first: "first_name"}).targets[:2] == ["first_name", "last_name"]
    assert Columns([first, last, "Phone"], {last: "last_name"}).targets[:2] == ["first_name", "last_name"]


@pytest.mark.parametrize("name", ["Name", "Nom", "Nombre", "Nome", "Naam", "Full Name", "Nombre completo"])
def test_a_name_alone_is_the_whole_one(name: str) -> None:
    assert Columns(["Phone", name], {}).targets == ["phone", "name"]


@pytest.mark.parametrize(
    "name",
    [
        *[
            "Teléfono WhatsApp",
            "WhatsApp Telefon",
            "Número de WhatsApp",
            "WhatsApp-Nr.",
            "Nr. WhatsApp",
            "Mi WhatsApp",
        ],
        *["Handy (privat)", "Handy-Nr.", "Telefon mobil", "Mobile / WhatsApp", "Tel. Handy", "Telefon 1"],
        *["Téléphone mobile", "N° de téléphone", "Numéro de téléphone portable", "Tél."],
        *["Celular/WhatsApp", "Teléfono celular", "Número de teléfono móvil", "Número de contacto móvil"],
        *[
            "Numero di cellulare",
            "Telefono cellulare",
            "Número de celular",
            "Telefone WhatsApp",
            "Telemóvel (principal)",
        ],
        *["Telefoonnummer mobiel", "Numer telefonu", "Telefon komórkowy", "Номер телефона", "Мобильный телефон"],
        *[
            "Cep telefonu numarası",
            "Nomor WhatsApp",
            "No. HP",
            "Số điện thoại",
            "Telefonní číslo",
            "Mobile Phone Number",
        ],
        *["رقم الهاتف", "رقم الجوال", "מספר טלפון", "मोबाइल नंबर", "手机号码", "携帯番号", "휴대폰 번호"],
    ],
)
def test_names_of_several_words_are_known_as_phones(name: str) -> None:
    assert Columns(["Nr", name, "Ort"], {}).targets[1] == "phone"


@pytest.mark.parametrize(
    "name",
    [
        *["Phone type", "WhatsApp opt-in", "WhatsApp consent", "Mobile app", "Phone verified", "Teléfono tipo"],
        *["Fax", "Telefax", "Contact", "Number", "Home", "Telefon erreichbar ab", "Mobile e-mail", "Phone model"],
        *["WhatsApp Name", "Country code", "1", "", "Phone country code"],
    ],
)
def test_names_that_only_speak_of_phones_are_none(name: str) -> None:
    assert Columns(["A", name], {}).targets[1] != "phone"


@pytest.mark.parametrize(
    "name",
    [
        *["Do not contact", "DoNotContact", "do_not_contact", "DNC", "Don't contact", "WhatsApp Opt-Out"],
        *["Marketing opt-out", "opt_out_at", "optedOutAt", "Opted out", "Opt out?", "Opt-out date", "OPT OUT"],
        *["Unsubscribe", "Unsubscribed", "unsubscribed_at", "Is unsubscribed", "UNSUB_TIME", "Opt-out (WhatsApp)"],
        *["Baja", "Fecha de baja", "No contactar", "Désabonné", "Désinscrit(e)", "Date de désabonnement"],
        *["Ne pas contacter", "Descadastrado", "Não contatar", "Disiscritto", "Data disiscrizione"],
        *["Abgemeldet", "Abgemeldet am", "Nicht kontaktieren", "Keine Werbung", "Afgemeld", "Uitgeschreven op"],
        *["Отписан", "Дата отписки", "Jangan hubungi", "إلغاء الاشتراك", "अनसब्सक्राइब"],
    ],
)
def test_columns_that_say_an_opt_out_are_known_by_their_words(name: str) -> None:
    assert Columns(["Phone", name, "City"], {}).targets == ["phone", "opted_out_at", "attributes.City"]


@pytest.mark.parametrize(
    "name",
    [
        *[
            "Opted in",
            "Opt-in",
            "opt_in_at",
            "WhatsApp opt-in",
            "Not opted out",
            "Subscribed",
            "Abonniert",
            "Consent",
        ],
        *["Email opt out", "E-mail Opt-Out", "SMS opt-out", "Fax opt out", "HasOptedOutOfEmail"],
        *["Unsubscribe link", "Unsubscribe reason", "Motivo de baja", "Planta baja", "Bus stop", "Stop"],
        *["Last contact", "Contact date", "No. of messages", "Status", "Marketing", "Opted in/out"],
    ],
)
def test_columns_that_say_the_opposite_or_something_else_are_not_opt_outs(name: str) -> None:
    assert "opted_out_at" not in Columns(["Phone", name, "City"], {}).targets


def test_each_of_several_columns_may_say_an_opt_out() -> None:
    names = ["Phone", "Do not contact", "WhatsApp Opt-Out", "opted_out_at"]
    assert Columns(names, {}).targets == ["phone", *["opted_out_at"] * 3]
    assert Columns(names, {"Do not contact": "ignore"}).targets[1] == "ignore"


def test_of_several_phones_the_one_for_whatsapp_is_taken_then_the_mobile_one() -> None:
    names = ["Telefon geschäftlich", "Home phone", "Tel.", "Número de móvil", "WhatsApp del cliente"]
    assert Columns(names, {}).targets.index("phone") == 4
    assert Columns(names[:4], {}).targets.index("phone") == 3
    assert Columns(names[:3], {}).targets.index("phone") == 2
    assert Columns(names[:2], {}).targets.index("phone") == 1


def test_what_the_job_says_wins_and_the_rest_is_guessed() -> None:
    columns = Columns(["Nr", "Phone", "Name"], {"nr": "phone", "3": "attributes.nick"})
    assert columns.targets == ["phone", "attributes.Phone", "attributes.nick"]


def test_a_column_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(UnknownColumn, match="no column 'Mobile'; it has 'Nr', 'Phone'"):
        Columns(["Nr", "Phone"], {"Mobile": "phone"})


def test_rows_that_name_their_own_columns_may_bring_new_ones() -> None:
    columns = Columns(["phone"], {"later": "name"}, later=True)
    assert [columns.target(name) for name in ("later", "mobile", "x")] == [
        "name",
        "attributes.mobile",
        "attributes.x",
    ]
    for number in range(496):
        columns.target(f"column {number}")
    with pytest.raises(TooManyColumns):
        columns.target("one more")


def test_the_header_is_found_below_titles_and_not_among_data() -> None:
    rows = [["Our customers"], ["Telefon", "Name"], ["+491701234567", "Name"]]
    assert find_header(rows, []) == 1
    assert find_header([["+491701234567", "mobile"], ["+491701234568", "phone"]], []) is None
    assert find_header([["Nr", "x"], ["0170 1234567", "y"]], ["nr"]) == 0


def test_columns_without_names_are_guessed_by_what_is_in_them() -> None:
    rows = [["17", "Anna Müller", "0170/1234567", "anna@example.org"], ["18", "Bo", "+49 170 1234568", ""]]
    assert guess_names(rows) == ["column_1", "name", "phone", "email"]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+SUM(A1)", "'+SUM(A1)"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("\nx", "'\nx"),
        ("\uff1d1", "'\uff1d1"),
        ("'=1", "''=1"),
        ("-", "'-"),
        ("+49 170", "'+49 170"),
        # numbers do nothing, and a phone number should be one to whoever reads the file
        ("+491701234567", "+491701234567"),
        ("-5", "-5"),
        ("-5.25", "-5.25"),
        ("'quoted'", "'quoted'"),
        ("a=b", "a=b"),
        ("", ""),
    ],
)
def test_formulas_are_defused_and_numbers_are_not(text: str, written: str) -> None:
    assert defuse(text) == written
    assert undefuse(written) == text


@given(st.text(alphabet="'=+-@\t\r\na0.", max_size=6))
def test_what_was_defused_comes_back(text: str) -> None:
    assert undefuse(defuse(text)) == text
    assert not is_formula(defuse(text))


def test_a_text_that_another_program_kept_a_text() -> None:
    assert undefuse('="00491701234567"') == "00491701234567"


@pytest.mark.parametrize(
    "text", ["=1", " =1", "@SUM(1)", "+cmd|' /C calc'!A0", "-HYPERLINK(1)", '=HYPERLINK("http://x")']
)
def test_formulas_are_known(text: str) -> None:
    assert is_formula(text)


@pytest.mark.parametrize("text", ["+49 170 1234567", "-", "@anna", "- a dash", "a=1", "+1 (555) 0100"])
def test_other_texts_are_no_formulas(text: str) -> None:
    assert not is_formula(text)
