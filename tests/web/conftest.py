"""A real HTTP server over a real store and real workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.http import Site, site


@pytest.fixture
async def web(store_url: str) -> AsyncIterator[Site]:
    """A running server, no worker."""
    async with site(store_url) as made:
        yield made


@pytest.fixture
def ok() -> dict[str, Any]:
    """A job that every test queue knows."""
    return {"job": "greet", "payload": {"name": "Ada"}}
