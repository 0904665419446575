"""Texts with variables, such as `Hello {{ name }}`: Jinja2 for untrusted texts and data.

A template may read variables, choose, repeat over a list and use the filters of `language.FILTERS`. It
reaches no Python object, and its size, its output and its time are bounded.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from crmd.crm.templating.engine import Renderer


class Person(Protocol):
    """What a contact's variables are made of."""

    @property
    def phone(self) -> str:
        """E.164."""

    @property
    def name(self) -> str | None:
        """What the contact is called."""

    @property
    def email(self) -> str | None:
        """Where mail goes."""

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Whatever else is known."""


def check(text: str) -> None:
    """Raises TemplateError that says what is wrong and in which line, if anything."""
    if has_variables(text):
        _renderer().check(text)


def names(text: str) -> frozenset[str]:
    """The variables that a text reads. Raises TemplateError."""
    return _renderer().names(text) if has_variables(text) else frozenset()


def render(text: str, variables: Mapping[str, Any], *, html: bool = False) -> str:
    """The text with its variables filled in, with `html` escaped for HTML.

    Raises MissingVariable, and TemplateError for whatever else keeps it from being filled.
    """
    if not has_variables(text):
        return text
    return _renderer().render(text, variables, html=html)


def has_variables(text: str) -> bool:
    """Whether the text is more than plain text."""
    return "{{" in text or "{%" in text or "{#" in text


def texts_in(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """All texts of a JSON value, each with its place, such as `template.components.0.parameters.1.text`."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from texts_in(inner, f"{place}.{name}" if place else str(name))
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from texts_in(inner, f"{place}.{index}" if place else str(index))


def contact_variables(contact: Person, tags: Sequence[str] = ()) -> dict[str, Any]:
    """A contact's attributes, and its `phone`, `name`, `email` and `tags`. What is not known is missing."""
    own = {"phone": contact.phone, "name": contact.name, "email": contact.email}
    known = {name: value for name, value in {**contact.attributes, **own}.items() if value is not None}
    return {**known, "tags": list(tags)}


@functools.cache
def _renderer() -> Renderer:
    from crmd.crm.templating.engine import Renderer  # jinja2 costs the idle daemon 5 MiB

    return Renderer()
