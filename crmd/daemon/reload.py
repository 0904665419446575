"""SIGHUP: the configuration is read again, and what can change in a running daemon changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from crmd.config.load import Loaded
from crmd.config.model import Settings
from crmd.daemon.credentials import ensure_password
from crmd.daemon.systemd import Notifier
from crmd.errors import ConfigError, CrmdError
from crmd.telemetry import logs

if TYPE_CHECKING:  # loaded while the embedded store starts
    from crmd.daemon.build import Daemon

NEXT_START = (("daemon", "state_dir"), ("redis", None), ("http", None), ("database", None), ("files", "folder"))
"""What a running daemon cannot change: tables and keys; None is every key of the table."""

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

    def start(self, daemon: Daemon) -> None:
        """Begins to wait for requests; one that came before is met now."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(daemon), name="reload")

    async def stop(self) -> None:
        """Ends it. Idempotent, also before start."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait([task])

    def request(self) -> None:
        """Asks for a reload; one that comes during another makes one more."""
        self._asked.set()

    async def run_once(self, daemon: Daemon) -> None:
        """One reload: says that it begins, and how it ended."""
        self._notifier.reloading("reading the configuration again")
        try:
            loaded = await asyncio.to_thread(self._read)
            await apply(daemon, loaded)
        except Exception as error:
            self.refused = status = _refusal(error)
        else:
            self.refused, status = None, "the configuration is in force"
            if later := for_next_start(daemon, loaded.settings):
                status += f"; at the next start: {', '.join(later)}"
            _log.log(logging.WARNING if later else logging.INFO, "%s", status)
        self._notifier.ready(status)

    async def _run(self, daemon: Daemon) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.run_once(daemon)


def _refusal(error: Exception) -> str:
    """Logs why a reload failed, and returns it in one line."""
    if not isinstance(error, CrmdError | OSError):
        _log.error("the reload failed", exc_info=error)
    problems: list[object] = list(error.problems) if isinstance(error, ConfigError) else [error]
    for problem in problems:
        _log.error("configuration refused, the old one stays: %s", problem)
    return f"configuration refused, the old one stays: {problems[0]}"


async def apply(daemon: Daemon, loaded: Loaded) -> None:
    """Applies what a running daemon can change. Raises ConfigError, and has changed nothing then."""
    from crmd.daemon.build import build_catalog, run_elsewhere
    from crmd.daemon.late_resources import need_features

    settings = loaded.settings
    catalog, password = build_catalog(loaded), ensure_password(loaded)
    served = daemon.queues
    queues = {**daemon.registry.queues, **settings.queue_settings()}
    for name in queues.keys() - settings.queue_settings().keys():
        # A queue that is gone goes on as it was until the next start.
        for job in served.catalog.names(name):
            catalog.add(name, served.catalog.get(name, job))
    run_here = queues if daemon.only is None else daemon.only
    resources = await daemon.resources.configure(loaded, needed=need_features(loaded, run_here))
    await daemon.resources.start()
    daemon.registry.replace(queues, settings.schedule_settings())
    await daemon.pool.configure(catalog, resources)
    daemon.scheduler.configure()
    daemon.alerts.configure(settings.notify.alerts)
    served.configure(catalog, loaded.sources, run_elsewhere(queues, daemon.only), settings.unconfigured())
    daemon.current.settings = settings
    daemon.health.forget()
    if daemon.web:
        daemon.web.configure(settings.auth, password.value)
    logs.setup(settings.daemon.log_level, settings.daemon.log_format)


def for_next_start(daemon: Daemon, settings: Settings) -> list[str]:
    """What of a configuration waits for the next start."""
    found = []
    for table, key in NEXT_START:
        before, after = getattr(daemon.settings, table), getattr(settings, table)
        keys = type(before).model_fields if key is None else [key]
        found += [f"{table}.{name}" for name in keys if getattr(before, name) != getattr(after, name)]
    known = settings.queue_settings()
    return found + [f"the end of queue {name}" for name in daemon.registry.queues if name not in known]
