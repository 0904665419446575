"""The tables: made, migrated, and held against each other; and databases that must not be touched."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from crmd.crm.database.database import Database
from crmd.crm.database.engine import create_engine
from crmd.crm.database.migrate import VERSION_TABLE, Schema, upgrade
from crmd.crm.schema import SCHEMA
from crmd.errors import RecordsUnusable
from tests.support.postgres import Postgres
from tests.support.wait import wait_until

TABLES = {
    *("ai_usage", "campaign_recipients", "campaigns", "contact_identities", "contact_tags", "contacts"),
    *("endpoint_states", "files", "flow_runs", "flows", "message_events", "messages", "notification_entries"),
    *("notification_groups", "snapshots", "transfers", "wa_numbers"),
}

NEXT = '''"""A later version."""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("contacts", sa.Column("nickname", sa.String()))
    op.execute("UPDATE contacts SET nickname = name")


def downgrade() -> None:
    op.drop_column("contacts", "nickname")
'''

OPENER = """
import asyncio, sys
from pathlib import Path
from crmd.crm.database.database import Database
from crmd.crm.database.migrate import Schema
from crmd.crm.schema import SCHEMA

async def main():
    later = Schema(SCHEMA.metadata, Path(sys.argv[2]), "9001")
    await Database(sys.argv[1], later, folder=Path()).start()
    print("alembic" in sys.modules, flush=True)

asyncio.run(main())
"""


@pytest.fixture
def later(tmp_path: Path) -> Schema:
    """The schema of a later crmd."""
    folder = tmp_path / "migrations"
    shutil.copytree(SCHEMA.migrations, folder)
    (folder / "versions" / "9001_later.py").write_text(NEXT.format(head=SCHEMA.head))
    return Schema(SCHEMA.metadata, folder, "9001")


FOREIGN_KEYS = ("add_fk", "remove_fk")
ADDED = ["recipient_id"]
"""Columns that got their foreign key with ALTER TABLE: of those SQLAlchemy sees too little on SQLite."""


def foreign_keys(connection: Connection, table: str) -> list[str]:
    """All that the database knows of a table's foreign keys."""
    found = inspect(connection).get_foreign_keys(table)
    if connection.dialect.name != "sqlite":
        return sorted(map(str, found))
    in_full = connection.exec_driver_sql(f"PRAGMA foreign_key_list({table})")
    return sorted(
        [str(key) for key in found if key["constrained_columns"] != ADDED] + [str(row[2:]) for row in in_full]
    )


def described(connection: Connection) -> dict[str, Any]:
    """All that the database knows of the tables."""
    seen = inspect(connection)
    return {
        name: {
            "columns": {c["name"]: (str(c["type"]), c["nullable"]) for c in seen.get_columns(name)},
            "primary key": seen.get_pk_constraint(name),
            "unique": sorted(map(str, seen.get_unique_constraints(name))),
            "indexes": sorted(map(str, seen.get_indexes(name))),
            "foreign keys": foreign_keys(connection, name),
        }
        for name in seen.get_table_names()
        if name != VERSION_TABLE
    }


async def opened(url: str, schema: Schema = SCHEMA) -> Database:
    database = Database(url, schema, folder=Path())
    await database.start()
    return database


async def run(url: str, function: Any, *arguments: Any) -> Any:
    """Calls a function on a connection in a transaction."""
    engine = create_engine(Database(url, SCHEMA, folder=Path()).address, 1)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(function, *arguments)
    finally:
        await engine.dispose()


async def version(url: str) -> Any:
    return await run(url, lambda connection: connection.scalar(text("SELECT version_num FROM crmd_version")))


def test_the_newest_migration_is_the_one_that_the_code_names() -> None:
    config = Config()
    config.set_main_option("script_location", str(SCHEMA.migrations))
    assert ScriptDirectory.from_config(config).get_current_head() == SCHEMA.head


async def test_migrations_make_what_the_tables_say(empty_url: str) -> None:
    await run(empty_url, upgrade)
    options = {"compare_type": True, "compare_server_default": True}

    def differences(connection: Connection) -> list[Any]:
        found = compare_metadata(MigrationContext.configure(connection, opts=options), SCHEMA.metadata)
        if connection.dialect.name == "sqlite":  # a new database has the same, as the next test says
            found = [one for one in found if one[0] not in FOREIGN_KEYS or one[1].column_keys != ADDED]
        return [one for one in found if VERSION_TABLE not in str(one)]

    assert await run(empty_url, differences) == []


async def test_a_new_database_is_as_a_migrated_one(backend: str, empty_url: str, database_url: str) -> None:
    await run(empty_url, upgrade)
    database = await opened(database_url)
    await database.stop()
    made, migrated = await run(database_url, described), await run(empty_url, described)
    assert made == migrated
    assert set(made) == set(SCHEMA.metadata.tables) == TABLES
    assert await version(database_url) == await version(empty_url) == SCHEMA.head


