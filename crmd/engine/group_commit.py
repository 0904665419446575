"""Many small writes at once cost more than one large one: calls that come together share one."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class GroupCommit(Generic[A, R]):
    """Collects items for one write at a time; what comes while one is under way goes into the next.

    A lone item begins at once. `write` gets up to `most` items in the order in which they came, and answers in
    the same order. Where it raises an error that `is_of_one` calls the fault of a single item, each item is
    written alone.
    """

    def __init__(
        self,
        write: Callable[[Sequence[A]], Awaitable[Sequence[R]]],
        most: int,
        is_of_one: Callable[[Exception], bool],
    ) -> None:
        self._write = write
        self._most = most
        self._is_of_one = is_of_one
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._task: asyncio.Task[None] | None = None

    async def call(self, item: A) -> R:
        """What `write` answers for the item; raises what it raises.

        The item of a caller that is cancelled is left out, unless its write has begun.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="group commit")
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
                await self._commit([one for one in batch if not one[1].done()])
        finally:
            self._task = None

    async def _commit(self, batch: Sequence[tuple[A, asyncio.Future[R]]]) -> None:
        if not batch:
            return
        try:
            answers = await self._write([item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and self._is_of_one(error):
                for one in batch:
                    await self._commit([one])
            else:
                _fail(batch, error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def _fail(batch: Sequence[tuple[A, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            # Each raises its own: one that several raise would gather all their tracebacks.
            own = copy.copy(error) if len(batch) > 1 else error
            own.__cause__ = error.__cause__ if own is error else error
            future.set_exception(own)
