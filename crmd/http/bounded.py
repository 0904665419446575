"""Keeps a request from waiting for a store that does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from crmd.errors import RecordsUnavailable, StoreUnavailable

T = TypeVar("T")

PROBE_SECONDS = 2.0
"""Health, metrics and summaries answer within this."""
READ_SECONDS = 5.0
ACTION_SECONDS = 15.0
"""Adding a thousand jobs of 8 MiB on a slow link takes seconds."""


async def bounded(call: Awaitable[T], seconds: float) -> T:
    """Awaits a call to the store; raises StoreUnavailable when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise StoreUnavailable(
            f"the store did not answer within {seconds:g} s; look at it before trying again"
        ) from None


async def records_bounded(call: Awaitable[T], seconds: float = READ_SECONDS) -> T:
    """Awaits a call to the records; raises RecordsUnavailable when it takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise RecordsUnavailable(f"the records did not answer within {seconds:g} s") from None


class Cached(Generic[T]):
    """What a call returned, for as long as it is fresh. Many who ask at once cause one call."""

    def __init__(
        self,
        fetch: Callable[[], Coroutine[Any, Any, T]],
        *,
        max_age_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._max_age_seconds = max_age_seconds
        self._monotonic = monotonic
        self._value: T | None = None
        self._fetched_at = float("-inf")
        self._task: asyncio.Task[T] | None = None

    async def get(self) -> T:
        """The value, at most `max_age_seconds` old.

        Raises StoreUnavailable after PROBE_SECONDS, and what the call raises.
        """
        if self._value is not None and self._monotonic() - self._fetched_at < self._max_age_seconds:
            return self._value
        if self._task is None:
            self._task = asyncio.create_task(bounded(self._fetch(), PROBE_SECONDS))
            self._task.add_done_callback(self._keep)
        return await asyncio.shield(self._task)

    def forget(self) -> None:
        """Makes the next `get` ask again."""
        self._fetched_at = float("-inf")

    async def stop(self) -> None:
        """Ends a call under way."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _keep(self, task: asyncio.Task[T]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is None:
            self._value = task.result()
            self._fetched_at = self._monotonic()
