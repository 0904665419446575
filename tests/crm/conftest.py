"""Real local servers for the handlers, and clients that speak to them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.database.database import Database
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.outbound.http import HttpClient
from crmd.crm.schema import SCHEMA
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.whatsapp.client import WhatsAppClient
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.flows import QUEUES, FlowBench
from tests.support.http import crm, ok, web
from tests.support.services import NUMBER_ID, SECRET, TOKEN, VERSION, Receiver, WhatsAppServer
from tests.support.started import started
from tests.support.transfers import Office, open_office, transfer_harness

__all__ = ["crm", "ok", "web"]


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with started(HttpClient()) as client:
        yield client


@pytest.fixture
async def server() -> AsyncIterator[WhatsAppServer]:
    async with started(WhatsAppServer()) as server:
        yield server


@pytest.fixture
def whatsapp(http: HttpClient, server: WhatsAppServer) -> WhatsAppClient:
    return WhatsAppClient(
        http, base_url=server.url, api_version=VERSION, phone_number_id=NUMBER_ID, token=SecretStr(TOKEN)
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with started(Receiver()) as receiver:
        yield receiver


@pytest.fixture
async def webhooks() -> AsyncIterator[WebhookClient]:
    async with started(WebhookClient(secret=SecretStr(SECRET), allow_private=["127.0.0.1/32"])) as client:
        yield client


@pytest.fixture(scope="session")
def records_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and nothing in them: copying it takes a fraction of making it."""
    folder = tmp_path_factory.mktemp("database")

    async def make() -> Path:
        async with started(Database("", SCHEMA, folder=folder)) as database:
            assert database.address.path
            return database.address.path

    return asyncio.run(make())


@pytest.fixture
async def sqlite_database(records_file: Path, tmp_path: Path) -> AsyncIterator[Database]:
    """An open database, for handlers to which its kind makes no difference."""
    shutil.copy(records_file, tmp_path)
    async with started(Database("", SCHEMA, folder=tmp_path)) as database:
        yield database


@pytest.fixture
def repository(sqlite_database: Database) -> MessageRepository:
    return MessageRepository(sqlite_database, CampaignGate())


@pytest.fixture
async def bench(
    store_url: str, sqlite_database: Database, whatsapp: WhatsAppClient, server: WhatsAppServer
) -> AsyncIterator[FlowBench]:
    async with engine_harness(store_url, *QUEUES) as made:
        flow_bench = FlowBench(made, sqlite_database, whatsapp, server)
        yield flow_bench
        await flow_bench.close()


@pytest.fixture
async def office(sqlite_database: Database, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(sqlite_database, tmp_path) as made:
        yield made


@pytest.fixture
async def harness(store_url: str, office: Office) -> AsyncIterator[EngineHarness]:
    """Queues `import` and `export`, which the office's daemons run."""
    async with transfer_harness(store_url) as made:
        yield made
