"""The database, for commands that use it without a daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from crmd.cli.kit.base import Globals
from crmd.cli.kit.session import load_settings
from crmd.errors import RecordsUnavailable

if TYPE_CHECKING:
    from crmd.crm.database.database import Database


@asynccontextmanager
async def opened_database(options: Globals) -> AsyncIterator[Database]:
    """The database that the configuration names, open; raises RecordsUnavailable where it was never made."""
    from crmd.crm.database.database import Database
    from crmd.crm.schema import SCHEMA

    settings = load_settings(options).settings
    url = settings.database.url.get_secret_value()
    database = Database(url, SCHEMA, folder=settings.daemon.state_dir, connections=1)
    path = database.address.path
    if path is not None and not path.exists():
        raise RecordsUnavailable(
            f"there are no records yet: {path} does not exist; start the daemon with `crmd run`, or say where its "
            "state is with --state-dir"
        )
    await database.start()
    try:
        yield database
    finally:
        await database.stop()
