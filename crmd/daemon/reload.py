"""SIGHUP: the configuration is read again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from crmd.config.load import Loaded
from crmd.daemon.build import build_catalog
from crmd.daemon.systemd import Notifier
from crmd.errors import ConfigError, CrmdError

_log = logging.getLogger("crmd")


class Reloader:
    """Reads the configuration again when asked to, one time after the other."""

    def __init__(self, read: Callable[[], Loaded], notifier: Notifier) -> None:
        self._read = read
        self._notifier = notifier
        self._asked = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.refused: str | None = None
        """Why the configuration as it now stands is not in force; None where it is."""

    def start(self) -> None:
        """Begins to wait for requests; one that came before is met now."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="reload")

    async def stop(self) -> None:
        """Ends it. Fine twice, or before start."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    def request(self) -> None:
        """Asks for a reload; one that comes during another makes one more."""
        self._asked.set()

    async def run_once(self) -> None:
        """One reload: says that it begins, and how it ended."""
        self._notifier.reloading("reading the configuration again")
        try:
            self.refused, status = None, await self._check()
        except (CrmdError, OSError) as error:
            problems: list[object] = list(error.problems) if isinstance(error, ConfigError) else [error]
            for problem in problems:
                _log.error("configuration refused, the old one stays: %s", problem)
            self.refused = status = f"configuration refused, the old one stays: {problems[0]}"
        self._notifier.ready(status)

    async def _check(self) -> str:
        """Whether the configuration is valid; it is applied at the next start."""
        loaded = await asyncio.to_thread(self._read)
        build_catalog(loaded)
        _log.info("the configuration is valid; changes apply at the next start")
        return "the configuration is valid; changes apply at the next start"

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.run_once()
