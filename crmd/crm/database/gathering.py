"""Many small transactions at once cost more than one large one: calls that come together share one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.database.database import Records
from crmd.errors import RecordsError

A = TypeVar("A")
R = TypeVar("R")

MOST_AT_ONCE = 100
"""Bounds how long one transaction keeps other writers waiting: some 20 ms on SQLite."""


class Gathering(Generic[A, R]):
    """Collects calls; what comes while one transaction is under way goes into the next one.

    A call alone begins at once. `work` gets the items in the order they came and answers in the same order.
    """

    def __init__(
        self, records: Records, work: Callable[[AsyncSession, Sequence[A]], Awaitable[Sequence[R]]]
    ) -> None:
        self._records = records
        self._work = work
        self._waiting: list[tuple[A, asyncio.Future[R]]] = []
        self._task: asyncio.Task[None] | None = None

    async def call(self, item: A) -> R:
        """What `work` answers for the item, once it is committed.

        Raises RecordsUnavailable, and what `work` raises. Where the caller is cancelled before its transaction
        began the item is left out; later it is not.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="gathered records")
        return await future

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
                await self._commit([one for one in batch if not one[1].done()])
        finally:
            self._task = None

    async def _commit(self, batch: Sequence[tuple[A, asyncio.Future[R]]]) -> None:
        if not batch:
            return
        try:
            async with self._records.transaction() as s:
                answers = await self._work(s, [item for item, _ in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, RecordsError):
                for one in batch:  # the fault of one is not that of the others
                    await self._commit([one])
                return
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)
