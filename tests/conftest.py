"""Fixtures for all tests."""

from hypothesis import HealthCheck, settings

from tests.support.database import backend, database, database_url, empty_url
from tests.support.embedded import state_folder, stores
from tests.support.engine_harness import engine
from tests.support.postgres import postgres
from tests.support.stepped_store import stepped_store
from tests.support.store import own_store, redis, store, store_binary, store_server, store_url

__all__ = [
    "backend",
    "database",
    "database_url",
    "empty_url",
    "engine",
    "own_store",
    "postgres",
    "redis",
    "state_folder",
    "stepped_store",
    "store",
    "store_binary",
    "store_server",
    "store_url",
    "stores",
]

# How long an example takes says something of the machine, which may do other things meanwhile.
settings.register_profile("crmd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("crmd")
