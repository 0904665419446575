"""Waiting for a condition, in place of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any

POLL_SECONDS = 0.01
BUSY = 5
"""Tests say how long they would wait on a machine at rest. A busy one gets so many times as long."""
HANG_S = 10.0
"""What waits for nothing is over by then on a busy machine too; what waits for a lease, or for ever, is not."""


async def wait_until(predicate: Callable[[], Any], timeout: float = 5.0, what: str = "") -> Any:
    """The first true value of a predicate, sync or async; fails with `what` after `timeout` x `BUSY` seconds."""
    ends_at = time.monotonic() + timeout * BUSY
    while True:
        value = predicate()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        if time.monotonic() >= ends_at:
            raise AssertionError(f"not within {timeout * BUSY} s: {what or inspect.getsource(predicate).strip()}")
        await asyncio.sleep(POLL_SECONDS)


async def cancel_once(predicate: Callable[[], Any], running: Coroutine[Any, Any, object]) -> None:
    """Runs it until the predicate is true, cancels it, and sees that it ends by that."""
    task = asyncio.create_task(running)
    await wait_until(predicate)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled(), f"it ended before: {task}"


def wait_until_sync(predicate: Callable[[], Any], timeout: float = 5.0, what: str = "") -> Any:
    """As `wait_until`, for tests and fixtures without an event loop."""
    ends_at = time.monotonic() + timeout * BUSY
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= ends_at:
            raise AssertionError(f"not within {timeout * BUSY} s: {what or inspect.getsource(predicate).strip()}")
        time.sleep(POLL_SECONDS)
