"""What the columns of a contact file mean: as the job says, else by their names, else by their contents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crmd.crm.contacts.phones import plain
from crmd.crm.contacts.repository import MAX_ATTRIBUTE_NAME
from crmd.crm.imports.opt_names import says_opt_out
from crmd.crm.imports.phone_names import fold as fold
from crmd.crm.imports.phone_names import phone_kind
from crmd.crm.tabular.rows import MAX_COLUMNS

PHONE, NAME, FIRST_NAME, LAST_NAME = "phone", "name", "first_name", "last_name"
EMAIL, TAGS, OPTED_OUT, ATTRIBUTES, IGNORE = "email", "tags", "opted_out_at", "attributes", "ignore"
ATTRIBUTE_PREFIX = "attributes."
FIELDS = (PHONE, NAME, FIRST_NAME, LAST_NAME, EMAIL, TAGS, OPTED_OUT, ATTRIBUTES, IGNORE)
"""What a column may be, besides `attributes.NAME`."""
MAX_NAME_CHARS = 200
"""Of a column's name; the rest is cut off."""
MIN_PHONE_DIGITS = 7
_PHONE_LIKE = re.compile(r"[' ]*\+?[\d\s()/.\-\u2010-\u2015]{7,30}")

# Folded names, see `fold`, the best first: of two columns that could be the phone the mobile one is.
_NAMES: Mapping[str, tuple[str, ...]] = {
    PHONE: (
        *("whatsapp", "whatsappnumber", "whatsappnummer", "whatsappphone", "waid", "e164", "msisdn"),
        *("mobile", "mobilephone", "mobilenumber", "mobileno", "mobilephonenumber", "cell", "cellphone"),
        *("cellnumber", "cellular", "mobil", "mobilnummer", "mobiltelefon", "telefonmobil", "handy"),
        *("handynummer", "movil", "telefonomovil", "celular", "telemovel", "portable", "telephoneportable"),
        *("cellulare", "mobiel", "komorka", "telefonkomorkowy", "ceptelefonu", "мобильный", "мобильныйтелефон"),
        *("phone", "phonenumber", "phoneno", "phone1value", "primaryphone", "contactnumber", "contactphone"),
        *("telephone", "telephonenumber", "tel", "telno", "telefon", "telefonnummer", "rufnummer"),
        *("telefono", "numerodetelefono", "telefone", "numerodetelephone", "numerotelephone", "telefoon"),
        *("telefoonnummer", "numertelefonu", "telefonnumarasi", "телефон", "номертелефона", "電話番号", "电话"),
    ),
    NAME: (
        *("name", "fullname", "displayname", "contactname", "customername", "vollername", "vollstandigername"),
        *("nombre", "nombrecompleto", "nomcomplet", "nome", "nomecompleto", "naam", "imieinazwisko", "имя"),
        *(
            "nom",
            "nombres",
            "navn",
            "namn",
            "nimi",
            "jmeno",
            "nume",
            "nev",
            "ad",
            "adsoyad",
            "isim",
            "ονομα",
            "імя",
        ),
        *("namevorname", "vornamename", "vorundnachname", "vornameundnachname", "nometprenom", "nomprenom"),
        *("prenometnom", "nombreyapellidos", "nombreyapellido", "nomeecognome", "nomecognome", "nomeesobrenome"),
        *(
            "naamenvoornaam",
            "voorenachternaam",
            "firstandlastname",
            "nameandsurname",
            "jmenoaprijmeni",
            "teljesnev",
        ),
        *("фио", "名前", "氏名", "姓名", "이름", "성명", "الاسم"),
    ),
    FIRST_NAME: (
        *("firstname", "givenname", "forename", "first", "vorname", "prenom", "primernombre", "primeironome"),
        *(
            "voornaam",
            "imie",
            "rufname",
            "nombredepila",
            "nomeproprio",
            "primonome",
            "roepnaam",
            "fornavn",
            "fornamn",
        ),
        *(
            "etunimi",
            "krestnijmeno",
            "keresztnev",
            "utonev",
            "prenume",
            "onad",
            "firstnames",
            "givennames",
            "prenoms",
        ),
        *("vornamen", "μικροονομα"),
    ),
    LAST_NAME: (
        *("lastname", "surname", "familyname", "last", "nachname", "familienname", "nomdefamille", "apellido"),
        *("apellidos", "sobrenome", "cognome", "achternaam", "nazwisko", "фамилия"),
        *("zuname", "primerapellido", "apellidopaterno", "apelido", "apelidos", "ultimonome", "efternavn"),
        *("etternavn", "efternamn", "sukunimi", "prijmeni", "priezvisko", "vezeteknev", "numedefamilie", "soyad"),
        *(
            "soyadi",
            "soyisim",
            "prezime",
            "επωνυμο",
            "επιθετο",
            "прізвище",
            "surnames",
            "lastnames",
            "nomsdefamille",
        ),
    ),
    EMAIL: (
        *("email", "emailaddress", "emailadresse", "email1value", "mail", "mailadresse", "correo"),
        *("correoelectronico", "courriel", "adressemail", "emailadres", "электроннаяпочта", "почта"),
    ),
    TAGS: ("tags", "tag", "labels", "label", "schlagworte", "schlagworter", "etiketten", "etiquetas"),
    OPTED_OUT: ("optedoutat", "optoutat", "unsubscribedat"),  # and others, see `says_opt_out`
    ATTRIBUTES: ("attributes",),
    # What exports have besides, and only crmd decides.
    IGNORE: ("createdat", "updatedat", "lastinboundat"),
}
# Half a name beside a column of the other half, the whole one elsewhere: `Vorname;Name`, `Nombre;Apellidos`.
_HALF_OR_WHOLE = frozenset(
    {
        *(
            "name",
            "nom",
            "nome",
            "nombre",
            "nombres",
            "naam",
            "имя",
            "імя",
            "navn",
            "namn",
            "nimi",
            "jmeno",
            "nume",
        ),
        *("nev", "ad", "isim", "ονομα"),
    }
)
# Google Contacts numbers its phones, and says beside each what it is.
_NUMBERED_PHONE = re.compile(r"phone([0-9]{1,2})value")
_NUMBERED_LABEL = re.compile(r"phone([0-9]{1,2})(?:type|label)")
_FIELD_OF = {name: field for field, names in _NAMES.items() for name in names}
# NAME stands before the parts of a name, which are attributes where there is a whole one.
_RANK = {name: rank for rank, name in enumerate(name for names in _NAMES.values() for name in names)}
_PHONE_NAMES = len(_NAMES[PHONE])
_KIND_RANKS = (0.5, _RANK["mobile"] + 0.5, _RANK["phone"] + 0.5, _PHONE_NAMES - 0.5)
"""Behind the first names of their kind in `_NAMES`; see `phone_kind`."""


