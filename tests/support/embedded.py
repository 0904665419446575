"""Embedded stores for tests: in short folders, all ended afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from crmd.embedded.server import EmbeddedStore
from crmd.embedded.server_config import StoreFiles, server_config
from crmd.embedded.state_folder import StateDir


class Stores:
    """Makes embedded stores in one state folder, and ends them."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self.folder = folder
        self.files = StoreFiles(folder)
        self.binary = binary
        self.events: list[tuple[str, Mapping[str, Any]]] = []
        self._made: list[tuple[StateDir, EmbeddedStore]] = []

    def make(self, **options: Any) -> EmbeddedStore:
        """An embedded store on the folder, which it locks; the one made before has to be stopped."""
        for state, _ in self._made:
            state.release()
        state = StateDir(self.folder)
        state.lock()
        store = EmbeddedStore(state, emit=self._note, **{"binary": self.binary, **options})
        self._made.append((state, store))
        return store

    async def start(self, **options: Any) -> EmbeddedStore:
        """As `make`, and it serves."""
        store = self.make(**options)
        await store.start()
        return store

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server of the store made last."""
        pid = self._made[-1][1].pid
        assert pid is not None
        os.kill(pid, number)

    def names(self) -> list[str]:
        """Names of the events so far."""
        return [name for name, _ in self.events]

    async def close(self) -> None:
        """Ends all."""
        for state, store in self._made:
            await store.stop()
            state.release()

    def _note(self, name: str, **fields: Any) -> None:
        self.events.append((name, fields))


@pytest.fixture
def state_folder() -> Iterator[Path]:
    """A path for a state folder that is short enough for a socket in it; the folder is not there yet."""
    parent = Path(tempfile.mkdtemp(prefix="crmd-test-"))
    try:
        yield parent / "state"
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@pytest.fixture
async def stores(state_folder: Path, store_binary: Path) -> AsyncIterator[Stores]:
    """Makes embedded stores in the state folder."""
    made = Stores(state_folder, store_binary)
    try:
        yield made
    finally:
        await made.close()
    left = servers_in(state_folder)
    assert not left, f"server processes are left: {left}"


def start_bare_server(binary: Path, files: StoreFiles) -> subprocess.Popen[bytes]:
    """A server on the folder as a killed daemon leaves it where the kernel does not end it."""
    files.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.folder.chmod(0o700)
    command = [str(binary), "-"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    assert server.stdin is not None
    server.stdin.write(server_config(files, fsync="everysec", listen=None, password=None).encode())
    server.stdin.close()
    return server


def servers_in(folder: Path) -> list[int]:
    """Processes that work in a folder, on Linux."""
    if sys.platform != "linux":
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                works_in = Path(os.readlink(entry / "cwd"))
            except OSError:
                continue
            if works_in.is_relative_to(folder):
                found.append(int(entry.name))
    return found


async def put(url: str, values: Mapping[str, str]) -> None:
    """Sets values, one command each."""
    async with Redis.from_url(url) as client:
        for name, value in values.items():
            await client.set(name, value)


async def names_in(url: str) -> set[str]:
    """All keys of a store."""
    async with Redis.from_url(url, decode_responses=True) as client:
        return {name async for name in client.scan_iter(count=1000)}


async def serves(url: str) -> bool:
    """Whether a store answers now."""
    try:
        async with Redis.from_url(url) as client:
            return bool(await client.dbsize() >= 0)
    except OSError:
        return False
