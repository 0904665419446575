"""A real HTTP server over a real store and real workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from crmd.crm.database.database import Records
from crmd.crm.files.store import FileStore
from tests.support.http import Site, site


@pytest.fixture
async def web(store_url: str) -> AsyncIterator[Site]:
    """A running server, no worker."""
    async with site(store_url) as made:
        yield made


@pytest.fixture
async def crm(store_url: str, tmp_path: Path) -> AsyncIterator[Site]:
    """A running server with records and files."""
    records = Records("", folder=tmp_path)
    files = FileStore(records, tmp_path / "files", 1_000_000, 3600.0)
    await records.start()
    await files.start()
    async with site(store_url, records=records, files=files) as made:
        yield made
    await files.stop()
    await records.stop()


@pytest.fixture
def ok() -> dict[str, Any]:
    """A job that every test queue knows."""
    return {"job": "greet", "payload": {"name": "Ada"}}