def is_known(name: str) -> bool:
    """Whether a text is the name of a column, rather than a contact's data."""
    return name.startswith(ATTRIBUTE_PREFIX) or _known_field(name) is not None


def attribute_name(header: str) -> str:
    """The attribute that a column of that name becomes: such that templates can say `{{ it }}`."""
    if header.startswith(ATTRIBUTE_PREFIX):
        return header.removeprefix(ATTRIBUTE_PREFIX)[:MAX_ATTRIBUTE_NAME].strip()
    return re.sub(r"\W+", "_", header.strip()).strip("_")[:MAX_ATTRIBUTE_NAME]


class UnknownColumn(ValueError):
    """The job names a column that the file does not have."""


class TooManyColumns(ValueError):
    """A file whose rows name their own columns has more than a table may."""


class Columns:
    """Each column's meaning: a field, `attributes.NAME` or `ignore`."""

    def __init__(self, names: Sequence[str], given: Mapping[str, str], *, later: bool = False) -> None:
        """`given` is what the job says: by name, or by number from 1. Raises UnknownColumn.

        With `later` further names may come, as in JSON Lines, and given ones are not missed.
        """
        self._given = {fold(name) or name: target for name, target in given.items()}
        self._by_number = not later
        self._taken: set[str] = set()
        self.names = _unique(names)
        self._targets: dict[str, str] = {}
        self.numbered_phones: dict[str, str] = {}
        """Phone columns among which each row chooses for itself, with their numbers."""
        self.phone_labels: dict[str, str] = {}
        """The columns that say what these are, by their numbers."""
        self._check_given(given, later)
        self._assign(self.names)

    @property
    def targets(self) -> list[str]:
        """The meanings, in the order of the columns."""
        return [self._targets[name] for name in self.names]

    @property
    def described(self) -> dict[str, str]:
        """The meanings by the columns' names."""
        return dict(self._targets)

    def target(self, name: str) -> str:
        """The meaning of a column, of one that was not seen before too. Raises TooManyColumns."""
        if name not in self._targets:
            if len(self.names) >= MAX_COLUMNS:
                raise TooManyColumns(f"is the name of a field, and the file has more than {MAX_COLUMNS} of them")
            self._assign([name])
            self.names.append(name)
        return self._targets[name]

    def _check_given(self, given: Mapping[str, str], later: bool) -> None:
        known = {fold(name) or name for name in self.names} | {str(n) for n in range(1, len(self.names) + 1)}
        missing = [name for name in given if (fold(name) or name) not in known]
        if missing and not later:
            there = ", ".join(repr(name) for name in self.names[:50])
            raise UnknownColumn(f"the file has no column {missing[0]!r}; it has {there}")

    def _assign(self, names: Sequence[str]) -> None:
        found = {}
        for number, name in enumerate(names, 1):
            target = self._given.get(fold(name) or name)
            if target is None and self._by_number:
                target = self._given.get(str(number))
            if target is not None:
                found[name] = target
                self._taken.add(target)
        half = _missing_half({*filter(None, map(_known_field, {*self.names, *names})), *self._taken})
        for name in sorted(names, key=_rank):
            if name not in found:
                found[name] = self._guess(name, half)
                self._taken.add(found[name])
            if label := _NUMBERED_LABEL.fullmatch(fold(name)):
                self.phone_labels[label[1]] = name
        self._targets |= {name: found[name] for name in names}

    def _guess(self, name: str, half: str | None) -> str:
        folded = fold(name)
        numbered = _NUMBERED_PHONE.fullmatch(folded)
        if numbered and (self.numbered_phones or PHONE not in self._taken):
            self.numbered_phones[name] = numbered[1]
            return PHONE
        field = half if half and folded in _HALF_OR_WHOLE else _known_field(name)
        if field in (FIRST_NAME, LAST_NAME) and NAME in self._taken:
            field = None
        if field is not None and (field in (IGNORE, OPTED_OUT) or field not in self._taken):
            return field
        attribute = attribute_name(name)
        if not attribute:
            return IGNORE
        target, count = f"{ATTRIBUTE_PREFIX}{attribute}", 1
        while target in self._taken:
            count += 1
            target = f"{ATTRIBUTE_PREFIX}{attribute}_{count}"
        return target


