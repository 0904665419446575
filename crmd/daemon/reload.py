"""SIGHUP: reads the configuration again and applies what can change in a running daemon."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from crmd.component import BackgroundTask
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


class Reloader(BackgroundTask):
    """Reads the configuration again whenever `asked` is set, and clears it."""

    def __init__(
        self, daemon: Daemon, read: Callable[[], Loaded], asked: asyncio.Event, notifier: Notifier
    ) -> None:
        super().__init__("reload")
        self._daemon = daemon
        self._read = read
        self._asked = asked
        self._notifier = notifier
        self.refused: str | None = None
        """Why the configuration as it now stands is not in force; None where it is."""

    async def run_once(self) -> None:
        """One reload: says that it begins, and how it ended."""
        self._notifier.reloading("reading the configuration again")
        try:
            loaded = await asyncio.to_thread(self._read)
            await apply(self._daemon, loaded)
        except Exception as error:
            self.refused = status = _refusal(error)
        else:
            self.refused, status = None, "the configuration is in force"
            if later := for_next_start(self._daemon, loaded.settings):
                status += f"; at the next start: {', '.join(later)}"
            _log.log(logging.WARNING if later else logging.INFO, "%s", status)
        self._notifier.ready(status)

    async def _run(self) -> None:
        while True:
            await self._asked.wait()
            self._asked.clear()
            await self.run_once()


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
