"""The server that all are measured on, append-only file on."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from crmd.embedded.binary import find_server

START_TIMEOUT_S = 10.0


@contextmanager
def bench_server(program: Path | None = None) -> Iterator[str]:
    """A server of its own on a free loopback port, by default the embedded store's; gives its URL."""
    with tempfile.TemporaryDirectory(prefix="crmd-bench-") as folder:
        port = _free_port()
        url = f"redis://127.0.0.1:{port}/0"
        config = (
            f'bind 127.0.0.1\nport {port}\ndir {folder}\nsave ""\nappendonly yes\nappendfsync everysec\n'
            "auto-aof-rewrite-percentage 0\n"  # it would hit whoever is measured at that moment
        )
        with (Path(folder) / "log").open("wb") as log:
            server = subprocess.Popen(
                [find_server(program).path, "-"], stdin=subprocess.PIPE, stdout=log, stderr=log
            )
            try:
                server.communicate(config.encode(), timeout=0.2)
            except subprocess.TimeoutExpired:
                _wait_ready(url)
            try:
                yield url
            finally:
                server.terminate()
                server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_ready(url: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with Redis.from_url(url) as client:
                client.ping()
            return
        except RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
