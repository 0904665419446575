"""Repeats a request that may be repeated, when its answer does not come."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from crmd.engine.admin.requests import MAX_JOBS
from crmd.engine.admin.views import NewJob
from crmd.errors import StoreUnavailable

T = TypeVar("T")

PAUSES_S = (0.2, 1.0, 2.0)
"""Before each repeat: a daemon that is restarted is back in about two seconds."""
LONGEST_S = 30.0
"""After this nothing is repeated: three times as long as one try over HTTP may take."""


async def repeated(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` returns, called again if nothing answered; raises the last StoreUnavailable."""
    began = time.monotonic()
    for pause in PAUSES_S:
        try:
            return await ask()
        except StoreUnavailable:
            if time.monotonic() - began + pause > LONGEST_S:
                raise
        await asyncio.sleep(pause)
    return await ask()


def in_parts(jobs: Sequence[NewJob], key: str) -> Iterator[tuple[list[NewJob], str]]:
    """As many jobs as one request takes, each time with a key that follows from the whole's."""
    for number, start in enumerate(range(0, len(jobs), MAX_JOBS)):
        part = hashlib.sha256(f"{key}\n{number}".encode()).hexdigest() if number else key
        yield list(jobs[start : start + MAX_JOBS]), part
