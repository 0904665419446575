"""Fixtures for all tests."""

from tests.support.embedded import state_folder, stores
from tests.support.postgres import postgres
from tests.support.records import backend, empty_url, records, records_url
from tests.support.store import own_store, redis, store_binary, store_server, store_url

__all__ = [
    "backend",
    "empty_url",
    "own_store",
    "postgres",
    "records",
    "records_url",
    "redis",
    "state_folder",
    "store_binary",
    "store_server",
    "store_url",
    "stores",
]
