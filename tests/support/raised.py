"""What a coroutine raises."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import pytest

E = TypeVar("E", bound=BaseException)


async def raised(kind: type[E], running: Awaitable[object], *said: str) -> E:
    """Awaits what must raise a `kind` in whose text all that is `said` stands; returns what was raised."""
    with pytest.raises(kind) as caught:
        await running
    text = str(caught.value)
    for part in said:
        assert part in text
    return caught.value
