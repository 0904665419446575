"""What columns are taken for; and formulas, which go out harmless and come back as they were."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmd.crm.imports.columns import Columns, TooManyColumns, UnknownColumn, find_header, guess_names
from crmd.crm.tabular.defuse import defuse, is_formula, undefuse


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
