"""Concurrent callers that ask for the same share one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class SingleFlight(Generic[K, T]):
    """Calls under way, by what they are for. A caller that is cancelled leaves its call to the others."""

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[T]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._tasks

    async def run(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The answer of the call under way for that key, or else of this one; raises what it raises.

        Raises CancelledError where `stop` cancelled the call.
        """
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(call(), name=f"single flight {key}")
            task.add_done_callback(partial(self._ended, key))
        return await asyncio.shield(task)

    async def stop(self) -> None:
        """Cancels the calls under way. Idempotent."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _ended(self, key: K, task: asyncio.Task[T]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen, also where every caller was cancelled
