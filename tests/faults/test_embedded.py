"""The embedded store under kills and on a full disk."""

from __future__ import annotations

import asyncio
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from crmd.embedded.aof import newest_file
from crmd.embedded.server import EmbeddedStore
from tests.faults.small_disk import fill, mounted
from tests.support.embedded import Stores, names_in, put, servers_in, serves
from tests.support.wait import wait_until

pytestmark = pytest.mark.faults

DISK_BYTES = 24 * 1024 * 1024

DAEMON = """
import asyncio, sys
from pathlib import Path
from redis.asyncio import Redis
from crmd.embedded.server import EmbeddedStore
from crmd.embedded.state_folder import StateDir

async def main():
    state = StateDir(Path(sys.argv[1]))
    state.lock()
    store = EmbeddedStore(state, binary=Path(sys.argv[2]))
    async with Redis.from_url(await store.start()) as client:
        while True:
            print(await client.incr("acked"), flush=True)

asyncio.run(main())
"""


async def write_until_stopped(url: str, name: str, stopped: asyncio.Event) -> int:
    """Adds numbered keys as fast as it can; returns how many were acknowledged."""
    acked = 0
    async with Redis.from_url(url) as client:
        while not stopped.is_set():
            try:
                await client.set(f"{name}:{acked}", "x")
                acked += 1
            except (RedisError, OSError):
                await asyncio.sleep(0.01)
    return acked


async def test_the_server_killed_twenty_times_loses_nothing(stores: Stores) -> None:
    store = await stores.start()
    stopped = asyncio.Event()
    writers = [asyncio.create_task(write_until_stopped(store.url, f"w{number}", stopped)) for number in range(4)]
    for kills in range(1, 21):
        await asyncio.sleep(random.uniform(0.0, 0.4))
        stores.signal(signal.SIGKILL)
        began = time.monotonic()
        await wait_until(lambda: store.restarts == kills, 2.0)  # noqa: B023
        assert await serves(store.url)
        assert time.monotonic() - began < 2.0
    stopped.set()
    acked = await asyncio.gather(*writers)
    expected = {f"w{writer}:{number}" for writer, count in enumerate(acked) for number in range(count)}
    assert expected <= await names_in(store.url)


async def test_the_daemon_killed_at_random_loses_nothing(stores: Stores) -> None:
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    generator = random.Random(seed)
    acked = 0
    for _ in range(20):
        command = [sys.executable, "-c", DAEMON, str(stores.folder), str(stores.binary)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
            await asyncio.sleep(generator.uniform(0.1, 0.8))
            daemon.kill()
            assert daemon.stdout is not None
            lines = daemon.stdout.read().split("\n")[:-1]
            acked = int(lines[-1]) if lines else acked
    began = time.monotonic()
    async with Redis.from_url(await stores.make().start()) as client:
        assert time.monotonic() - began < 3.0
        assert int(await client.get("acked") or 0) >= acked
    assert len(servers_in(stores.folder)) == 1


async def test_a_file_cut_at_fifty_places_loses_only_its_tail(stores: Stores) -> None:
    store = stores.make()
    async with Redis.from_url(await store.start()) as client:
        for number in range(200):
            async with client.pipeline(transaction=True) as pipe:
                pipe.set(f"a{number}", "x" * number)
                pipe.set(f"b{number}", "y")
                await pipe.execute()
    await store.stop()
    path = newest_file(stores.files.data)
    assert path is not None
    content = path.read_bytes()
    for cut in random.sample(range(len(content)), 50):
        path.write_bytes(content[:cut])
        store = stores.make()
        names = await names_in(await store.start())
        count = len(names) // 2
        assert names == {f"{letter}{number}" for letter in "ab" for number in range(count)}
        assert count == content[:cut].count(b"\r\nEXEC\r\n")
        await store.stop()


@pytest.fixture
def small_disk(state_folder: Path) -> Iterator[Path]:
    """The state folder on a small disk of its own."""
    state_folder.mkdir(mode=0o700)
    with mounted(state_folder, DISK_BYTES):
        yield state_folder


async def write_until_refused(url: str) -> set[str]:
    """Writes until the store refuses or ends; returns the keys that were acknowledged."""
    acked = set()
    async with Redis.from_url(url) as client:
        for number in range(100_000):
            try:
                await client.set(f"key{number}", "x" * 500)
            except (RedisError, OSError):
                break
            acked.add(f"key{number}")
    return acked


async def test_a_disk_that_fills_up_and_is_freed(small_disk: Path, stores: Stores) -> None:
    store = await stores.start()
    await put(store.url, {"before": "x"})
    filler = fill(small_disk)
    acked = await write_until_refused(store.url)
    pid = store.pid
    assert pid is not None
    filler.unlink()
    await wait_until(lambda: writable(store.url), 2.0)
    assert store.pid == pid
    assert store.restarts == 0
    await store.stop()
    assert {"before", "after", *acked} <= await names_in(await stores.make().start())


async def test_a_disk_that_fills_up_under_fsync_always(small_disk: Path, stores: Stores) -> None:
    store = await stores.start(fsync="always")
    await put(store.url, {"before": "x"})
    filler = fill(small_disk)
    acked = await write_until_refused(store.url)
    await wait_until(lambda: "disk of the store's folder" in (store.last_error or ""))
    await asyncio.sleep(3)  # what must not happen in this time is a restart loop
    assert store.restarts <= 1
    assert stores.names().count("store.restart_failed") <= 2
    filler.unlink()
    await wait_until(lambda: writable(store.url), 2.0)
    assert {"before", "after", *acked} <= await names_in(store.url)


async def test_a_start_on_a_full_disk_waits_for_room(small_disk: Path, stores: Stores) -> None:
    store: EmbeddedStore = stores.make()
    await put(await store.start(), {"before": "x"})
    await store.stop()
    filler = fill(small_disk)
    store = stores.make()
    starting = asyncio.create_task(store.start())
    await wait_until(lambda: re.search(r"disk of the store's folder .* is full", store.last_error or ""))
    assert not starting.done()
    filler.unlink()
    assert await names_in(await asyncio.wait_for(starting, 5)) == {"before"}
    assert store.last_error is None


async def writable(url: str) -> bool:
    """Whether the store takes a write now."""
    try:
        await put(url, {"after": "x"})
    except (RedisError, OSError):
        return False
    return True
