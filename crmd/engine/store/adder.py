"""Adds the jobs of many callers in one script: most of what a single job costs is the fixed part of a call."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence

from crmd.engine.store.replies import NewDocument
from crmd.errors import RequestError

ALONE_FROM = 50
"""A caller with so many jobs gains nothing by the company of others, and would make them wait."""

Send = Callable[[Sequence[NewDocument]], Awaitable[list[bool]]]
Waiting = list[tuple[Sequence[NewDocument], asyncio.Future[list[bool]]]]


class Adder:
    """For one queue. What is added in one turn of the loop goes to `send` together, up to `most` jobs a call."""

    def __init__(self, send: Send, most: int) -> None:
        self._send = send
        self._most = most
        self._waiting: Waiting = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def add(self, documents: Sequence[NewDocument]) -> list[bool]:
        """Says of each job whether it is new, as `send` does, and raises what that raises."""
        if len(documents) >= ALONE_FROM:
            return await self._send(documents)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[bool]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._flush)
        self._waiting.append((documents, future))
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        group: Waiting = []
        size = 0
        for one in waiting:
            if size + len(one[0]) > self._most:
                self._begin(group)
                group, size = [], 0
            group.append(one)
            size += len(one[0])
        self._begin(group)

    def _begin(self, group: Waiting) -> None:
        task = asyncio.create_task(self._add(group))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _add(self, group: Waiting) -> None:
        try:
            created = await self._send([document for documents, _ in group for document in documents])
        except RequestError as error:  # one holds what cannot be sent, so none was
            if len(group) > 1:
                for one in group:
                    await self._add([one])
            else:
                _fail(group, error)
        except Exception as error:  # whatever it is, each caller has to hear of it
            _fail(group, error)
        except asyncio.CancelledError:
            for _, future in group:
                future.cancel()
            raise
        else:
            _answer(group, created)


def _answer(group: Waiting, created: list[bool]) -> None:
    first = 0
    for documents, future in group:
        if not future.done():  # its caller may have left
            future.set_result(created[first : first + len(documents)])
        first += len(documents)


def _fail(group: Waiting, error: Exception) -> None:
    for _, future in group:
        if not future.done():
            # Each raises its own: one that several raise would gather all their tracebacks.
            own = copy.copy(error)
            own.__cause__ = error
            future.set_exception(own)
