"""SQLAlchemy engines, set up for SQLite and for PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, event
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from crmd.crm.database.address import Address
from crmd.crm.database.db_errors import translate
from crmd.crm.database.types import dump_json

BUSY_TIMEOUT_S = 15.0
"""How long a writer waits for another one."""
CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 60.0
"""A PostgreSQL that says nothing for this long counts as unavailable."""
IDLE_TIMEOUT_S = 120.0
"""PostgreSQL ends a transaction that is idle for this long: its daemon's machine may be gone."""
_READING = "crmd_reading"


def create_engine(
    address: Address, connections: int, *, statement_timeout: float | None = STATEMENT_TIMEOUT_S
) -> AsyncEngine:
    """An engine; nothing is connected yet. Its errors show no values. The timeout, in seconds, is PostgreSQL's."""
    options: dict[str, Any] = {
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": BUSY_TIMEOUT_S,
        "hide_parameters": True,
        "json_serializer": dump_json,
    }
    if address.path is not None:
        engine = _sqlite(address.path, options)
    else:
        engine = _postgresql(address, statement_timeout, options)
    event.listen(engine.sync_engine, "handle_error", translate)
    return engine


def reading_options(engine: AsyncEngine) -> dict[str, Any]:
    """Execution options of a transaction that only reads, all of it from one moment."""
    if engine.dialect.name == "sqlite":
        return {_READING: True}
    return {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def create_private_file(address: Address) -> None:
    """Makes a new SQLite file its owner's only; its journals get the same mode from it. Raises OSError."""
    if address.path is not None:
        os.close(os.open(address.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _sqlite(path: Path, options: dict[str, Any]) -> AsyncEngine:
    from crmd.crm.database.sqlite import connect

    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        async_creator=lambda: connect(path, BUSY_TIMEOUT_S),
        **options,
    )
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes then would be refused at once where another wrote in between.
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def _postgresql(address: Address, statement_timeout: float | None, options: dict[str, Any]) -> AsyncEngine:
    import asyncpg

    async def connect() -> Any:
        connection = await asyncpg.connect(
            address.dsn, timeout=CONNECT_TIMEOUT_S, command_timeout=statement_timeout
        )
        try:
            # Not by the start-up packet: poolers in between refuse what they do not know there.
            await connection.execute(
                f"SET lock_timeout = '{BUSY_TIMEOUT_S:g}s'; "
                f"SET idle_in_transaction_session_timeout = '{IDLE_TIMEOUT_S:g}s'"
            )
        except BaseException:
            connection.terminate()
            raise
        return connection

    return create_async_engine(
        "postgresql+asyncpg://", async_creator=connect, pool_pre_ping=True, pool_recycle=1800, **options
    )