def find_header(rows: Sequence[Sequence[Any]], given: Iterable[str]) -> int | None:
    """Which of a file's first rows names the columns; None where none does. A row with a phone number does not."""
    wanted = {fold(name) for name in given if not name.isdigit()}
    counts = [
        0 if any(looks_like_phone(cell) for cell in row) else sum(_names_column(cell, wanted) for cell in row)
        for row in rows
    ]
    best = max(counts, default=0)
    return counts.index(best) if best else None


def looks_like_phone(cell: Any) -> bool:
    """Whether a cell may be a phone number, at a glance."""
    text = plain(str(cell))
    return bool(_PHONE_LIKE.fullmatch(text)) and sum(map(str.isdigit, text)) >= MIN_PHONE_DIGITS


def guess_names(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Names for the columns of a file without a header, by what stands in its first rows."""
    width = max(map(len, rows), default=0)
    names = [f"column_{number}" for number in range(1, width + 1)]
    columns = [[str(row[i]).strip() for row in rows if i < len(row) and str(row[i]).strip()] for i in range(width)]

    def take(field: str, fits: Callable[[str], bool]) -> None:
        shares = [sum(map(fits, column)) / len(column) if column else 0.0 for column in columns]
        best = max(range(width), key=lambda i: shares[i] if names[i].startswith("column_") else -1.0)
        if names[best].startswith("column_") and shares[best] > 0.5:
            names[best] = field

    if width:
        take(PHONE, looks_like_phone)
        take(EMAIL, lambda text: re.fullmatch(r"[^@\s]+@[^@\s]+", text) is not None)
        take(NAME, lambda text: re.fullmatch(r"[^\W\d_][^\d@]*", text) is not None)
    return names


def _known_field(name: str) -> str | None:
    field = _FIELD_OF.get(fold(name))
    if field is not None:
        return field
    if says_opt_out(name):
        return OPTED_OUT
    return PHONE if phone_kind(name) is not None else None


def _rank(name: str) -> float:
    """The lower, the better a column suits as the field that it is known as."""
    folded = fold(name)
    if folded in _RANK:
        return _RANK[folded]
    kind = phone_kind(name)
    return len(_RANK) if kind is None else _KIND_RANKS[kind]


def _missing_half(fields: set[str]) -> str | None:
    """The missing half of a name where only the other half has a column."""
    if (FIRST_NAME in fields) == (LAST_NAME in fields):
        return None
    return LAST_NAME if FIRST_NAME in fields else FIRST_NAME


def _names_column(cell: Any, wanted: set[str]) -> bool:
    return isinstance(cell, str) and bool(cell) and (is_known(cell) or fold(cell) in wanted)


def _unique(names: Sequence[str]) -> list[str]:
    """A name for each column: the second `phone` is `phone_2`, one without a name is `column_3`."""
    found: list[str] = []
    for number, given in enumerate(names, 1):
        name = given.strip()[:MAX_NAME_CHARS] or f"column_{number}"
        candidate, count = name, 1
        while candidate in found:
            count += 1
            candidate = f"{name}_{count}"
        found.append(candidate)
    return found
