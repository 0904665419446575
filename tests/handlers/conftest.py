"""Real local servers for the handlers, and clients that speak to them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from crmd.clients.http import HttpClient
from crmd.clients.webhooks import WebhookClient
from crmd.clients.whatsapp import WhatsAppClient
from tests.support.receiver import SECRET, Receiver
from tests.support.whatsapp_server import NUMBER_ID, TOKEN, VERSION, WhatsAppServer


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
