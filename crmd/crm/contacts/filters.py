"""The filter for contacts that campaigns, exports and HTTP use, as a query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt
from sqlalchemy import Boolean, ColumnElement, CompoundSelect, Select, and_, cast, exists, func, or_, select, union
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from crmd.crm.contacts.people import PHONE
from crmd.crm.contacts.phones import forms
from crmd.crm.contacts.tables import Contact, ContactIdentity, ContactTag
from crmd.crm.database.types import Json

MAX_LISTED = 100
"""Tags or attributes in one filter."""

_Int = Annotated[StrictInt, Field(ge=-(2**53), le=2**53)]
_Float = Annotated[StrictFloat, Field(allow_inf_nan=False)]
Scalar = str | StrictBool | _Int | _Float | None
_Tag = Annotated[str, Field(min_length=1, max_length=64)]
_Tags = Annotated[tuple[_Tag, ...], Field(max_length=MAX_LISTED)]


class ContactFilter(BaseModel):
    """Contacts for which everything given is true; an empty filter is all contacts."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    tags: _Tags = Field((), description="Has each of these tags.")
    any_tags: _Tags = Field((), description="Has at least one of these tags.")
    without_tags: _Tags = Field((), description="Has none of these tags.")
    attributes: Annotated[dict[str, Scalar], Field(max_length=MAX_LISTED)] = Field(
        default_factory=dict,
        description='Has these attributes with exactly these values: the text "5" is not the number 5.',
    )
    opted_out: bool | None = Field(None, description="Has opted out of messages (true), or has not (false).")
    created_after: AwareDatetime | None = Field(None, description="Created at this instant or later.")
    created_before: AwareDatetime | None = Field(None, description="Created before this instant.")
    marketing_stopped: bool | None = Field(None, description="Has stopped marketing (true), or has not (false).")
    phone: str | None = Field(
        None, max_length=64, description="Has this number, in E.164; all forms of a number match."
    )
    search: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Name, email or phone contains this text, ignoring case (on SQLite, that of A to Z only).",
    )


def matching(wanted: ContactFilter) -> Select[Contact]:
    """The contacts that a filter lets through, in no order."""
    return select(Contact).where(*_conditions(wanted))


def _conditions(wanted: ContactFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [_tagged(ContactTag.tag == tag) for tag in wanted.tags]
    if wanted.any_tags:
        found.append(_tagged(ContactTag.tag.in_(wanted.any_tags)))
    if wanted.without_tags:
        found.append(~_tagged(ContactTag.tag.in_(wanted.without_tags)))
    found += [_has_attribute(name, value) for name, value in wanted.attributes.items()]
    if wanted.opted_out is not None:
        found.append(Contact.opted_out_at.is_not(None) if wanted.opted_out else Contact.opted_out_at.is_(None))
    if wanted.marketing_stopped is not None:
        stopped = Contact.marketing_stopped_at
        found.append(stopped.is_not(None) if wanted.marketing_stopped else stopped.is_(None))
    if wanted.created_after is not None:
        found.append(Contact.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        found.append(Contact.created_at < wanted.created_before)
    if wanted.phone is not None:
        found.append(Contact.id.in_(_having(forms(wanted.phone))))
    if wanted.search is not None:
        found.append(_holds(wanted.search))
    return found


def _having(numbers: Sequence[str]) -> CompoundSelect[int]:
    """Ids by number: a union, since an OR over two tables would read all contacts."""
    other = ContactIdentity.kind == PHONE, ContactIdentity.value.in_(numbers)
    return union(
        select(Contact.id).where(Contact.phone.in_(numbers)), select(ContactIdentity.contact_id).where(*other)
    )


def _tagged(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(ContactTag.contact_id == Contact.id, condition)


def _holds(text: str) -> ColumnElement[bool]:
    fields = (Contact.name, Contact.email, Contact.phone)
    return or_(*(field.icontains(text, autoescape=True) for field in fields))


def _has_attribute(name: str, value: Scalar) -> ColumnElement[bool]:
    entry = func.json_each(Contact.attributes).table_valued("key", "value", "type")
    in_sqlite = exists().select_from(entry).where(entry.c.key == name, _is_value(entry.c, value))
    in_postgresql = Contact.attributes.op("@>", is_comparison=True)(cast({name: value}, Json))
    return _ByDatabase(in_sqlite, in_postgresql)


def _is_value(entry: Any, value: Scalar) -> ColumnElement[bool]:
    """Whether SQLite's entry of a JSON object is a value; true and 1 are the same to it but for their type."""
    if value is None or isinstance(value, bool):
        wanted: ColumnElement[bool] = entry.type == ("null" if value is None else str(value).lower())
        return wanted
    types = ("text",) if isinstance(value, str) else ("integer", "real")
    return and_(entry.type.in_(types), entry.value == value)


class _ByDatabase(ColumnElement[bool]):
    """A condition that each database writes in its own way."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, in_sqlite: ColumnElement[bool], in_postgresql: ColumnElement[bool]) -> None:
        self.written = {"sqlite": in_sqlite, "postgresql": in_postgresql}


@compiles(_ByDatabase)
def _write(element: _ByDatabase, compiler: SQLCompiler, **options: Any) -> str:
    return str(compiler.process(element.written[compiler.dialect.name], **options))
