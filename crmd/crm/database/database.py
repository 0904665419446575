"""The database: opened, watched, closed; transactions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from crmd.crm.database import db_errors
from crmd.crm.database.address import SQLITE, Address
from crmd.crm.database.engine import (
    BUSY_TIMEOUT_S,
    STATEMENT_TIMEOUT_S,
    create_engine,
    create_private_file,
    reading_options,
)
from crmd.crm.database.migrate import Schema, bring_up_to_date
from crmd.errors import RecordsUnavailable, RecordsUnusable
from crmd.telemetry.throttle import Throttle

OPEN_AGAIN_S = (0.5, 1.0, 2.0, 5.0, 15.0)
"""Waits between attempts to open a database that is unavailable; the last one is repeated."""
UNAVAILABLE_TOLD_EVERY_S = 300.0
CLOSE_TIMEOUT_S = 0.5
"""What closing connections may take; the daemon ends within a second."""
MOST_RUNS = 4
"""Of one piece of work, each time rolled back for the sake of another transaction."""

T = TypeVar("T")

_log = logging.getLogger("crmd.records.database")  # the name that 0.1.0 gave it, by which people filter


class Database:
    """One database. Handlers and the HTTP side get it; each operation is a short transaction of its own."""

    def __init__(
        self,
        url: str,
        schema: Schema,
        *,
        folder: Path,
        connections: int = 5,
        statement_timeout: float = STATEMENT_TIMEOUT_S,
    ) -> None:
        """An empty `url` is an SQLite file in `folder`. Raises ValueError for a URL that cannot be used.

        `statement_timeout`, in seconds, is PostgreSQL's.
        """
        self.address = Address.parse(url, folder)
        self._connections = connections
        self._statement_timeout = statement_timeout
        self._schema = schema
        self._engine: AsyncEngine | None = None
        self._opener: asyncio.Task[None] | None = None
        self.last_error: str | None = "not opened yet"
        """Why the database is unavailable; None where it is not, as far as is known."""
        self._log_throttle = Throttle(UNAVAILABLE_TOLD_EVERY_S)
        self._unavailable_reported = False
        # SQLite has one writer at a time. Those of this process wait here, in order, and without a connection.
        self._write_lock = asyncio.Lock()
        self._writer: asyncio.Task[object] | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is an SQLite file."""
        return self.address.kind == SQLITE

    @property
    def engine(self) -> AsyncEngine:
        """The engine; raises RecordsUnavailable while the database could not be opened."""
        if self._engine is None:
            raise RecordsUnavailable(f"the records are not available: {self.last_error}")
        return self._engine

    async def start(self) -> None:
        """Opens the database and brings its tables up to date; idempotent.

        Where it is unavailable it is tried again in the background, and this returns. Raises RecordsUnusable for
        what only a person can mend.
        """
        if self._engine is not None or self._opener is not None:
            return
        try:
            await self._open()
        except RecordsUnusable as error:
            self.last_error = str(error)
            raise
        except RecordsUnavailable as error:
            self._note_unavailable(str(error))
            self._opener = asyncio.create_task(self._keep_opening(), name="open records")

    async def stop(self) -> None:
        """Closes all connections; idempotent, also before start."""
        opener, self._opener = self._opener, None
        if opener:
            opener.cancel()
            await asyncio.wait([opener])
        engine, self._engine = self._engine, None
        if engine is not None:
            self.last_error = "closed"
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await engine.dispose()

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session whose changes are kept when the block ends, all or none. Raises RecordsUnavailable.

        SQLite has one writer at a time, so keep blocks short and never wait for the outside inside one.
        """
        return self._session(reading=False)

    async def run(self, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
        """Runs work in a transaction, and again where PostgreSQL rolled it back for the sake of another one.

        The work may run several times, so it changes nothing outside its session. Raises RecordsUnavailable.
        """
        for _ in range(MOST_RUNS - 1):
            try:
                async with self.transaction() as s:
                    return await work(s)
            except RecordsUnavailable as error:
                if not db_errors.lost_race(error):
                    raise
        async with self.transaction() as s:
            return await work(s)

    def reading(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A session that only reads, all from one moment, and waits for no writer. Raises RecordsUnavailable."""
        return self._session(reading=True)

    @asynccontextmanager
    async def _session(self, *, reading: bool) -> AsyncIterator[AsyncSession]:
        engine = self.engine
        options = reading_options(engine) if reading else {}
        task = asyncio.current_task()
        if task and task.cancelling():
            await asyncio.sleep(0)  # a cancellation that waited for the last transaction's end comes here
        try:
            async with self._writing_alone(reading), AsyncSession(engine, expire_on_commit=False) as session:
                await self._begin(session, options)
                yield session
                await session.commit()
        except RecordsUnavailable as error:
            if not db_errors.lost_race(error):
                self._note_unavailable(str(error))
            raise
        self._note_back()

    @asynccontextmanager
    async def _writing_alone(self, reading: bool) -> AsyncIterator[None]:
        if reading or not self.is_sqlite:
            yield
            return
        task = asyncio.current_task()
        if self._writer is task:
            raise RuntimeError("a transaction of the records is open in this task; use its session")
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                await self._write_lock.acquire()
        except TimeoutError:
            raise RecordsUnavailable(f"other writers kept the records busy for {BUSY_TIMEOUT_S:g} s") from None
        self._writer = task
        try:
            yield
        finally:
            self._writer = None
            self._write_lock.release()

    async def _begin(self, session: AsyncSession, options: dict[str, object]) -> None:
        """Takes a connection and begins. Only this may fail to connect: later an OSError is the caller's own."""
        try:
            await session.connection(execution_options=options)
        except (OSError, SQLAlchemyError) as error:
            if db_errors.is_passing(error) or db_errors.is_unusable(error):
                raise RecordsUnavailable(db_errors.reason(error)) from error
            raise

    async def _open(self) -> None:
        engine = create_engine(self.address, self._connections, statement_timeout=self._statement_timeout)
        try:
            await asyncio.to_thread(create_private_file, self.address)
            await bring_up_to_date(engine, self.address, self._schema)
        except BaseException as error:
            await engine.dispose()
            raise self._explained(error) from error
        self._engine = engine
        self._note_back()

    def _explained(self, error: BaseException) -> BaseException:
        """The error with the place where it happened, if it is one of the database."""
        if isinstance(error, RecordsUnusable | RecordsUnavailable):
            return type(error)(f"{self.address.masked}: {error}")
        if not isinstance(error, Exception):
            return error
        shown = f"{self.address.masked}: {db_errors.reason(error)}"
        if db_errors.is_unusable(error) or (
            self.is_sqlite and isinstance(error, PermissionError | FileNotFoundError)
        ):
            return RecordsUnusable(shown)
        return RecordsUnavailable(shown) if db_errors.is_passing(error) else error

    async def _keep_opening(self) -> None:
        attempt = 0
        while self._engine is None:
            await asyncio.sleep(OPEN_AGAIN_S[min(attempt, len(OPEN_AGAIN_S) - 1)])
            attempt += 1
            try:
                await self._open()
            except (RecordsUnavailable, RecordsUnusable) as error:
                self._note_unavailable(str(error))
            except Exception as error:
                _log.exception("the records cannot be opened")
                self.last_error = db_errors.reason(error)

    def _note_unavailable(self, error: str) -> None:
        self.last_error = error
        if self._log_throttle.allow("unavailable") is not None:
            self._unavailable_reported = True
            _log.warning("the records are not available: %s", error)

    def _note_back(self) -> None:
        self.last_error = None
        if self._unavailable_reported:
            self._unavailable_reported = False
            _log.info("the records are available again")


# A time limit for what a request asks of the database


REQUEST_SECONDS = 5.0


@asynccontextmanager
async def database_bounded() -> AsyncIterator[None]:
    """Around what a request asks of the database; raises RecordsUnavailable after REQUEST_SECONDS."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            yield
    except TimeoutError:
        raise RecordsUnavailable(f"the records did not answer within {REQUEST_SECONDS:g} s") from None
