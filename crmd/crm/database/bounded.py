"""A time limit for what a request asks of the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from crmd.errors import RecordsUnavailable

T = TypeVar("T")

SECONDS = 5.0


async def database_bounded(call: Awaitable[T]) -> T:
    """Awaits a call to the database; raises RecordsUnavailable after SECONDS."""
    try:
        async with asyncio.timeout(SECONDS):
            return await call
    except TimeoutError:
        raise RecordsUnavailable(f"the records did not answer within {SECONDS:g} s") from None
