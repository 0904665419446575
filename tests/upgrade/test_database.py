"""The databases of 0.1.0 under today's tables: nothing is lost, and daemons of 0.1.0 may go on writing to them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from crmd.crm.campaigns import recipients
from crmd.crm.campaigns.recipients import once_of
from crmd.crm.campaigns.tables import Campaign, CampaignRecipient
from crmd.crm.database.address import Address
from crmd.crm.database.database import Database
from crmd.crm.database.engine import create_engine
from crmd.crm.database.migrate import VERSION_TABLE, upgrade
from crmd.crm.messages.tables import Message
from crmd.crm.schema import SCHEMA
from tests.support.postgres import Postgres
from tests.support.started import started
from tests.upgrade import left_behind

Contents = dict[str, list[dict[str, Any]]]

ADD_AS_0_1_0 = text(
    "INSERT INTO messages (direction, phone, campaign_id, once, job_key, job_enqueued_at, type, status, status_at,"
    " created_at) VALUES ('out', :phone, :campaign, :once, :once, 1, 'text', 'sending', 1, 1) RETURNING id"
)


@pytest.fixture(params=left_behind.NAMES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database that 0.1.0 left with a campaign half-way: SQLite, and PostgreSQL."""
    left_behind.unpack(request.param, tmp_path)
    if request.param == "embedded":
        yield f"sqlite:///{tmp_path}/state/records.sqlite"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    name = postgres.new_database()
    postgres.load(tmp_path / "records.sql", name)
    yield postgres.url(name)
    postgres.drop(name)


@pytest.fixture
async def before(url: str) -> Contents:
    """What is in it before it is migrated."""
    return await contents(url)


@pytest.fixture
async def database(url: str, before: Contents) -> AsyncIterator[Database]:
    """The same database, migrated."""
    async with started(Database(url, SCHEMA, folder=Path())) as made:
        yield made


async def contents(url: str) -> Contents:
    """The rows of all tables."""
    engine = create_engine(Address.parse(url, Path()), 1)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_contents)
    finally:
        await engine.dispose()


def _contents(connection: Connection) -> Contents:
    names = set(inspect(connection).get_table_names()) - {VERSION_TABLE}
    found = {name: connection.execute(text(f"SELECT * FROM {name}")).mappings() for name in names}  # noqa: S608
    return {name: [dict(row) for row in rows] for name, rows in found.items()}


async def recipient_of(database: Database, message_id: int) -> int | None:
    async with database.reading() as s:
        return (await s.get_one(Message, message_id)).recipient_id


async def queued(database: Database) -> CampaignRecipient:
    """A recipient without a message."""
    async with database.reading() as s:
        named = select(Message.recipient_id).where(Message.recipient_id.is_not(None))
        query = select(CampaignRecipient).where(CampaignRecipient.id.not_in(named))
        return (await s.scalars(query.order_by(CampaignRecipient.id).limit(1))).one()


async def test_all_that_was_in_it_is_there(url: str, before: Contents, database: Database) -> None:
    after = await contents(url)
    assert before["messages"], "there is something to lose"
    for name, rows in before.items():
        kept = [{column: row[column] for column in rows[0]} for row in after[name]] if rows else []
        assert sorted(map(str, kept)) == sorted(map(str, rows)), name


async def test_each_message_of_the_campaign_names_its_recipient(database: Database) -> None:
    async with database.reading() as s:
        [campaign] = (await s.scalars(select(Campaign))).all()
        messages = (await s.scalars(select(Message).where(Message.campaign_id == campaign.id))).all()
        unsent = await recipients.unsent(s, campaign.id, 0, 100)
        sent = await recipients.send_progress(s, campaign.id)
        rows = (await s.scalars(select(CampaignRecipient))).all()
        others = (await s.scalars(select(Message).where(Message.campaign_id.is_(None)))).all()
    named = [message.recipient_id for message in messages]
    phones = {row.id: row.phone for row in rows}
    assert named
    for message in messages:
        assert message.once == once_of(campaign.id, message.recipient_id or 0)
        assert message.phone == phones[message.recipient_id or 0]
    assert not set(unsent) & set(named)
    assert sent.recipient_id == max(number for number in named if number)
    assert not [message for message in others if message.recipient_id]


async def test_recipients_are_filled_in_a_few_at_a_time(url: str) -> None:
    """So that what older daemons write meanwhile waits for a moment only; what was filled stays where it ends."""

    def filled(connection: Connection) -> int:
        return int(connection.scalar(text("SELECT count(recipient_id) FROM messages")) or 0)

    def after_each_batch(connection: Connection) -> list[int]:
        upgrade(connection, to="0004")
        module: Any = scripts.get_revision("0005").module
        counts, last, module.BATCH = [filled(connection)], 0, 3
        while last is not None:
            last = module.prepare(connection, last)
            counts.append(filled(connection))
        upgrade(connection)
        return [*counts, filled(connection)]

    config = Config()
    config.set_main_option("script_location", str(SCHEMA.migrations))
    scripts = ScriptDirectory.from_config(config)
    engine = create_engine(Address.parse(url, Path()), 1)
    try:
        async with engine.begin() as connection:
            counts = await connection.run_sync(after_each_batch)
    finally:
        await engine.dispose()
    assert counts[0] == 0
    assert counts[-1] == counts[-2] > 3
    assert all(later - earlier <= 3 for earlier, later in itertools.pairwise(counts))


async def test_how_far_the_campaign_was_is_known(before: Contents, database: Database) -> None:
    async with database.reading() as s:
        [campaign] = (await s.scalars(select(Campaign))).all()
    assert campaign.progress.audience > 0
    assert not campaign.progress.others
    async with database.transaction() as s:
        [campaign] = (await s.scalars(select(Campaign))).all()
        campaign.progress = campaign.progress.next_round()
    async with database.reading() as s:
        kept = (await s.execute(text("SELECT cursor FROM campaigns"))).scalar_one()
    assert '"round"' in str(kept).replace("'", '"')


async def test_what_a_daemon_of_0_1_0_adds_names_its_recipient(database: Database) -> None:
    recipient = await queued(database)
    phone, campaign_id, word = recipient.phone, recipient.campaign_id, once_of(recipient.campaign_id, recipient.id)
    new = {
        "its own": (phone, campaign_id, word),
        "another number": ("+4917", campaign_id, f"{word}0"),
        "another word": (phone, campaign_id, "mine"),
        "no campaign": (phone, None, "mine too"),
    }
    made = {}
    async with database.transaction() as s:
        for name, (its_phone, its_campaign, once) in new.items():
            values = {"phone": its_phone, "campaign": its_campaign, "once": once}
            made[name] = (await s.execute(ADD_AS_0_1_0, values)).scalar_one()
    named = {name: await recipient_of(database, message_id) for name, message_id in made.items()}
    assert named == {"its own": recipient.id, "another number": None, "another word": None, "no campaign": None}


async def test_a_recipient_that_is_deleted_leaves_its_message(database: Database) -> None:
    async with database.reading() as s:
        query = select(Message.id, Message.recipient_id).where(Message.recipient_id.is_not(None)).limit(1)
        message_id, recipient_id = (await s.execute(query)).one()
    async with database.transaction() as s:
        await s.execute(text("DELETE FROM campaign_recipients WHERE id = :id"), {"id": recipient_id})
    assert await recipient_of(database, message_id) is None
