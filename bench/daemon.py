"""A real `crmd run` on the server of the run."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from bench.trial import PROJECT

READY_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Program:
    """Whose `crmd run` it is."""

    python: Path = Path(sys.executable)
    source: Path = PROJECT
    environ: Mapping[str, str] = field(default_factory=dict)
    """Beside that of this process."""

    def with_environ(self, **environ: str) -> Self:
        """The same with more of it."""
        return replace(self, environ={**self.environ, **environ})


@dataclass(frozen=True, slots=True)
class Daemon:
    """One that is ready."""

    pid: int
    ready_s: float
    """From the start of its process until it said READY=1."""
    store_url: str
    """The embedded store's, where it has one."""


@contextmanager
def daemon(
    url: str, config: str = "", program: Program | None = None, state: Path | None = None
) -> Iterator[Daemon]:
    """A daemon, HTTP on a free port; `config` beside that. An empty `url`: embedded. No `state`: a new folder."""
    program = program or Program()
    with tempfile.TemporaryDirectory(prefix="crmd-bench-") as name:
        folder = Path(name)
        file = folder / "config.toml"
        file.touch(mode=0o600)
        store = f'[redis]\nurl = "{url}"\n' if url else ""
        state = state or folder / "state"
        file.write_text(f'[daemon]\nstate_dir = "{state}"\n{store}[http]\nport = 0\n{config}')
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said, (folder / "log").open("w+b") as log:
            said.bind(f"{folder}/notify")
            began = time.monotonic()
            process = subprocess.Popen(
                [program.python, "-m", "crmd", "run", "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=program.source,
                env={**_environ(), **program.environ, "NOTIFY_SOCKET": f"{folder}/notify"},
            )
            try:
                _wait_ready(said, process, folder / "log")
                yield Daemon(process.pid, time.monotonic() - began, url or f"unix://{state}/store.sock")
            finally:
                process.terminate()
                process.wait(STOP_TIMEOUT_S)


def _environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("CRMD_")}


def _wait_ready(said: socket.socket, process: subprocess.Popen[bytes], log: Path) -> None:
    said.settimeout(0.1)
    deadline = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if b"READY=1" in said.recv(65536).split(b"\n"):
                return
        except TimeoutError:
            continue
    raise RuntimeError(f"crmd run did not become ready:\n{log.read_text(encoding='utf-8')[-2000:]}")
