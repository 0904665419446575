"""From a row of a file to a contact, or to the reason for rejecting it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from crmd.crm.contacts.repository import MAX_ATTRIBUTES, MAX_NAME
from crmd.crm.imports import contact_values as values
from crmd.crm.imports.columns import (
    ATTRIBUTE_PREFIX,
    ATTRIBUTES,
    EMAIL,
    FIRST_NAME,
    IGNORE,
    LAST_NAME,
    NAME,
    OPTED_OUT,
    PHONE,
    TAGS,
    Columns,
    TooManyColumns,
    attribute_name,
)
from crmd.crm.imports.phone_names import is_mobile
from crmd.crm.tabular.defuse import is_formula, undefuse
from crmd.crm.tabular.rows import Row


@dataclass(slots=True)
class Found:
    """A contact as a row says it."""

    number: int
    phone: str
    name: str | None
    email: str | None
    tags: list[str]
    attributes: dict[str, Any]
    opted_out_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Why a row is not a contact."""

    number: int
    column: str
    value: str
    reason: str
    opt_out: OptOut | None = None
    """What it says all the same of somebody who may be a contact already."""


@dataclass(frozen=True, slots=True)
class OptOut:
    """Since when somebody wants no messages."""

    phone: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for all rows."""

    region: str | None
    tags: tuple[str, ...]
    now: datetime
    plain_text: bool
    """Whether the file is CSV: its cells may be formulas, or texts kept from being ones."""


class _BadCell(Exception):
    def __init__(self, column: str, value: Any, reason: str) -> None:
        super().__init__(reason)
        self.column, self.value, self.reason = column, value, reason


@dataclass(slots=True)
class _Draft:
    """What the cells of a row add up to."""

    values: dict[str, Any] = field(default_factory=dict)
    """phone, name, email and the like, by field."""
    columns: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    phones: list[tuple[str, Any]] = field(default_factory=list)
    """Columns and cells of numbers among which is chosen."""


class RowCheck:
    """Checks the rows of one file."""

    def __init__(self, columns: Columns, rules: Rules) -> None:
        self._columns = columns
        self._rules = rules

    def check(self, row: Row) -> Found | Rejected:
        """The contact, or the first reason against it."""
        if row.problem is not None:
            return Rejected(row.number, "", "", row.problem)
        try:
            return self._found(row.number, self._draft(row))
        except _BadCell as bad:
            return Rejected(row.number, bad.column, _excerpt(bad.value), bad.reason, self._opt_out(row))

    def _opt_out(self, row: Row) -> OptOut | None:
        """What a row that is not a contact says of its number: who may have said no is not written to."""
        columns = self._columns
        if row.fields is None and (len(row.cells) < len(columns.names) or OPTED_OUT not in columns.targets):
            return None  # in a row with cells missing the others may stand below wrong names
        cells = row.fields.items() if row.fields is not None else zip(columns.names, row.cells, strict=False)
        phone: str | None = None
        times: list[datetime] = []
        for name, value in cells:
            with suppress(ValueError):  # a number that is not one, a link, a column too many
                target = columns.target(name)
                if target == PHONE:
                    phone = phone or values.phones(self._meant(value), self._rules.region)[0]
                elif target == OPTED_OUT and (at := self._opted_out_at(value)) is not None:
                    times.append(at)
        return OptOut(phone, min(times)) if phone and times else None

    def _opted_out_at(self, value: Any) -> datetime | None:
        """As the cell says; now where it says something that cannot be read. Raises Link."""
        try:
            meant = self._meant(value)
            return None if meant is None or meant == "" else values.opted_out_at(meant, self._rules.now)
        except values.Link:
            raise
        except ValueError:
            return self._rules.now

    def _draft(self, row: Row) -> _Draft:
        draft = _Draft()
        if row.fields is not None:
            for name, value in row.fields.items():
                self._put(draft, name, self._target(name), value)
            self._choose_phone(draft)
            return draft
        names = self._columns.names
        if len(row.cells) != len(names):
            self._check_width(row, len(names))
        for name, target, value in zip(names, self._columns.targets, row.cells, strict=False):
            self._put(draft, name, target, value)
        self._choose_phone(draft)
        return draft

    def _target(self, name: str) -> str:
        try:
            return self._columns.target(name)
        except TooManyColumns as error:
            raise _BadCell("", name, str(error)) from None

    def _check_width(self, row: Row, width: int) -> None:
        extra = [cell for cell in row.cells[width:] if cell != ""]
        if len(row.cells) < width or extra:
            shown = extra[0] if extra else ""
            raise _BadCell("", shown, f"has {len(row.cells)} cells where the header has {width}")

    def _put(self, draft: _Draft, name: str, target: str, value: Any) -> None:
        if target == IGNORE or value == "" or (value is None and not target.startswith(ATTRIBUTE_PREFIX)):
            return
        try:
            value = self._meant(value)
            if value == "":
                return
            self._add(draft, name, target, value)
        except ValueError as error:
            raise _BadCell(name, value, str(error)) from None

    def _add(self, draft: _Draft, name: str, target: str, value: Any) -> None:
        if target == TAGS:
            draft.tags += values.tags(value)
        elif target == ATTRIBUTES:
            draft.attributes |= values.attributes(value)
        elif target.startswith(ATTRIBUTE_PREFIX):
            draft.attributes[target.removeprefix(ATTRIBUTE_PREFIX)] = values.attribute(value)
        elif name in self._columns.numbered_phones:
            draft.phones.append((name, value))
        elif target == OPTED_OUT:
            if (at := values.opted_out_at(value, self._rules.now)) is not None:
                draft.values[target] = min(at, draft.values.get(target, at))
        else:
            draft.values[target] = self._value(target, value)
            draft.columns[target] = name

    def _choose_phone(self, draft: _Draft) -> None:
        """Of several numbers the mobile one, else the first that is valid; the others become attributes."""
        if not draft.phones:
            return
        found: list[tuple[int, str, str]] = []
        bad: _BadCell | None = None
        for name, value in draft.phones:
            try:
                number = values.phones(value, self._rules.region)[0]
            except ValueError as error:
                bad = bad or _BadCell(name, value, str(error))
            else:
                found.append((self._preference(draft, name, number), number, name))
        if not found:
            if bad is not None:
                raise bad
            return
        _, draft.values[PHONE], chosen = min(found, key=lambda one: one[0])
        for name, value in draft.phones:
            if name != chosen:
                draft.attributes[attribute_name(name)] = values.attribute(value)

    def _preference(self, draft: _Draft, column: str, number: str) -> int:
        """What the label says, then what the number looks like; the lower the better."""
        columns = self._columns
        label_column = columns.phone_labels.get(columns.numbered_phones[column], "")
        target = columns.target(label_column) if label_column else ""
        if is_mobile(str(draft.attributes.get(target.removeprefix(ATTRIBUTE_PREFIX), ""))):
            return 0
        return 1 if len(draft.phones) > 1 and values.is_mobile(number) else 2

    def _value(self, target: str, value: Any) -> Any:
        if target == PHONE:
            return values.phones(value, self._rules.region)[0]
        if target == EMAIL:
            return values.email(value)
        return values.name(value)

    def _meant(self, value: Any) -> Any:
        return self._plain(value) if isinstance(value, str) else value

    def _plain(self, text: str) -> str:
        """A cell's text as it is meant. Raises ValueError."""
        if self._rules.plain_text:
            meant = undefuse(text)
            if meant is text and is_formula(text):
                raise ValueError("is a formula; save the file with values instead")
            text = meant
        return values.clean(text)

    def _found(self, number: int, draft: _Draft) -> Found:
        phone = draft.values.get(PHONE)
        if phone is None:
            raise _BadCell(self._phone_column(), "", "has no phone number")
        if len(draft.attributes) > MAX_ATTRIBUTES:
            raise _BadCell("", "", f"has more than {MAX_ATTRIBUTES} attributes")
        name = draft.values.get(NAME) or _joined_name(
            *(draft.values.get(part) for part in (FIRST_NAME, LAST_NAME))
        )
        return Found(
            number=number,
            phone=phone,
            name=name[:MAX_NAME] or None,
            email=draft.values.get(EMAIL),
            tags=list(dict.fromkeys([*draft.tags, *self._rules.tags])),
            attributes=draft.attributes,
            opted_out_at=draft.values.get(OPTED_OUT),
        )

    def _phone_column(self) -> str:
        return next((name for name, target in self._columns.described.items() if target == PHONE), "")


def _joined_name(first: str | None, last: str | None) -> str:
    """The whole name; one of the halves may be the whole already, as columns called `Name` are either."""
    if first and last:
        if _holds(last, first):
            return last
        if _holds(first, last):
            return first
    return " ".join(part for part in (first, last) if part)


def _holds(whole: str, part: str) -> bool:
    whole, part = whole.casefold(), part.casefold()
    if part not in whole:
        return False
    words, parts = whole.split(), part.split()
    return len(words) > len(parts) and any(words[i : i + len(parts)] == parts for i in range(len(words)))


SHOWN_CHARS = 80


def _excerpt(value: Any) -> str:
    """A value for the report: short, and on one line."""
    text = value if isinstance(value, str) else repr(value)
    cut = text[:SHOWN_CHARS] + ("…" if len(text) > SHOWN_CHARS else "")
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in cut)
