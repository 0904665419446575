"""Fixtures for all tests."""

from tests.support.embedded import state_folder, stores
from tests.support.store import own_store, redis, store_binary, store_server, store_url

__all__ = ["own_store", "redis", "state_folder", "store_binary", "store_server", "store_url", "stores"]
