"""What all readers return: rows, good and bad; and the error for a file that cannot be read at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

MAX_CELL_CHARS = 32_767
"""As in Excel. A longer cell is no contact's data but a damaged file."""
MAX_COLUMNS = 500


class UnreadableFile(ValueError):
    """The file as a whole cannot be read. `str()` says why and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row. Tables have `cells`, files whose rows name their own columns have `fields`."""

    number: int
    """Where it begins: the line in a text file, the row in a sheet; from 1."""
    cells: tuple[Any, ...] = ()
    fields: dict[str, Any] | None = None
    problem: str | None = None
    """Why the row cannot be read; then it has no values."""


class Source(Protocol):
    """An open file of rows, used by one thread at a time."""

    description: dict[str, str]
    """What was found out about it, for people: format, encoding, delimiter, sheet."""

    def __iter__(self) -> Iterator[Row]:
        """All rows, blank ones left out; once. Raises UnreadableFile."""

    def fraction(self) -> float:
        """How much of it was read, 0 to 1."""

    def interrupt(self) -> None:
        """From any thread: an iteration under way ends soon."""

    def close(self) -> None:
        """Closes the file, once no iteration is under way; idempotent."""
