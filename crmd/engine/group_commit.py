"""Calls that come together share one write, as one large write costs less than many small ones."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class GroupCommit(Generic[A, R]):
    """Collects the items of one turn of the event loop for one write.

    A lone item begins at once. While `writes` of them are under way, what comes goes into the next. `write` gets
    items of a `size` of up to `most` together, or one, in the order in which they came, and answers in the same
    order. Where it raises an error that `is_of_one` calls the fault of a single item, each is written alone.
    """

    def __init__(
        self,
        write: Callable[[Sequence[A]], Awaitable[Sequence[R]]],
        most: int,
        is_of_one: Callable[[Exception], bool],
        *,
        writes: int = 1,
        size: Callable[[A], int] = lambda _: 1,
    ) -> None:
        self._write = write
        self._most = most
        self._is_of_one = is_of_one
        self._free = writes
        self._size = size
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._scheduled = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, item: A) -> R:
        """What `write` answers for the item; raises what it raises.

        The item of a caller that is cancelled is left out, unless its write has begun.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if self._free and not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._begin)
        return await future

    def _begin(self) -> None:
        self._scheduled = False
        while self._waiting and self._free:
            self._free -= 1
            task = asyncio.create_task(self._commit(self._next_batch()), name="group commit")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _next_batch(self) -> list[tuple[A, asyncio.Future[R]]]:
        waiting, together = self._waiting, 0
        for count, (item, _) in enumerate(waiting):
            together += self._size(item)
            if together > self._most and count:
                self._waiting = waiting[count:]
                return waiting[:count]
        self._waiting = []
        return waiting

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._free += 1
        self._begin()

    async def _commit(self, batch: Sequence[tuple[A, asyncio.Future[R]]]) -> None:
        batch = [one for one in batch if not one[1].done()]
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
        except asyncio.CancelledError:
            for _, future in batch:
                future.cancel()
            raise
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():  # its caller may have left
                    future.set_result(answer)


def _fail(batch: Sequence[tuple[A, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in batch:
        if not future.done():
            # Each raises its own: one that several raise would gather all their tracebacks.
            own = copy.copy(error) if len(batch) > 1 else error
            own.__cause__ = error.__cause__ if own is error else error
            future.set_exception(own)
