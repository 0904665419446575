"""Time limits for what a request asks of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from crmd.errors import StoreUnavailable

T = TypeVar("T")

READ_SECONDS = 5.0
ACTION_SECONDS = 15.0
"""Adding a thousand jobs of 8 MiB on a slow link takes seconds."""


async def bounded(call: Awaitable[T], seconds: float) -> T:
    """Awaits a call to the store; raises StoreUnavailable after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise StoreUnavailable(
            f"the store did not answer within {seconds:g} s; look at it before trying again"
        ) from None
