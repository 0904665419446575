"""How the embedded store's server is configured: its files, its settings, its address."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from crmd.embedded.state_folder import StateDir
from crmd.errors import ConfigError, Problem

Fsync = Literal["everysec", "always"]

PASSWORD_NAME = "store_password"  # noqa: S105 - the name of a file
# sun_path holds 108 bytes on Linux and 104 on the BSDs and macOS, the closing zero included.
SOCKET_PATH_MAX_BYTES = 107 if sys.platform == "linux" else 103

_LISTEN = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:\[\]]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class StoreFiles:
    """Where the embedded store's things are, all inside the state folder."""

    folder: Path

    @property
    def socket(self) -> Path:
        """The unix socket that clients connect to."""
        return self.folder / "store.sock"

    @property
    def data(self) -> Path:
        """The server's working folder, with the append-only file."""
        return self.folder / "store"

    @property
    def pid(self) -> Path:
        """Written by the server, removed by its clean end."""
        return self.folder / "store.pid"

    @property
    def log(self) -> Path:
        """The server's log, output and errors."""
        return self.folder / "store.log"

    def check(self) -> None:
        """Raises ConfigError where the socket's path is longer than the kernel takes."""
        length = len(os.fsencode(self.socket))
        if length > SOCKET_PATH_MAX_BYTES:
            most = SOCKET_PATH_MAX_BYTES - len("/store.sock")
            reason = (
                f"the path of its store.sock has {length} bytes and a unix socket's may have "
                f"{SOCKET_PATH_MAX_BYTES}; choose a folder whose path has at most {most} bytes"
            )
            raise ConfigError([Problem(str(self.folder), "daemon.state_dir", reason)])


@dataclass(frozen=True, slots=True)
class Listen:
    """A TCP address."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Listen:
        """Reads `"127.0.0.1:6380"` or `"[::1]:6380"`; raises ConfigError."""
        match = _LISTEN.fullmatch(text.strip())
        if not match or not 0 < int(match["port"]) < 65536:
            reason = f'"{text}" is not host:port; write for example "127.0.0.1:6380" or "[::1]:6380"'
            raise ConfigError([Problem("embedded store", "redis.listen", reason)])
        return cls(match["v6"] or match["host"], int(match["port"]))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def embedded_url(state: StateDir) -> str:
    """The address of the embedded store of a state folder, whether or not it runs; may hold a password."""
    password = state.read_private(PASSWORD_NAME)
    credentials = f":{quote(password.strip(), safe='')}@" if password else ""
    return f"unix://{credentials}{quote(str(StoreFiles(state.path).socket))}"


def server_config(files: StoreFiles, *, fsync: Fsync, listen: Listen | None, password: str | None) -> str:
    """The server's configuration, for its standard input: a password must not stand in a process list."""
    settings: list[tuple[str, ...]] = [
        ("daemonize", "no"),
        ("dir", str(files.data)),
        ("pidfile", str(files.pid)),
        ("logfile", str(files.log)),
        ("loglevel", "notice"),
        ("always-show-logo", "no"),
        ("unixsocket", str(files.socket)),
        ("unixsocketperm", "700"),
        ("proc-title-template", "{title} {unixsocket}"),  # refused where it stands before the socket
        ("protected-mode", "yes"),
        ("port", str(listen.port if listen else 0)),
        ("appendonly", "yes"),
        ("appendfsync", "always" if fsync == "always" else "no"),  # else by crmd.embedded.aof
        # crmd.embedded.aof mends a torn end, and tells it from damage in the middle; this setting does not:
        # a broken length in the middle makes the server cut off all that follows.
        ("aof-load-truncated", "no"),
        ("save", ""),
        ("maxmemory-policy", "noeviction"),
        ("shutdown-timeout", "0"),  # do not wait for replicas
        # A client that does not read must not take the server's memory.
        ("client-output-buffer-limit", "normal", "512mb", "128mb", "60"),
        ("client-output-buffer-limit", "pubsub", "32mb", "8mb", "60"),
    ]
    if listen is not None:
        settings.append(("bind", listen.host))
    if password is not None:
        settings.append(("requirepass", password))
    return "".join(" ".join([name, *map(_quoted, values)]) + "\n" for name, *values in settings)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'
