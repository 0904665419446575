"""What is wrong with a template."""

from __future__ import annotations

from crmd.errors import CrmdError


class TemplateError(CrmdError, ValueError):
    """The template is wrong, or cannot be filled. `str()` is one line for its author."""


class MissingVariable(TemplateError):
    """The template needs a variable that it was not given."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the variable {name} is missing")
        self.name = name
