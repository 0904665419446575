"""What a measure is, and what it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from bench.testbed import Testbed

Figures = dict[str, float]
"""One round of one subject: a number for each column."""

Subject = Callable[[Testbed], Figures]
"""Runs one round."""

Rounds = dict[str, list[Figures]]
"""Of one measure: by subject, all its rounds."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a measure."""

    name: str
    heading: str
    """With its unit."""
    digits: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """One table: some subjects in turn, round after round."""

    name: str
    title: str
    columns: tuple[Column, ...]
    subjects: Mapping[str, Subject]
    core: bool = False
    """Whether it is part of a quick run."""
    prepare: Callable[[Testbed], None] = field(default=lambda _: None)
    """Done once before its rounds."""
    tidy: Callable[[Testbed], None] = field(default=lambda _: None)
    """Done once after them."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured."""

    rounds: int = 3
    size: float = 1.0

    def count(self, number: int) -> int:
        """So many jobs, for this scale; a multiple of a hundred."""
        return max(100, round(number * self.size / 100) * 100)
