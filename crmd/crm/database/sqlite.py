"""Connections to an SQLite file that a cancelled task leaves whole.

aiosqlite works in a thread, which goes on with a statement whose task was cancelled. SQLAlchemy would then tidy up
beside it, and may wait for ever. So a cancellation waits until the statement is over, and comes at the next await
that is none of the database.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

T = TypeVar("T")

CACHE_KIB = 8 * 1024
JOURNAL_MAX_BYTES = 64 * 1024 * 1024
"""What a long write leaves of the write-ahead log on disk."""


class Cursor(aiosqlite.Cursor):
    """A cursor that is closed here: handing that over to the thread takes longer than doing it."""

    async def close(self) -> None:
        """Closes it; idempotent."""
        self._cursor.close()


class Connection(aiosqlite.Connection):
    """A connection whose every step is finished once it was begun."""

    def cursor(self) -> Any:
        """A new cursor; making one waits for nothing."""
        return Cursor(self, self._conn.cursor())

    async def rollback(self) -> None:
        """Takes back what the transaction did, if one is open: SQLAlchemy asks for it after each commit too."""
        if self._conn.in_transaction:
            await super().rollback()

    async def _execute(self, fn: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if not self._running or not self._connection:
            raise ValueError("Connection closed")
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((done, partial(fn, *args, **kwargs)))
        return await finished(done)

    async def _connect(self) -> Connection:
        await finished(asyncio.ensure_future(super()._connect()))
        return self

    async def close(self) -> None:
        """Closes it; idempotent."""
        await finished(asyncio.ensure_future(super().close()))


def connect(path: Path, busy_timeout: float) -> Connection:
    """A connection to be awaited; it waits `busy_timeout` seconds for other writers. It begins no transactions."""

    def connector() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_MAX_BYTES}")
        except BaseException:
            connection.close()
            raise
        return connection

    made = Connection(connector, iter_chunk_size=64)
    made._thread.daemon = True  # a statement that hangs must not keep the process
    return made


async def finished(work: asyncio.Future[T]) -> T:
    """Awaits to the end what must not be left half done. A cancellation meanwhile is asked for again after it."""
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or not task.cancelling():
            raise
    asked = 1
    task.uncancel()
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError:
            asked += 1
            task.uncancel()
    for _ in range(asked):
        task.cancel()
    return work.result()
