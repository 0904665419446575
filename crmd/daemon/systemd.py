"""The interface to systemd: readiness, status, watchdog, listening sockets."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

from crmd.component import Periodic

_log = logging.getLogger(__name__)

SEND_TIMEOUT_SECONDS = 0.5
"""Longest that one message may hold the loop, where systemd does not read."""

PINGS_PER_WATCHDOG = 3
"""Pings in one watchdog time: two may come late."""

FIRST_LISTEN_FD = 3

_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


class Notifier:
    """Tells systemd, by one datagram each, how the daemon is. Without systemd it does nothing."""

    def __init__(self, address: str | None) -> None:
        self._address = address or ""
        self._failed = False
        # Opened once: where descriptors run out the watchdog must still be fed.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if address else None
        if self._socket is not None:
            self._socket.settimeout(SEND_TIMEOUT_SECONDS)

    @property
    def enabled(self) -> bool:
        """Whether systemd listens."""
        return self._socket is not None

    def close(self) -> None:
        """Nothing more is said; may be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def ready(self, status: str | None = None) -> None:
        """Startup, or a reload, is over."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows."""
        self._send(*_status(text))

    def reloading(self, status: str | None = None) -> None:
        """A reload begins; `ready` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={microseconds}", *_status(status))

    def stopping(self, extend_seconds: float, status: str | None = None) -> None:
        """The daemon drains; systemd is to wait this long before it kills."""
        self._send("STOPPING=1", f"EXTEND_TIMEOUT_USEC={int(extend_seconds * 1e6)}", *_status(status))

    def extend(self, seconds: float) -> None:
        """Start or stop goes on and needs this long from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")

    def ping(self) -> None:
        """The daemon is alive."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("cannot notify systemd at $NOTIFY_SOCKET: %s", error)
            self._failed = True
        else:
            self._failed = False


class Watchdog(Periodic):
    """Pings systemd from the event loop, so that a loop that stands still is noticed."""

    def __init__(self, notifier: Notifier, timeout_seconds: float | None) -> None:
        super().__init__("watchdog", (timeout_seconds or 0.0) / PINGS_PER_WATCHDOG, _log)
        self._notifier = notifier
        self._wanted = timeout_seconds is not None

    async def start(self) -> None:
        """Pings until `stop`, which comes last, as the watchdog counts while draining too; does nothing where no
        watchdog is set."""
        if self._wanted:
            await super().start()

    async def run_once(self) -> None:
        """One ping."""
        self._notifier.ping()


class Systemd:
    """All of systemd's side, read from the environment once."""

    def __init__(self, notifier: Notifier, watchdog: Watchdog, sockets: list[socket.socket]) -> None:
        self.notifier = notifier
        self.watchdog = watchdog
        self.sockets = sockets
        """Listening sockets of a `.socket` unit, to be served instead of `http.host` and `http.port`."""

    @classmethod
    def take(cls, environ: MutableMapping[str, str], pid: int) -> Systemd:
        """Reads systemd's variables and removes them, so that child processes do not act on them."""
        notifier = Notifier(_address(environ.get("NOTIFY_SOCKET")))
        systemd = cls(notifier, Watchdog(notifier, watchdog_timeout(environ, pid)), listen_sockets(environ, pid))
        for name in _VARIABLES:
            environ.pop(name, None)
        return systemd


def watchdog_timeout(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds in which systemd wants a ping; None where it wants none from this process."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) / 1e6 or None


def listen_sockets(environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """The listening stream sockets that systemd opened for this process."""
    count = environ.get("LISTEN_FDS", "")
    if not count.isdecimal() or environ.get("LISTEN_PID") != str(pid):
        return []
    sockets = []
    for descriptor in range(FIRST_LISTEN_FD, FIRST_LISTEN_FD + int(count)):
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
        taken.setblocking(False)
        sockets.append(taken)
    return sockets


def _address(path: str | None) -> str | None:
    """The address as Python wants it: an abstract one, written with `@`, begins with a zero byte."""
    if not path or path[0] not in "/@":
        return None
    return "\0" + path[1:] if path[0] == "@" else path


def _status(text: str | None) -> list[str]:
    return [] if text is None else ["STATUS=" + " ".join(text.split())]
