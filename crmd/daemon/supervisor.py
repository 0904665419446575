"""The daemon's life: started in one order, stopped in the reverse, told to systemd all along."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import uvloop

from crmd.config.load import Loaded
from crmd.daemon.build import Daemon, build, build_catalog
from crmd.daemon.signals import StopRequest, capture, is_on_terminal
from crmd.daemon.systemd import Systemd
from crmd.daemon.welcome import typed_command, welcome
from crmd.errors import ConfigError, CrmdError, ExitCode, StoreUnavailable
from crmd.store.statedir import StateDir

T = TypeVar("T")

STATUS_EVERY_S = 5.0
STOP_MARGIN_S = 10.0
"""What systemd is asked to wait beyond the drain: for the store to write and the process to end."""
LISTENERS_LINGER_S = 0.1
"""Between the last job and the closing of HTTP, so that a probe in flight is answered."""

_log = logging.getLogger("crmd")


def run(loaded: Loaded, *, queues: Sequence[str] | None, reload: Callable[[], Loaded]) -> int:
    """Runs the daemon until it is told to stop; returns the exit code. Raises CrmdError where it cannot start."""
    supervisor = Supervisor(loaded, queues, reload)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(supervisor.main())
        if supervisor.leaked:
            # Handlers that ignore being cancelled, or threads that cannot be, would hold the process for ever.
            logging.shutdown()
            sys.stdout.flush()
            os._exit(code)
    return code


class Supervisor:
    """Starts everything, waits for a signal, stops everything."""

    def __init__(self, loaded: Loaded, queues: Sequence[str] | None, reload: Callable[[], Loaded]) -> None:
        self._loaded = loaded
        self._only = queues
        self._reload = reload
        self._request = StopRequest()
        self._systemd = Systemd.take(os.environ, os.getpid())
        self._reloading: asyncio.Task[None] | None = None
        self.leaked = 0

    async def main(self) -> int:
        """The whole life; returns the exit code."""
        loop = asyncio.get_running_loop()
        under_systemd = self._systemd.notifier.enabled
        terminal = not under_systemd and is_on_terminal(sys.stdin, sys.stderr)
        state = StateDir(self._loaded.settings.daemon.state_dir)
        state.create()
        state.lock()
        with capture(loop, self._request, self._on_reload, on_terminal=terminal):
            try:
                await self._systemd.watchdog.start()
                daemon = await build(self._loaded, state, self._systemd, self._only)
                await self._live(daemon)
            finally:
                await self._systemd.watchdog.stop()
                self._systemd.notifier.close()
                state.release()
        return ExitCode.OK

    async def _live(self, daemon: Daemon) -> None:
        try:
            if await self._until_stop(self._start(daemon)):
                await self._serve(daemon)
        finally:
            await self._stop(daemon)

    async def _start(self, daemon: Daemon) -> None:
        """HTTP first, so that probes are answered while the store loads; then store, clients, queues."""
        daemon.watch.start()
        if daemon.web:
            await daemon.web.start()
        self._say("starting the store")
        if daemon.embedded:
            await daemon.embedded.start()
        self._say(f"waiting for the store at {daemon.store.target.masked}")
        await daemon.store.start(wait=True)
        for client in daemon.clients:
            await client.start()
        await self._start_fleet(daemon)
        daemon.life.state = "running"
        self._systemd.notifier.ready(await self._status(daemon))
        self._greet(daemon)

    async def _start_fleet(self, daemon: Daemon) -> None:
        while True:
            try:
                return await daemon.fleet.start()
            except StoreUnavailable as error:
                _log.warning("the store went away during the start: %s", error)
                await daemon.store.wait_connected()

    async def _serve(self, daemon: Daemon) -> None:
        while not self._request.stop.is_set():
            self._say(await self._status(daemon))
            await self._sleep(STATUS_EVERY_S)

    async def _stop(self, daemon: Daemon) -> None:
        """Stops taking jobs, drains, gives back; then HTTP, which answered until now; the store last."""
        drain_timeout = daemon.settings.daemon.drain_timeout
        daemon.life.state = "draining"
        self._systemd.notifier.stopping(drain_timeout + STOP_MARGIN_S, f"draining: {daemon.fleet.active} jobs run")
        _log.info("stopping: %d jobs run, they have %gs", daemon.fleet.active, drain_timeout)
        report = await daemon.fleet.stop(drain_timeout, self._request.hurry)
        self.leaked = report.leaked
        if report.finished or report.given_back:
            _log.info("drained: %d finished, %d given back", report.finished, report.given_back)
        if daemon.web:
            await daemon.web.stop()
        for client in reversed(daemon.clients):
            await client.stop()
        await daemon.control.stop()
        await daemon.watch.stop()
        await daemon.store.stop()
        if daemon.embedded:
            await daemon.embedded.stop()
        _log.info("stopped")

    async def _until_stop(self, work: Awaitable[None]) -> bool:
        """Does the work unless a signal comes first; says whether it was done."""
        task = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._request.stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            return False
        task.result()
        return True

    async def _sleep(self, seconds: float) -> None:
        waits = [asyncio.create_task(self._request.stop.wait())]
        await asyncio.wait(waits, timeout=seconds)
        waits[0].cancel()

    async def _status(self, daemon: Daemon) -> str:
        if not daemon.store.connected:
            return f"store away: {daemon.store.last_error}"
        try:
            counts = (await daemon.fleet.inspect()).values()
        except CrmdError as error:
            return f"store away: {error}"
        paused = sum(one.paused for one in counts)
        text = f"{sum(one.active for one in counts)} active, {sum(one.waiting for one in counts)} waiting"
        return text + (f", {paused} queues paused" if paused else "")

    def _say(self, status: str) -> None:
        self._systemd.notifier.status(status)

    def _greet(self, daemon: Daemon) -> None:
        settings, cwd = self._loaded.settings, Path.cwd()
        options = []
        if self._loaded.path:
            options += ["--config", _short(self._loaded.path, cwd)]
        options += ["--state-dir", _short(settings.daemon.state_dir, cwd)]
        text = welcome(
            address=daemon.web.url if daemon.web else None,
            username=settings.auth.username,
            command=typed_command(sys.argv[0], options, cwd),
        )
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def _on_reload(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._check_again(), name="reload")

    async def _check_again(self) -> None:
        """Reads the configuration again and says whether it is valid; it is applied at the next start."""
        self._systemd.notifier.reloading("reading the configuration again")
        try:
            loaded = await asyncio.to_thread(self._reload)
            build_catalog(loaded)
        except ConfigError as error:
            for problem in error.problems:
                _log.error("configuration refused, the old one stays: %s", problem)
            self._systemd.notifier.ready(f"configuration refused, the old one stays: {error.problems[0]}")
            return
        _log.info("the configuration is valid; changes apply at the next start")
        self._systemd.notifier.ready("the configuration is valid; changes apply at the next start")


def _short(path: Path, cwd: Path) -> str:
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)
