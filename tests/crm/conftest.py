"""Real local servers for the handlers, and clients that speak to them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from crmd.crm.database.database import Records
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.outbound.http import HttpClient
from crmd.crm.schema import SCHEMA
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.whatsapp.client import WhatsAppClient
from tests.support.fleet import rig
from tests.support.flows import QUEUES, FlowBench
from tests.support.http import crm, ok, web
from tests.support.receiver import SECRET, Receiver
from tests.support.whatsapp_server import NUMBER_ID, TOKEN, VERSION, WhatsAppServer

__all__ = ["crm", "ok", "web"]


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    await client.start()
    yield client
    await client.stop()


@pytest.fixture
async def server() -> AsyncIterator[WhatsAppServer]:
    server = WhatsAppServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def whatsapp(http: HttpClient, server: WhatsAppServer) -> WhatsAppClient:
    return WhatsAppClient(
        http, base_url=server.url, api_version=VERSION, phone_number_id=NUMBER_ID, token=SecretStr(TOKEN)
    )


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@pytest.fixture
async def webhooks() -> AsyncIterator[WebhookClient]:
    client = WebhookClient(secret=SecretStr(SECRET), allow_private=["127.0.0.1/32"])
    await client.start()
    yield client
    await client.stop()


@pytest.fixture(scope="session")
def records_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with all tables and nothing in them: copying it takes a fraction of making it."""
    folder = tmp_path_factory.mktemp("records")

    async def make() -> Path:
        records = Records("", SCHEMA, folder=folder)
        await records.start()
        await records.stop()
        assert records.address.path
        return records.address.path

    return asyncio.run(make())


@pytest.fixture
async def sqlite_records(records_file: Path, tmp_path: Path) -> AsyncIterator[Records]:
    """Open records, for handlers to which the database makes no difference."""
    shutil.copy(records_file, tmp_path)
    records = Records("", SCHEMA, folder=tmp_path)
    await records.start()
    yield records
    await records.stop()


@pytest.fixture
def repository(sqlite_records: Records) -> MessageRepository:
    return MessageRepository(sqlite_records)


@pytest.fixture
async def bench(
    store_url: str, sqlite_records: Records, whatsapp: WhatsAppClient, server: WhatsAppServer
) -> AsyncIterator[FlowBench]:
    async with rig(store_url, *QUEUES) as made:
        flow_bench = FlowBench(made, sqlite_records, whatsapp, server)
        yield flow_bench
        await flow_bench.close()
