"""Reloads a daemon by SIGHUP, and hears what it says of that to systemd."""

from __future__ import annotations

import signal
import time

from tests.support.daemon import DaemonProcess, NotifyListener
from tests.support.wait import HANG_S, wait_until_sync


def listener(daemon: DaemonProcess) -> NotifyListener:
    assert daemon.notify
    return daemon.notify


def reload(daemon: DaemonProcess) -> str:
    """SIGHUP; what the status says once the reload is over."""
    said, began = listener(daemon), time.monotonic()
    daemon.signal(signal.SIGHUP)
    # The READY=1 of the start may come only now.
    reloading = wait_until_sync(lambda: said.has("RELOADING=1", began), 5, "the reload begins")
    ready = wait_until_sync(lambda: said.has("READY=1", reloading), 5, "the reload ends")
    assert time.monotonic() - began < HANG_S
    microseconds = said.values("MONOTONIC_USEC", began)[-1]  # one that was asked for before may end only now
    assert 0 <= time.monotonic() - int(microseconds) / 1e6 < HANG_S
    return next(
        line.removeprefix("STATUS=")
        for one in said.said
        for line in one.lines
        if one.at >= ready and line.startswith("STATUS=")
    )
