"""Real Valkey servers for tests: one for each test process, and one of its own for a test that breaks it.

`CRMD_TEST_SERVER=redis-server` (a name in PATH, or a path) runs the tests on another server.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from typing import Self

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from crmd.embedded import launcher
from crmd.embedded.binary import find_server
from crmd.engine.store.client import Store, StoreTarget
from crmd.telemetry.events import Events
from tests.support.started import started
from tests.support.wait import wait_until_sync

START_SECONDS = 10.0


class StoreServer:
    """A server process on a unix socket in a short folder of its own."""

    def __init__(
        self, binary: Path, *, persistent: bool, settings: str = "", environ: Mapping[str, str] | None = None
    ) -> None:
        self._binary = binary
        self._environ = {**os.environ, **(environ or {})}
        self._persistent = persistent
        self._settings = settings
        # Not pytest's tmp_path: a unix socket's path may have 107 bytes only.
        self.folder = Path(tempfile.mkdtemp(prefix="crmd-test-"))
        self.socket = self.folder / "s"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the server, with its old data if it is persistent, and waits until it serves."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*_dies_with_parent(), str(self._binary), "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environ,
            )
        assert self.process.stdin is not None
        self.process.stdin.write(self._config().encode())
        self.process.stdin.close()
        wait_until_sync(self.answers, START_SECONDS, f"the test server serves; see {self.folder}/log")

    def stop(self) -> None:
        """Ends the server with everything written; does nothing when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Kills the server and starts it again."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """SIGSTOP: the server keeps its connections and says nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile the server says nothing."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def flush(self) -> None:
        """Deletes every key."""
        with self.client() as client:
            client.flushall()

    def answers(self) -> bool:
        """Whether the server serves."""
        assert self.process is not None
        assert self.process.poll() is None, f"the test server ended; see {self.folder}/log"
        try:
            with self.client() as client:
                return bool(client.ping())
        except RedisError:
            return False

    def client(self) -> SyncRedis:
        """A blocking client, for fixtures and tests without an event loop."""
        return SyncRedis(unix_socket_path=str(self.socket), socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def close(self) -> None:
        """Ends the server and deletes its folder."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(START_SECONDS)

    def _config(self) -> str:
        persistence = "appendonly yes\nappendfsync everysec\n" if self._persistent else "appendonly no\n"
        own = f'port 0\nunixsocket {self.socket}\ndir {self.folder}\nsave ""\n'
        return own + persistence + self._settings


@pytest.fixture(scope="session")
def store_binary() -> Path:
    """The server program that the tests run on."""
    name = os.environ.get("CRMD_TEST_SERVER")
    if not name:
        return find_server().path
    found = shutil.which(name)
    assert found, f"CRMD_TEST_SERVER: {name} is not in PATH"
    return find_server(Path(found)).path


@pytest.fixture(scope="session")
def store_server(store_binary: Path) -> Iterator[StoreServer]:
    """The test process's server, without persistence. Tests that break a server take `own_store`."""
    with StoreServer(store_binary, persistent=False) as server:
        yield server


@pytest.fixture
def store_url(store_server: StoreServer) -> str:
    """The URL of an empty store."""
    store_server.flush()
    return store_server.url


@pytest.fixture
async def redis(store_url: str) -> AsyncIterator[Redis]:
    """A plain client of an empty store."""
    async with Redis.from_url(store_url) as client:
        yield client


@pytest.fixture
def own_store(store_binary: Path) -> Iterator[StoreServer]:
    """A persistent server for one test, which may kill, pause and restart it."""
    with StoreServer(store_binary, persistent=True) as server:
        yield server


def open_store(url: str) -> AbstractAsyncContextManager[Store]:
    """A client of ours that is connected meanwhile."""
    return started(Store(StoreTarget(url), Events()))


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    """A connected client of ours of an empty store."""
    async with open_store(store_url) as made:
        yield made


def _dies_with_parent() -> list[str]:
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", str(launcher.__file__), str(os.getpid())]
