"""Makes what the embedded server wrote durable, once a second.

The server's own `appendfsync everysec` puts its writes off while such a sync runs: killed in that moment it loses
what it had acknowledged. With the sync done here it writes before each answer, and only the machine's death costs
anything.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from crmd.component import PeriodicThread
from crmd.telemetry.throttle import Throttle

SYNC_EVERY_S = 1.0
ERROR_LOGGED_EVERY_S = 60.0

_PATTERN = "appendonlydir/*.incr.aof"
"""The files that grow. The server syncs the others itself, once they are whole."""

_log = logging.getLogger(__name__)


class AofSync(PeriodicThread):
    """Syncs the files that changed, from a thread: a sync may take long, and the event loop may stand still."""

    def __init__(self, folder: Path) -> None:
        super().__init__("crmd store sync", SYNC_EVERY_S)
        self._folder = folder
        self._synced: dict[Path, int] = {}
        self._errors = Throttle(ERROR_LOGGED_EVERY_S)

    def run_once(self) -> int:
        """Syncs what changed since the last time; returns how many files. An error is logged."""
        try:
            return self._sync()
        except FileNotFoundError:
            return 0  # the server has just rewritten its file
        except OSError as error:
            if self._errors.allow("sync") is not None:
                _log.error("the store's file cannot be synced, a power failure may lose jobs: %s", error)
            return 0

    def _sync(self) -> int:
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
