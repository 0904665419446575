"""Makes what the embedded server wrote durable, once a second.

The server's own `appendfsync everysec` puts its writes off while such a sync runs: killed in that moment it loses
what it had acknowledged. With the sync done here it writes before each answer, and only the machine's death costs
anything.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

from crmd.telemetry.throttle import Throttle

SYNC_EVERY_S = 1.0
ERROR_LOGGED_EVERY_S = 60.0

_PATTERN = "appendonlydir/*.incr.aof"
"""The files that grow. The server syncs the others itself, once they are whole."""

_log = logging.getLogger(__name__)


class AofSync:
    """Syncs the files that changed, from a thread: a sync may take long, and the event loop may stand still."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._synced: dict[Path, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._errors = Throttle(ERROR_LOGGED_EVERY_S)

    def start(self) -> None:
        """Begins."""
        if self._thread is None:
            self._stop = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stop,), name="crmd store sync", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """Ends, without waiting for a sync under way. Fine twice, or before start."""
        self._stop.set()
        self._thread = None

    def run_once(self) -> int:
        """Syncs what changed since the last time; returns how many files."""
        changed = {}
        for path in self._folder.glob(_PATTERN):
            size = path.stat().st_size
            if self._synced.get(path) != size:
                changed[path] = size
        for path, size in changed.items():
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)
            self._synced[path] = size
        return len(changed)

    def _run(self, stop: threading.Event) -> None:
        while not stop.wait(SYNC_EVERY_S):
            try:
                self.run_once()
            except FileNotFoundError:
                continue  # the server has just rewritten its file
            except OSError as error:
                if self._errors.allow("sync") is not None:
                    _log.error("the store's file cannot be synced, a power failure may lose jobs: %s", error)
