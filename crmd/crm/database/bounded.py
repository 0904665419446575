"""A time limit for what a request asks of the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crmd.errors import RecordsUnavailable

SECONDS = 5.0


@asynccontextmanager
async def database_bounded() -> AsyncIterator[None]:
    """Around what a request asks of the database; raises RecordsUnavailable after SECONDS."""
    try:
        async with asyncio.timeout(SECONDS):
            yield
    except TimeoutError:
        raise RecordsUnavailable(f"the records did not answer within {SECONDS:g} s") from None
