"""The records' database: opened, migrated, closed; transactions."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from crmd.errors import RecordsUnavailable
from crmd.records.migrate import migrate

BUSY_TIMEOUT_S = 15.0
"""How long a writer waits for another one: SQLite has one writer at a time."""
SQLITE_CACHE_KIB = 8 * 1024
_READING = "crmd_reading"


class Records:
    """One database. Handlers and the HTTP side get it; each operation is a short transaction of its own."""

    def __init__(self, url: str, *, folder: Path, connections: int = 5) -> None:
        """An empty `url` is an SQLite file in `folder`."""
        self.url = _async_url(url, folder)
        self._connections = connections
        self._engine: AsyncEngine | None = None
        self._sessions: async_sessionmaker[AsyncSession] | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether the records are an SQLite file."""
        return self.url.get_backend_name() == "sqlite"

    @property
    def engine(self) -> AsyncEngine:
        """The engine; raises RecordsUnavailable before `start` and after `stop`."""
        if self._engine is None:
            raise RecordsUnavailable("the records are not open")
        return self._engine

    async def start(self) -> None:
        """Opens the database and brings its tables up to date. Fine twice. Raises RecordsUnavailable."""
        if self._engine is not None:
            return
        engine = self._create()
        try:
            await migrate(engine)
        except (DBAPIError, OSError) as error:
            await engine.dispose()
            raise RecordsUnavailable(f"{self.url.render_as_string()}: {_reason(error)}") from error
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def stop(self) -> None:
        """Closes all connections. Fine twice, or before start."""
        engine, self._engine, self._sessions = self._engine, None, None
        if engine is not None:
            await engine.dispose()

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session whose changes are kept when the block ends, all or none. Raises RecordsUnavailable.

        SQLite has one writer at a time, so keep blocks short and never wait for the outside inside one.
        """
        return self._session(reading=False)

    def reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session that only reads, and waits for no writer. Raises RecordsUnavailable."""
        return self._session(reading=True)

    @asynccontextmanager
    async def _session(self, *, reading: bool) -> AsyncIterator[AsyncSession]:
        if self._sessions is None:
            raise RecordsUnavailable("the records are not open")
        try:
            async with self._sessions() as session, session.begin():
                await session.connection(execution_options={_READING: reading})
                yield session
        except DBAPIError as error:
            if not _is_passing(error):
                raise
            raise RecordsUnavailable(_reason(error)) from error

    def _create(self) -> AsyncEngine:
        if not self.is_sqlite:
            return create_async_engine(
                self.url, pool_size=self._connections, max_overflow=0, pool_pre_ping=True, pool_recycle=1800
            )
        engine = create_async_engine(
            self.url, pool_size=self._connections, max_overflow=0, connect_args={"timeout": BUSY_TIMEOUT_S}
        )
        event.listen(engine.sync_engine, "connect", _prepare_sqlite)
        event.listen(engine.sync_engine, "begin", _begin_sqlite)
        return engine


def _async_url(url: str, folder: Path) -> URL:
    if not url:
        return URL.create("sqlite+aiosqlite", database=str(folder / "records.sqlite"))
    parsed = make_url(url)
    driver = "sqlite+aiosqlite" if parsed.get_backend_name() == "sqlite" else "postgresql+asyncpg"
    return parsed.set(drivername=driver)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by us, see below
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute(f"PRAGMA cache_size = -{SQLITE_CACHE_KIB}")
    cursor.close()


def _begin_sqlite(connection: Any) -> None:
    # A transaction that reads first and writes then would be refused at once where another wrote in between.
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _is_passing(error: DBAPIError) -> bool:
    """Whether the database is away or busy, rather than the statement wrong."""
    original = error.orig
    return (
        error.connection_invalidated
        or isinstance(original, sqlite3.OperationalError | OSError | asyncio.TimeoutError)
        or "Connection" in type(original).__name__
    )


def _reason(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return f"{type(original).__name__}: {original}".splitlines()[0]
