"""What one rendering may build and compute. Only `engine` uses it.

Every operation of a template says beforehand how much it handles, and what comes out is weighed: so no value grows
beyond a bound, and what is done with a value of that size is bounded too.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NoReturn

from crmd.crm.templating.errors import TemplateError

MAX_TEMPLATE_CHARS = 65_536
MAX_OUTPUT_CHARS = 262_144
"""Also of each value on the way to the output."""
MAX_WEIGHT = MAX_OUTPUT_CHARS
"""Of one value: its characters and the values in it, shared ones counted each time. JSON weighs at most its bytes,
so that each payload fits."""
MAX_WORK = 2_000_000
"""Characters and values that one rendering handles; an ordinary one handles a few hundred."""
CPU_SECONDS = 0.25
"""Processor time for one text; an ordinary one takes 20 µs."""
MAX_NUMBER_BITS = 128
"""Of whole numbers that are computed with; larger ones can be shown."""
_ENTRY_WORK = 8
"""Of each entry of a list that is built: it takes some 80 bytes."""
_WORK_PER_CHECK = 1_000
"""The clock is checked after this much work."""


class Budget:
    """What is left for one rendering."""

    __slots__ = ("_check_at", "_deadline", "_left", "_weights")

    def __init__(self) -> None:
        self._left = MAX_WORK
        self._check_at = MAX_WORK - _WORK_PER_CHECK
        self._deadline = time.thread_time() + CPU_SECONDS
        self._weights: dict[int, tuple[int, Any]] = {}
        """Of lists and dictionaries by their identity, and the value itself, so that it keeps that identity."""

    def charge(self, work: int) -> None:
        """Takes from what is left, before the work is done. Raises TemplateError."""
        self._left -= work
        if self._left < self._check_at:
            self._check_at = self._left - _WORK_PER_CHECK
            if self._left < 0 or time.thread_time() > self._deadline:
                raise TemplateError("the template takes too long")

    def handle(self, *values: Any) -> None:
        """Charges what goes through the whole of these values. Raises TemplateError."""
        self.charge(1 + sum(map(self.weight, values)))

    def built(self, value: Any) -> Any:
        """A value that an operation made, weighed; what an iterator gives becomes a list. Raises TemplateError."""
        if isinstance(value, Iterator):
            value = list(value)
        work = self.weight(value)
        if isinstance(value, list | tuple | dict):
            work += _ENTRY_WORK * len(value)
        self.charge(work)
        return value

    def weight(self, value: Any) -> int:
        """How much a value is. Raises TemplateError where that is over the bound."""
        if isinstance(value, str):
            weight = 1 + len(value)
        elif isinstance(value, int):
            weight = 1 + (value.bit_length() >> 3)
        elif isinstance(value, list | tuple | dict):
            known = self._weights.get(id(value))
            return known[0] if known else self._weigh(value)
        else:
            return 1
        if weight > MAX_WEIGHT + 1:
            too_large()
        return weight

    def _weigh(self, whole: Any) -> int:
        """Without recursion, so that any depth is survived; ends as soon as it is too much."""
        weight, seen, waiting = 0, 0, [whole]
        while waiting:
            value = waiting.pop()
            weight += 1
            entries = [*value.keys(), *value.values()] if isinstance(value, dict) else value
            for entry in entries:
                seen += 1
                if not isinstance(entry, list | tuple | dict):
                    weight += self.weight(entry)
                elif known := self._weights.get(id(entry)):
                    weight += known[0]
                else:
                    waiting.append(entry)
                if weight > MAX_WEIGHT:
                    too_large()
        self.charge(seen)
        self._weights[id(whole)] = weight, whole
        return weight


def check_number(value: Any) -> None:
    """Raises TemplateError for a whole number that is too large to compute with."""
    if isinstance(value, int) and value.bit_length() > MAX_NUMBER_BITS:
        raise TemplateError(f"a number has more than {MAX_NUMBER_BITS} bits")


def too_large() -> NoReturn:
    """Raises TemplateError: the output is larger than a template may make."""
    raise TemplateError(f"what the template makes is over {MAX_OUTPUT_CHARS:,} characters")
