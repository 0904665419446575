"""The daemon's life: started in one order, stopped in the reverse order, reported to systemd throughout."""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import uvloop

from crmd.config.load import Loaded
from crmd.config.model import Settings
from crmd.daemon.banner import short_path, startup_banner, typed_command
from crmd.daemon.process import Heap, raise_file_limit, tune_collector
from crmd.daemon.reload import Reloader
from crmd.daemon.signals import StopRequest, capture, is_on_terminal
from crmd.daemon.systemd import Systemd
from crmd.embedded.server import EmbeddedStore
from crmd.embedded.state_folder import StateDir
from crmd.errors import ExitCode, StoreError, StoreUnusable
from crmd.telemetry.events import Events, log_subscriber
from crmd.telemetry.throttle import Throttle

if TYPE_CHECKING:  # loaded while the embedded store starts
    from crmd.daemon.build import Daemon


from typing import TYPE_CHECKING

from crmd.errors import CrmdError

if TYPE_CHECKING:
    from crmd.daemon.build import Daemon


STATUS_EVERY_S = 5.0
START_LOOK_S = 0.5
"""While the start waits for the store, what it waits for is looked at so often."""
START_EXTENSION_S = 60.0
"""How much longer systemd is asked to wait, again and again: a start on an unavailable store has no deadline."""
START_AGAIN_FIRST_S = 0.1
START_AGAIN_MAX_S = 1.0
"""A store that refuses what the start has to write is asked again so often."""
WAITING_LOGGED_EVERY_S = 300.0
STOP_MARGIN_S = 10.0
"""What systemd is asked to wait beyond the drain: for the store to write and the process to end."""

_log = logging.getLogger("crmd")


def run(loaded: Loaded, *, queues: Sequence[str] | None, reload: Callable[[], Loaded]) -> NoReturn:
    """Runs the daemon until it is told to stop, and ends the process. Raises CrmdError where it cannot start."""
    raise_file_limit()
    supervisor = Supervisor(loaded, queues, reload)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(supervisor.main())
        if supervisor.leaked:
            # Handlers that ignore being cancelled, or threads that cannot be, would hold the process for ever.
            _end_process(code)
    _end_process(code)


