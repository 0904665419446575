"""What the embedded server acknowledged survives its kill, and is made durable once a second."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import sys
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from crmd.embedded.aof import AofSync
from tests.support.embedded import Stores
from tests.support.wait import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

WRITTEN_SECONDS = 1.3
"""Over the second after which the server's own `everysec` would begin to sync, and to put its writes off."""
CHUNK = os.urandom(1 << 20)
FSYNC_CALLS = ("74 ", "75 ") if platform.machine() == "x86_64" else ("82 ", "83 ")
"""fsync and fdatasync, as /proc shows them."""


def syncs(pid: int) -> bool:
    """Whether a thread of the process is in a sync now."""
    calls = Path(f"/proc/{pid}/task").glob("*/syscall")
    return any(call.read_text().startswith(FSYNC_CALLS) for call in calls)


async def test_what_was_acknowledged_while_a_sync_ran_survives_a_kill(stores: Stores) -> None:
    store = stores.make()
    async with Redis.from_url(await store.start()) as client:
        pid = store.pid
        assert pid
        await client.config_set("auto-aof-rewrite-percentage", 0)  # which syncs as well
        ends_at = time.monotonic() + WRITTEN_SECONDS
        while time.monotonic() < ends_at and not syncs(pid):
            await client.set("chunk", CHUNK)
        for number in range(1, 6):
            await client.set("acked", number)
        os.kill(pid, signal.SIGKILL)
    await wait_until(lambda: store.restarts == 1, 10)
    async with Redis.from_url(store.url) as client:
        assert await client.get("acked") == b"5"


async def test_only_what_changed_is_synced(stores: Stores) -> None:
    store = stores.make()
    async with Redis.from_url(await store.start()) as client:
        sync = AofSync(stores.files.data)
        await client.set("a", "x")
        assert sync.run_once() == 1
        assert sync.run_once() == 0
        await client.set("b", "x")
        assert sync.run_once() == 1


async def test_the_files_are_synced_while_the_store_runs(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def note(file: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{file}"))
        fsync(file)

    monkeypatch.setattr(os, "fsync", note)
    store = stores.make()
    async with Redis.from_url(await store.start()) as client:
        await client.set("a", "x")
        await wait_until(lambda: any(name.endswith(".incr.aof") for name in synced), 3)
    await store.stop()
    count = len(synced)
    await asyncio.sleep(0)
    assert len(synced) == count