async def test_migrations_can_be_taken_back(empty_url: str) -> None:
    from alembic import command

    def and_back(connection: Connection) -> set[str]:
        upgrade(connection)
        config = Config()
        config.set_main_option("script_location", str(SCHEMA.migrations))
        config.attributes.update(connection=connection, version_table=VERSION_TABLE)
        command.downgrade(config, "base")
        return set(inspect(connection).get_table_names())

    assert await run(empty_url, and_back) == {VERSION_TABLE}


async def test_an_older_database_is_migrated_with_what_is_in_it(empty_url: str, later: Schema) -> None:
    older = await opened(empty_url)
    async with older.transaction() as session:
        await session.execute(
            text(
                "INSERT INTO contacts (phone, name, attributes, created_at, updated_at) "
                "VALUES ('+1', 'Ada', '{}', 0, 0)"
            )
        )
    await older.stop()
    newer = await opened(empty_url, later)
    async with newer.reading() as session:
        assert (await session.execute(text("SELECT phone, nickname FROM contacts"))).all() == [("+1", "Ada")]
    await newer.stop()
    assert await version(empty_url) == "9001"


async def test_a_migration_that_waits_for_a_table_lets_running_daemons_go_on(
    postgres: Postgres, later: Schema
) -> None:
    """A backup reads the table; what is asked after the migration queues behind it."""
    name = postgres.new_database()
    running = await opened(postgres.url(name))
    count = text("SELECT count(*) FROM contacts")
    backup = create_engine(running.address, 1)
    try:
        async with backup.begin() as connection:
            await connection.execute(count)
            newer = await opened(postgres.url(name), later)
            assert "lock timeout" in (newer.last_error or "")
            async with running.reading() as session:
                assert (await session.execute(count)).scalar() == 0
        await wait_until(lambda: newer.last_error is None, 30.0, "the tables are migrated")
        await newer.stop()
        await running.stop()
    finally:
        await backup.dispose()
        postgres.drop(name)


@pytest.mark.faults
async def test_daemons_that_start_together_migrate_once(empty_url: str, later: Schema) -> None:
    await (await opened(empty_url)).stop()
    together = await asyncio.gather(*(opened(empty_url, later) for _ in range(2)))
    for database in together:
        async with database.reading() as session:
            assert (await session.execute(text("SELECT nickname FROM contacts"))).all() == []
        await database.stop()
    assert await version(empty_url) == "9001"


async def test_daemons_that_start_together_make_the_tables_once(empty_url: str) -> None:
    together = await asyncio.gather(*(opened(empty_url) for _ in range(5)))
    for database in together:
        await database.stop()
    assert await version(empty_url) == SCHEMA.head


async def test_a_newer_database_is_refused_and_not_touched(empty_url: str, later: Schema) -> None:
    await (await opened(empty_url, later)).stop()
    before = await run(empty_url, described)
    with pytest.raises(RecordsUnusable, match=f"version 9001, and this crmd knows versions up to {SCHEMA.head}"):
        await opened(empty_url)
    assert await run(empty_url, described) == before


async def test_a_migration_that_fails_changes_nothing_and_says_why(empty_url: str, later: Schema) -> None:
    await (await opened(empty_url)).stop()
    broken = later.migrations / "versions" / "9001_later.py"
    broken.write_text(broken.read_text().replace("SET nickname = name", "SET nickname = no_such_column"))
    before = await run(empty_url, described)
    with pytest.raises(RecordsUnusable, match=r"could not be migrated: .*no_such_column"):
        await opened(empty_url, later)
    assert await run(empty_url, described) == before
    assert await version(empty_url) == SCHEMA.head


async def test_tables_of_another_program_are_refused_and_not_touched(empty_url: str) -> None:
    await run(
        empty_url, lambda connection: connection.execute(text("CREATE TABLE contacts (own INTEGER)")).close()
    )
    with pytest.raises(RecordsUnusable, match="table contacts already exists; give crmd"):
        await opened(empty_url)
    assert set(await run(empty_url, described)) == {"contacts"}


@pytest.mark.faults
async def test_a_migration_leaves_no_library_behind(tmp_path: Path, later: Schema) -> None:
    """Seen in a process of its own: this one has imported them."""
    url = f"sqlite:///{tmp_path}/own.sqlite"
    await (await opened(url)).stop()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OPENER, url, str(later.migrations)), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert said == b"False\n"
    assert await version(url) == "9001"


async def test_a_schema_of_its_own_in_a_shared_database(postgres: Postgres) -> None:
    name = postgres.new_database()
    postgres.sql("CREATE TABLE contacts (own INTEGER)", name)
    postgres.sql("CREATE SCHEMA crm", name)
    database = await opened(postgres.url(name) + "&options=-csearch_path%3Dcrm&application_name=crm")
    async with database.transaction() as session:
        assert (await session.execute(text("SELECT count(*) FROM crm.contacts"))).scalar() == 0
        assert (await session.execute(text("SHOW application_name"))).scalar() == "crm"
    await database.stop()
    postgres.drop(name)
