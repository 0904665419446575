"""The conditions of a flow's branches: on the contact's attributes and tags, the last reply, saved values."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import Field, JsonValue, model_validator

from crmd.crm.payload import Payload, invalid

MAX_CHOICES = 100
OPERATORS = ("equals", "not_equals", "contains", "exists", "gt", "lt", "in")
_WHOLE = ("reply", "phone", "name", "email")
_NAMED = ("attribute", "tag", "saved")
_SUBJECTS = "reply, phone, name, email, attribute.NAME, tag.NAME or saved.NAME"

Plain = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to ask about."""

    contact: Mapping[str, Any]
    """`phone`, `name`, `email`; what is not known is None or absent."""
    attributes: Mapping[str, Any]
    tags: Collection[str]
    reply: str | None
    """What the contact answered last in this run."""
    saved: Mapping[str, Any]
    """What the run was given and what it saved."""


class Condition(Payload):
    """One question: what is looked at, and exactly one comparison.

    Texts are compared without regard to case and to blanks around them, `gt` and `lt` as numbers.
    """

    subject: Annotated[str, Field(alias="if", max_length=200, description=f"What is looked at: {_SUBJECTS}.")]
    equals: Annotated[Plain | None, Field(description="It is this.")] = None
    not_equals: Annotated[Plain | None, Field(description="It is not this, or it is not there.")] = None
    contains: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Field(description="The text has this in it, or the list has it."),
    ] = None
    exists: Annotated[bool | None, Field(description="It is there and not empty; false: it is not.")] = None
    gt: Annotated[float | None, Field(description="It is a number above this.", allow_inf_nan=False)] = None
    lt: Annotated[float | None, Field(description="It is a number below this.", allow_inf_nan=False)] = None
    in_: Annotated[
        list[Plain] | None,
        Field(alias="in", min_length=1, max_length=MAX_CHOICES, description="It is one of these."),
    ] = None

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        kind, _, name = self.subject.partition(".")
        if self.subject not in _WHOLE and not (kind in _NAMED and name):
            raise invalid(f'"{self.subject}" cannot be looked at; write {_SUBJECTS}')
        given = [one for one in OPERATORS if self._value(one) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "has none"
            raise invalid(f"needs exactly one of {', '.join(OPERATORS)}; it {said}")
        if kind == "tag" and given != ["exists"]:
            raise invalid("a contact has a tag or not: ask with exists, true or false")
        return self

    def holds(self, known: Known) -> bool:
        """Whether it is true of what is known; `gt` and `lt` are false of what is not a number."""
        value = _looked_up(self.subject, known)
        if self.equals is not None:
            return _same(value, self.equals)
        if self.not_equals is not None:
            return not _same(value, self.not_equals)
        if self.contains is not None:
            return _contains(value, self.contains)
        if self.exists is not None:
            return self.exists is (value not in (None, "", [], {}))
        if self.in_ is not None:
            return any(_same(value, one) for one in self.in_)
        number = _number(value)
        if number is None:
            return False
        return number > self.gt if self.gt is not None else number < (self.lt or 0.0)

    def _value(self, operator: str) -> JsonValue:
        value: JsonValue = getattr(self, "in_" if operator == "in" else operator)
        return value


def _looked_up(subject: str, known: Known) -> Any:
    kind, _, name = subject.partition(".")
    match kind:
        case "reply":
            return known.reply
        case "attribute":
            return known.attributes.get(name)
        case "saved":
            return known.saved.get(name)
        case "tag":
            return name if name in known.tags else None
        case _:
            return known.contact.get(kind)


def _same(value: Any, other: Plain) -> bool:
    if value is None:
        return False
    if isinstance(value, str) and isinstance(other, str):  # long ids are not numbers, though they look like it
        return _text(value) == _text(other)
    one, two = _number(value), _number(other)
    return one == two if one is not None and two is not None else _text(value) == _text(other)


def _contains(value: Any, part: str) -> bool:
    if isinstance(value, list):
        return any(_text(one) == _text(part) for one in value)
    return value is not None and part.casefold() in str(value).casefold()


def _text(value: Any) -> str:
    return str(value).strip().casefold()


def _number(value: Any) -> float | None:
    """What a number or a text that is one says; truth values are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
