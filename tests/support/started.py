"""Starts and stops what a test uses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar


class Startable(Protocol):
    """A client, a server, a database."""

    async def start(self) -> None:
        """Starts it."""

    async def stop(self) -> None:
        """Stops it."""


S = TypeVar("S", bound=Startable)


@asynccontextmanager
async def started(part: S) -> AsyncIterator[S]:
    """Runs it as long as the block does."""
    await part.start()
    try:
        yield part
    finally:
        await part.stop()
