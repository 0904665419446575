"""Brings the tables up to date.

A new database gets its tables as they are now. One that an older crmd made is migrated by Alembic, in a process of
its own: its libraries would stay in the daemon's memory for ever.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Column, Connection, MetaData, String, Table, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from crmd.crm.database import db_errors
from crmd.crm.database.address import Address
from crmd.crm.database.engine import create_engine, reading_options
from crmd.errors import CrmdError, ExitCode, RecordsUnavailable, RecordsUnusable

if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import Script

VERSION_TABLE = "crmd_version"
"""Not Alembic's usual name: a database shared with another program may have that one."""
_VERSION = Table(VERSION_TABLE, MetaData(), Column("version_num", String(32), primary_key=True))
# Daemons that start together go one after the other; any number serves that only crmd uses.
_LOCK = 7_305_021
_TABLE_LOCK = "3s"
"""How long a migration waits for a table. While it waits, so does every query of the daemons still running."""
_PROGRAM = "import sys; sys.path.append(sys.argv[1]); from crmd.crm.database.migrate import main; sys.exit(main())"


MIGRATIONS = Path(__file__).with_name("migrations")


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables as they are now, and the migrations that bring an older database there."""

    metadata: MetaData
    migrations: Path
    """Alembic's folder."""
    head: str
    """The newest migration."""


async def bring_up_to_date(engine: AsyncEngine, address: Address, schema: Schema) -> None:
    """Makes or migrates the tables, if that is needed.

    Raises RecordsUnusable for a database that a newer crmd migrated, and RecordsUnavailable.
    """
    async with engine.connect() as connection:
        await connection.execution_options(**reading_options(engine))
        version = await connection.run_sync(_version)
    if version is None:
        async with _locked(engine) as connection:
            version = await connection.run_sync(_create, schema)
    if version == schema.head:
        return
    if version > schema.head:
        raise RecordsUnusable(
            f"the database is at version {version}, and this crmd knows versions up to {schema.head}: "
            "run the newer crmd, or restore the backup from before it"
        )
    await _migrate_apart(address, schema.migrations)


def upgrade(connection: Connection, migrations: Path = MIGRATIONS, to: str = "head") -> None:
    """Runs the migrations that are missing up to one, on a connection in a transaction."""
    from alembic import command

    config = _config(migrations)
    config.attributes["connection"] = connection
    config.attributes["version_table"] = VERSION_TABLE
    command.upgrade(config, to)


def main() -> int:
    """The process that migrates. Takes what to do as JSON on standard input: a URL may hold a password."""
    task = json.load(sys.stdin)
    address = Address(task["kind"], Path(task["path"]) if task["path"] else None, task["dsn"])
    try:
        asyncio.run(_upgrade(address, Path(task["migrations"])))
    except Exception as error:
        sys.stderr.write(db_errors.reason(error) + "\n")
        return ExitCode.UNAVAILABLE if _is_unavailable(error) else ExitCode.CONFIG
    return ExitCode.OK


async def _upgrade(address: Address, migrations: Path) -> None:
    """Each migration is a transaction of its own.

    One that changes many rows has a function `prepare`, which changes the next of them: a transaction for each
    call locks few of them, and those for a short time, as older daemons go on meanwhile.
    """
    engine = create_engine(address, connections=1, statement_timeout=None)
    try:
        async with _locked(engine) as connection:
            missing = await connection.run_sync(_missing, migrations)
        for script in missing:
            last = 0 if hasattr(script.module, "prepare") else None
            while last is not None:
                async with _locked(engine) as connection:
                    last = await connection.run_sync(script.module.prepare, last)
            async with _locked(engine) as connection:
                await connection.run_sync(upgrade, migrations, script.revision)
    finally:
        await engine.dispose()


def _missing(connection: Connection, migrations: Path) -> list[Script]:
    """The migrations that are to be run, the first one first."""
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(_config(migrations))
    return list(scripts.iterate_revisions("head", _version(connection) or "base"))[::-1]


def _config(migrations: Path) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    return config


@asynccontextmanager
async def _locked(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction beside which no other daemon makes or migrates tables; SQLite has one writer anyway."""
    async with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            await connection.execute(text("SET LOCAL lock_timeout = 0"))
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            await connection.execute(text(f"SET LOCAL lock_timeout = '{_TABLE_LOCK}'"))
        yield connection


def _version(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(select(_VERSION.c.version_num)).scalar()


def _create(connection: Connection, schema: Schema) -> str:
    """Makes all tables in a new database; returns its version, which another daemon may have brought there."""
    version = _version(connection)
    if version is None:
        taken = sorted(set(schema.metadata.tables) & set(inspect(connection).get_table_names()))
        if taken:
            raise RecordsUnusable(
                f"table {taken[0]} already exists; give crmd a database, or a schema, of its own"
            )
        schema.metadata.create_all(connection, checkfirst=False)
        _VERSION.create(connection)
        connection.execute(_VERSION.insert(), {"version_num": schema.head})
        version = schema.head
    return version


async def _migrate_apart(address: Address, migrations: Path) -> None:
    package_folder = str(Path(__file__).parents[3])
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", _PROGRAM, package_folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    task = {
        "kind": address.kind,
        "path": str(address.path.absolute()) if address.path else None,
        "dsn": address.dsn,
        "migrations": str(migrations),
    }
    try:
        _, said = await process.communicate(json.dumps(task).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise _failure(process.returncode, said.decode(errors="replace"))


def _failure(code: int, said: str) -> CrmdError:
    last = (said.strip().splitlines() or [f"exit code {code}"])[-1]
    detail = f"the tables could not be migrated: {last}"
    return RecordsUnavailable(detail) if code == ExitCode.UNAVAILABLE else RecordsUnusable(detail)


def _is_unavailable(error: Exception) -> bool:
    return isinstance(error, RecordsUnavailable) or db_errors.is_passing(error)
