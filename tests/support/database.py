"""A database of each kind, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.crm.database.database import Database
from crmd.crm.schema import SCHEMA
from tests.support.postgres import Postgres
from tests.support.started import started

BACKENDS = ("sqlite", "postgresql")
P = ParamSpec("P")
T = TypeVar("T")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each database in turn."""
    return str(request.param)


@pytest.fixture
def empty_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database that has no tables yet."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path}/own.sqlite"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.new_database()
    yield server.url(name)
    server.drop(name)


@pytest.fixture
async def database_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database that has the tables, with nothing in them."""
    if backend == "sqlite":
        return f"sqlite:///{tmp_path}/records.sqlite"  # made in a moment when it is opened
    server: Postgres = request.getfixturevalue("postgres")
    url = server.url(server.shared_database)
    await _empty(url)
    return url


@pytest.fixture
async def database(database_url: str, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database: the test runs once on each database."""
    async with started(Database(database_url, SCHEMA, folder=tmp_path)) as made:
        yield made


async def commit(
    database: Database,
    function: Callable[Concatenate[AsyncSession, P], Awaitable[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Calls a function of a repository in a transaction of its own."""
    async with database.transaction() as session:
        return await function(session, *args, **kwargs)


async def fetch(
    database: Database,
    function: Callable[Concatenate[AsyncSession, P], Awaitable[T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Calls a function of a repository that only reads."""
    async with database.reading() as session:
        return await function(session, *args, **kwargs)


def in_state_folder(folder: Path, work: Callable[[AsyncSession], Awaitable[T]]) -> T:
    """Does some work in the database of a state folder, as its daemon would; for tests without an event loop."""

    async def run() -> T:
        async with started(Database("", SCHEMA, folder=folder)) as database:
            return await commit(database, work)

    folder.mkdir(mode=0o700, exist_ok=True)
    return asyncio.run(run())


async def _empty(url: str) -> None:
    """Makes the tables where there are none, and empties them: faster than a database for each test."""
    async with started(Database(url, SCHEMA, folder=Path())) as made, made.transaction() as session:
        names = ", ".join(table.name for table in SCHEMA.metadata.sorted_tables)
        await session.execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