def _end_process(code: int) -> NoReturn:
    """Ends without Python's teardown, in which a signal that still comes would take the place of the code."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


class Supervisor:
    """Starts everything, waits for a signal, stops everything."""

    def __init__(self, loaded: Loaded, queues: Sequence[str] | None, reload: Callable[[], Loaded]) -> None:
        self._loaded = loaded
        self._only = queues
        self._request = StopRequest()
        self._systemd = Systemd.take(os.environ, os.getpid())
        self._read_again, self._reload_asked = reload, asyncio.Event()
        self._waiting = Throttle(WAITING_LOGGED_EVERY_S)
        self._embedded_start: asyncio.Task[str] | None = None
        self._refusal: str | None = None
        """What keeps the queues from starting."""
        self.leaked = 0
        """Handlers that still run although they were cancelled."""

    async def main(self) -> int:
        """The whole life; returns the exit code."""
        loop = asyncio.get_running_loop()
        under_systemd = self._systemd.notifier.enabled
        terminal = not under_systemd and is_on_terminal(sys.stdin, sys.stderr)
        state = StateDir(self._loaded.settings.daemon.state_dir)
        state.create()
        state.lock()
        with capture(loop, self._request, self._reload_asked.set, on_terminal=terminal, last=True):
            try:
                await self._systemd.watchdog.start()
                daemon = await self._build(state)
                await self._live(daemon)
            finally:
                await self._systemd.watchdog.stop()
                self._systemd.notifier.close()
                state.release()
        return ExitCode.OK

    async def _build(self, state: StateDir) -> Daemon:
        """The daemon's parts. The embedded store loads its data meanwhile: with many jobs that takes as long."""
        events = Events()
        events.subscribe(log_subscriber(_log))
        embedded = _embedded_store(self._loaded.settings, state, events)
        if embedded:
            await embedded.prepare()
            self._embedded_start = asyncio.create_task(embedded.start(), name="start the embedded store")
        try:
            await asyncio.to_thread(importlib.import_module, "crmd.daemon.build")
            from crmd.daemon.build import build

            return await build(self._loaded, state, self._systemd, events, embedded, self._only)
        except BaseException:
            if embedded and self._embedded_start:
                self._embedded_start.cancel()
                await asyncio.gather(self._embedded_start, return_exceptions=True)
                await embedded.stop()
            raise

    async def _live(self, daemon: Daemon) -> None:
        reloader = Reloader(daemon, self._read_again, self._reload_asked, self._systemd.notifier)
        waiting = asyncio.create_task(self._tell_waiting(daemon), name="start")
        try:
            started = await self._unless_stopped(self._start(daemon))
            waiting.cancel()
            if started:
                await self._serve(daemon, reloader)
        finally:
            waiting.cancel()
            await self._stop(daemon, reloader)

    async def _start(self, daemon: Daemon) -> None:
        """HTTP first, so that probes are answered meanwhile; then store, clients, queues, schedules, alerts.

        The embedded store has begun to start by then.
        """
        await daemon.watch.start()
        if daemon.web:
            await daemon.web.start()
        if self._embedded_start:
            await self._embedded_start
        await daemon.store.start(wait=True)
        await daemon.resources.start()
        await self._start_pool(daemon)
        await daemon.scheduler.start()
        await daemon.alerts.start()

    async def _start_pool(self, daemon: Daemon) -> None:
        """What the store refuses is waited for, as a running daemon does; only what it denies for good ends us."""
        pause = START_AGAIN_FIRST_S
        while True:
            await daemon.store.wait_connected()
            try:
                return await daemon.pool.start()
            except StoreUnusable:
                raise
            except StoreError as error:
                self._refusal = str(error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, START_AGAIN_MAX_S)

    async def _tell_waiting(self, daemon: Daemon) -> None:
        """While the start goes on: says what for, and asks systemd for more time."""
        told = ""
        while True:
            status, trouble = start_line(daemon, self._refusal)
            daemon.life.reason = f"starting: {status}"
            self._systemd.notifier.extend(START_EXTENSION_S)
            if status != told:
                self._say(status)
            if trouble and self._waiting.allow(trouble) is not None:
                _log.warning("%s", status)
            told = status
            await asyncio.sleep(START_LOOK_S)

    async def _serve(self, daemon: Daemon, reloader: Reloader) -> None:
        if not await self._unless_stopped(self._become_ready(daemon)):
            return
        await reloader.start()
        heap = Heap()
        while await self._unless_stopped(asyncio.sleep(STATUS_EVERY_S)):
            await self._unless_stopped(self._tell_status(daemon, reloader.refused))
            await heap.trim()

    async def _become_ready(self, daemon: Daemon) -> None:
        status = await status_line(daemon)
        daemon.life.state, daemon.life.reason = "running", None
        tune_collector()
        self._greet(daemon)
        # In one message: whoever looks once it is ready must not read what the start waited for.
        self._systemd.notifier.ready(status)

    async def _stop(self, daemon: Daemon, reloader: Reloader) -> None:
        """Stops taking jobs, drains, gives back; then HTTP, which answered until now; the store last."""
        drain_timeout = daemon.current.settings.daemon.drain_timeout
        daemon.life.state, daemon.life.reason = "draining", None
        self._systemd.notifier.stopping(drain_timeout + STOP_MARGIN_S, f"draining: {daemon.pool.active} jobs run")
        _log.info("stopping: %d jobs run, they have %gs", daemon.pool.active, drain_timeout)
        await reloader.stop()
        await daemon.scheduler.stop()
        await daemon.alerts.stop()
        report = await daemon.pool.drain(drain_timeout, self._request.hurry)
        self.leaked = report.leaked
        if report.finished or report.given_back:
            _log.info("drained: %d finished, %d given back", report.finished, report.given_back)
        for parts in (
            [
                daemon.pool.finish(report),
                *([daemon.web.stop()] if daemon.web else []),
            ],
            [daemon.health.stop(), daemon.resources.stop(), daemon.control.stop(), daemon.watch.stop()],
            [daemon.store.stop()],
            [daemon.embedded.stop()] if daemon.embedded else [],
        ):
            await _together(parts)
        _log.info("stopped")

    async def _unless_stopped(self, work: Awaitable[None]) -> bool:
        """Does the work unless a stop signal comes first; says whether it was done."""
        task = asyncio.ensure_future(work)
        stop = asyncio.create_task(self._request.stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
            return False
        task.result()
        return not self._request.stop.is_set()

    async def _tell_status(self, daemon: Daemon, refused: str | None) -> None:
        self._say(await status_line(daemon) + (f"; {refused}" if refused else ""))

    def _say(self, status: str) -> None:
        self._systemd.notifier.status(status)

    def _greet(self, daemon: Daemon) -> None:
        settings, cwd = self._loaded.settings, Path.cwd()
        options = []
        if self._loaded.path:
            options += ["--config", short_path(self._loaded.path, cwd)]
        options += ["--state-dir", short_path(settings.daemon.state_dir, cwd)]
        text = startup_banner(
            address=daemon.web.url if daemon.web else None,
            username=settings.auth.username,
            command=typed_command(sys.argv[0], options, cwd),
        )
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


async def _together(closing: Sequence[Awaitable[None]]) -> None:
    """Closes parts side by side; one that fails does not keep the others open."""
    for result in await asyncio.gather(*closing, return_exceptions=True):
        if isinstance(result, Exception):
            _log.error("while stopping: %s", result, exc_info=result)


def _embedded_store(settings: Settings, state: StateDir, events: Events) -> EmbeddedStore | None:
    """None where the configuration names a store."""
    redis = settings.redis
    if redis.url.get_secret_value():
        return None
    return EmbeddedStore(
        state,
        binary=redis.server if redis.server != Path() else None,
        fsync=redis.fsync,
        listen=redis.listen or None,
        emit=events.emit,
    )


# How the daemon is, in one line, for `systemctl status`


async def status_line(daemon: Daemon) -> str:
    """What the queues hold, or why the store is unavailable."""
    if not daemon.store.connected:
        return f"the store is unavailable: {daemon.store.trouble}"
    if daemon.store.refusal:
        return f"the store takes no writes: {daemon.store.refusal}"
    try:
        counts = (await daemon.pool.inspect()).values()
    except CrmdError as error:
        return f"the store is unavailable: {error}"
    paused = sum(one.paused for one in counts)
    text = f"{sum(one.active for one in counts)} active, {sum(one.waiting for one in counts)} waiting"
    if paused:
        text += f", {paused} queues paused"
    degraded = daemon.pool.degraded
    for reason in sorted(set(degraded.values())):
        names = [name for name, why in degraded.items() if why == reason]
        text += f"; {', '.join(names)}: {reason}"
    return text


def start_line(daemon: Daemon, refusal: str | None) -> tuple[str, str | None]:
    """What the start waits for, and what is wrong, if something is. `refusal` is what the store answered last."""
    store, embedded = daemon.store, daemon.embedded
    trouble = (embedded.last_error if embedded else None) or store.last_error or refusal
    waits = f"waiting for the store at {store.target.masked}"
    return (f"waiting for the store: {trouble}" if trouble else waits), trouble
