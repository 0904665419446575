"""Waits until a server that was just started has loaded its data and serves."""

from __future__ import annotations

import asyncio
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from crmd.errors import StateDirTaken, StoreUnavailable

ANSWER_SECONDS = 1.0
FIRST_POLL_SECONDS = 0.003
LAST_POLL_SECONDS = 0.1
REPORT_EVERY_SECONDS = 2.0
# Loading may take long; standing still may not.
STANDSTILL_SECONDS = 60.0


async def wait_ready(process: Process, path: Path, password: str | None, emit: Callable[..., None]) -> bool:
    """True when the process serves on that unix socket, False when it ended first.

    Emits store.loading(percent, eta_seconds). Raises StoreUnavailable after a minute without progress, and
    StateDirTaken when another process answers.
    """
    client = Redis(
        unix_socket_path=str(path),
        password=password,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )
    ended = asyncio.create_task(process.wait())
    progress = _Progress(emit)
    delay = FIRST_POLL_SECONDS
    try:
        while not ended.done():
            info = await _ask(client)
            if _is_ready(info, process.pid):
                return True
            progress.note(info)
            await asyncio.wait([ended], timeout=delay)
            delay = min(delay * 1.5, LAST_POLL_SECONDS)
        return False
    finally:
        ended.cancel()
        await client.aclose()


async def _ask(client: Redis) -> dict[str, Any]:
    """What the server says of itself; nothing while it does not answer."""
    try:
        return dict(await client.info("server", "persistence"))
    except (RedisError, OSError):
        return {}


def _is_ready(info: dict[str, Any], pid: int) -> bool:
    if info and int(info["process_id"]) != pid:
        raise StateDirTaken(
            f"the store's socket is served by process {info['process_id']}, not by the one just started; stop it"
        )
    return bool(info) and not int(info["loading"])


class _Progress:
    """Whether loading moves on, and when to say so again."""

    def __init__(self, emit: Callable[..., None]) -> None:
        self._emit = emit
        self._loaded_bytes = -1
        self._moved_at = self._reported_at = time.monotonic()

    def note(self, info: dict[str, Any]) -> None:
        now = time.monotonic()
        loaded_bytes = int(info.get("loading_loaded_bytes", self._loaded_bytes))
        if loaded_bytes != self._loaded_bytes:
            self._loaded_bytes, self._moved_at = loaded_bytes, now
        if now - self._moved_at > STANDSTILL_SECONDS:
            raise StoreUnavailable(
                f"the store's server has made no progress for {STANDSTILL_SECONDS:.0f} s while starting; "
                "its disk may hang: look at store.log in the state folder"
            )
        if info and now - self._reported_at >= REPORT_EVERY_SECONDS:
            self._reported_at = now
            percent, eta = info.get("loading_loaded_perc", 0), info.get("loading_eta_seconds", 0)
            self._emit("store.loading", percent=float(percent), eta_seconds=float(eta))
