"""A server that outlived a killed daemon: find it by proof, end it cleanly.

The caller holds the state folder, so the daemon that started such a server is dead. The next server reads what
this one wrote; ending it first loses nothing, since the signal makes it write and sync its append-only file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

from crmd.embedded.server_config import StoreFiles
from crmd.errors import StateDirTaken

# Together with the next start these stay under three seconds.
END_SECONDS = 1.5
KILL_SECONDS = 0.5
POLL_SECONDS = 0.01
CONNECT_SECONDS = 0.5

_SERVER_NAMES = ("valkey", "redis")
_MACOS_SOL_LOCAL, _MACOS_LOCAL_PEERPID = 0, 2


async def end_orphan(files: StoreFiles) -> int | None:
    """Ends a server that still works on these files, if any, and returns its process id.

    Raises StateDirTaken where the socket is served by something that is not such a server, or it does not end.
    """
    listener = _listener_of(files.socket)
    if listener is not None and not is_ours(listener, files):
        raise StateDirTaken(
            f"{files.socket} is served by process {listener}, which is not this folder's store; "
            "stop it, or choose another folder with --state-dir"
        )
    ended = None
    for pid in {listener, _noted_pid(files.pid)} - {None}:
        if pid is not None and is_ours(pid, files):
            await _end(pid, files)
            ended = pid
    return ended


def is_ours(pid: int, files: StoreFiles) -> bool:
    """Whether that process is alive and is a server that works in the data folder of these files."""
    if sys.platform != "linux":
        return _is_ours_by_title(pid, files)
    try:
        program = os.path.basename(os.readlink(f"/proc/{pid}/exe"))
        # The folders are compared by what they are, since the path may lead over links.
        works_here = os.path.samestat(os.stat(f"/proc/{pid}/cwd"), files.data.stat())
    except OSError:
        return False
    return works_here and any(name in program for name in _SERVER_NAMES)


async def _end(pid: int, files: StoreFiles) -> None:
    for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, KILL_SECONDS)):
        if is_ours(pid, files):
            os.kill(pid, number)
        for _ in range(int(seconds / POLL_SECONDS)):
            if not is_ours(pid, files):
                return
            await asyncio.sleep(POLL_SECONDS)
    raise StateDirTaken(
        f"process {pid}, the store of a daemon that died, holds {files.data} and cannot be ended; "
        "its disk may hang: look at that process"
    )


def _noted_pid(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdigit() and len(text) < 11 and int(text) > 1 else None


def _listener_of(path: Path) -> int | None:
    """The process that listens on a unix socket; None where none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(CONNECT_SECONDS)
        try:
            client.connect(str(path))
            return _peer_pid(client)
        except OSError:
            return None


def _peer_pid(client: socket.socket) -> int:
    if sys.platform == "linux":
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, _, _ = struct.unpack("3i", credentials)
        return int(pid)
    return client.getsockopt(_MACOS_SOL_LOCAL, _MACOS_LOCAL_PEERPID)


def _is_ours_by_title(pid: int, files: StoreFiles) -> bool:
    # Without /proc: the server shows its socket in its title, as server_config sets it.
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 - no text of others in it
    return str(files.socket) in answer and any(name in answer for name in _SERVER_NAMES)
