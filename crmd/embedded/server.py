"""The embedded store: a Valkey server of our own, kept alive, with its data in the state folder.

The server runs in a session of its own, so that Ctrl-C reaches only the daemon, which drains first. Where the
daemon is killed, the kernel ends the server (Linux), and the next start ends one that is left over.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from crmd.embedded import aof, launcher, server_log
from crmd.embedded.aof import AofSync
from crmd.embedded.binary import find_server
from crmd.embedded.orphan import end_orphan
from crmd.embedded.server_config import PASSWORD_NAME, Fsync, Listen, StoreFiles, embedded_url, server_config
from crmd.embedded.server_log import DataDamaged
from crmd.embedded.state_folder import StateDir
from crmd.errors import ConfigError, CrmdError, Problem, StateDirTaken, StoreFull, StoreUnavailable

STOP_SECONDS = 3.0
# A server that served this long before it died is started again at once.
STEADY_SECONDS = 1.0
BACKOFF_BASE_SECONDS = 0.2
BACKOFF_MAX_SECONDS = 5.0
FULL_DISK_POLL_SECONDS = 0.5
LOG_CHECK_SECONDS = 3600.0

# The server needs little of the environment, and the daemon's may hold secrets.
_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "LC_", "LD_", "DYLD_", "MALLOC_", "FAKETIME")

Emit = Callable[..., None]
"""Takes an event's name and its fields, as `Events.emit` does."""


class EmbeddedStore:
    """Starts, watches, restarts and stops the server. Emits what happens:

    store.orphan_ended(pid), store.loading(percent, eta_seconds), store.tail_cut(bytes, kept_in), store.exited(pid,
    how), store.restarted(pid, restarts), store.restart_failed(error).
    """

    def __init__(
        self,
        state: StateDir,
        *,
        binary: Path | None = None,
        fsync: Fsync = "everysec",
        listen: str | None = None,
        emit: Emit | None = None,
    ) -> None:
        self._state = state
        self._files = StoreFiles(state.path)
        self._binary = binary
        self._fsync = fsync
        self._sync = AofSync(self._files.data)
        self._listen = Listen.parse(listen) if listen else None
        self._emit: Emit = emit or _ignore
        self._program: Path | None = None
        self._config = ""
        self._password: str | None = None
        self._process: Process | None = None
        self._ready_at = 0.0
        self._supervisor: asyncio.Task[None] | None = None
        self.restarts = 0
        self.last_error: str | None = None
        """Why the server does not serve; None while it does."""

    @property
    def pid(self) -> int | None:
        """The server's process id while it lives."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def url(self) -> str:
        """The address for clients; holds a password when the server also listens on TCP."""
        return embedded_url(self._state)

    async def start(self) -> str:
        """Starts the server, waits until it has loaded its data, and returns its URL.

        Raises ConfigError, StateDirTaken, PortTaken, StoreUnusable (damaged data; nothing is changed, a copy is
        made) or StoreUnavailable. Waits as long as loading makes progress, and for room on a full disk.
        """
        if self._supervisor is not None:
            return self.url
        await self.prepare()
        await self._launch_with_room()
        if self._fsync == "everysec":
            await self._sync.start()
        self._supervisor = asyncio.create_task(self._supervise(), name="embedded store")
        return self.url

    async def prepare(self) -> None:
        """Checks what can be checked before the server runs; from then on `url` is what it will be. Idempotent."""
        if self._program is not None:
            return
        if not self._state.locked:
            # Without the lock a living daemon's server would be taken for an orphan, and ended.
            raise RuntimeError("lock the state folder before the embedded store starts")
        self._files.check()
        program = (await asyncio.to_thread(find_server, self._binary)).path
        self._make_data_folder()
        self._password = self._settle_password()
        self._config = server_config(self._files, fsync=self._fsync, listen=self._listen, password=self._password)
        self._program = program

    async def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Ends the server with everything written and synced; by force when that takes longer than the timeout."""
        await self._sync.stop()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait([supervisor])
        process, self._process = self._process, None
        if process is not None:
            await _end(process, timeout_seconds)

    def _make_data_folder(self) -> None:
        try:
            self._files.data.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            reason = f"its folder store cannot be made: {error.strerror}"
            raise ConfigError([Problem(str(self._state.path), "daemon.state_dir", reason)]) from None

    def _settle_password(self) -> str | None:
        if self._listen is None:
            self._state.delete_private(PASSWORD_NAME)
            return None
        known = (self._state.read_private(PASSWORD_NAME) or "").strip()
        password = known or secrets.token_urlsafe(32)
        if not known:
            self._state.write_private(PASSWORD_NAME, password + "\n")
        return password

    async def _launch_with_room(self) -> None:
        while True:
            try:
                return await self._launch()
            except StoreFull as error:
                # Looking for room costs nothing, so that it is not done more and more rarely.
                self._note_failure(error)
            await asyncio.sleep(FULL_DISK_POLL_SECONDS)

    async def _launch(self) -> None:
        try:
            await self._launch_once()
        except DataDamaged as damage:
            # The server is dead here, so its files are ours alone.
            tail = self._files.folder / "store.cut"
            try:
                cut_bytes = await asyncio.to_thread(aof.mend, self._files.data, tail, damage.complaint)
            except OSError as error:
                raise StoreUnavailable(
                    f"the store's append-only file has a torn end; to mend it: {error}"
                ) from None
            self._emit("store.tail_cut", bytes=cut_bytes, kept_in=str(tail))
            await self._launch_once()

    async def _launch_once(self) -> None:
        orphan = await end_orphan(self._files)
        if orphan is not None:
            self._emit("store.orphan_ended", pid=orphan)
        try:
            aof.check_accessible(self._files.data, self._files.log, self._files.pid)
            aof.check_listed(self._files.data)
            server_log.check_room(self._files.data)
            since = server_log.rotate(self._files.log)
            self._remove_drafts()
            process = await self._spawn()
        except OSError as error:
            raise StoreUnavailable(f"the store's server cannot be started: {error}") from None
        self._process = process
        try:
            if not await wait_ready(process, self._files.socket, self._password, self._emit):
                listen = str(self._listen) if self._listen else None
                raise server_log.explain_exit(self._files.log, since, _how_ended(process), listen)
        except BaseException:
            await _end(process, STOP_SECONDS)
            raise
        self._ready_at = time.monotonic()
        self.last_error = None

    def _remove_drafts(self) -> None:
        # A server that was killed while it rewrote its file leaves the unfinished one.
        for path in self._files.data.glob("temp-*"):
            path.unlink(missing_ok=True)

    async def _spawn(self) -> Process:
        # The kernel's signal at the parent's death is tied to the thread that forks: here the event loop's, which
        # lives as long as the daemon does.
        command = [str(self._program), "-"]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", str(launcher.__file__), str(os.getpid()), *command]
        with _appending(self._files.log) as log, _giving(self._config) as config:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=config,
                stdout=log,
                stderr=log,
                cwd=self._files.data,
                env=_server_environment(),
                start_new_session=True,
            )

    async def _supervise(self) -> None:
        while self._process is not None:
            await self._wait_for_end(self._process)
            self.last_error = f"the store's server {_how_ended(self._process)}; it is started again"
            self._emit("store.exited", pid=self._process.pid, how=_how_ended(self._process))
            await self._relaunch()

    async def _wait_for_end(self, process: Process) -> None:
        while process.returncode is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), LOG_CHECK_SECONDS)
            with suppress(OSError):
                server_log.rotate(self._files.log)

    async def _relaunch(self) -> None:
        failures = 0 if time.monotonic() - self._ready_at >= STEADY_SECONDS else 1
        while True:
            await asyncio.sleep(_backoff_seconds(failures))
            try:
                await self._launch_with_room()
            except Exception as error:
                self._note_failure(error)
                failures += 1
            else:
                self.restarts += 1
                self._emit("store.restarted", pid=self.pid, restarts=self.restarts)
                return

    def _note_failure(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, CrmdError) else f"{type(error).__name__}: {error}"
        if reason != self.last_error:
            self.last_error = reason
            self._emit("store.restart_failed", error=reason)


async def _end(process: Process, timeout_seconds: float) -> None:
    """SIGTERM makes the server write, sync and leave, as the command SHUTDOWN does, also while it loads."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), timeout_seconds)


def _how_ended(process: Process) -> str:
    code = process.returncode
    if code is not None and code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"exited with {code}"


def _backoff_seconds(failures: int) -> float:
    if failures == 0:
        return 0.0
    longest = min(BACKOFF_MAX_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(failures - 1, 10))
    return random.uniform(longest / 2, longest)


def _appending(path: Path) -> IO[bytes]:
    return open(path, "ab", opener=partial(os.open, mode=0o600))


def _giving(text: str) -> IO[bytes]:
    """A pipe's reading end that gives the text; it has to fit the pipe's buffer, some kilobytes at least."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(text.encode())
    return os.fdopen(reading, "rb")


def _server_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(_ENVIRONMENT)}


def _ignore(_name: str, **_fields: Any) -> None:
    """The default for who does not listen."""


# Waits until a server that was just started has loaded its data and serves


ANSWER_SECONDS = 1.0
FIRST_POLL_SECONDS = 0.003
LAST_POLL_SECONDS = 0.1
REPORT_EVERY_SECONDS = 2.0
# Loading may take long; standing still may not.
STANDSTILL_SECONDS = 60.0


async def wait_ready(process: Process, path: Path, password: str | None, emit: Callable[..., None]) -> bool:
    """True when the process serves on that unix socket, False when it ended first.

    Emits store.loading(percent, eta_seconds). Raises StoreUnavailable after a minute without progress, and
    StateDirTaken when another process answers.
    """
    client = Redis(
        unix_socket_path=str(path),
        password=password,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(NoBackoff(), 0),
        driver_info=None,
    )
    ended = asyncio.create_task(process.wait())
    progress = _Progress(emit)
    delay = FIRST_POLL_SECONDS
    try:
        while not ended.done():
            info = await _ask(client)
            if _is_ready(info, process.pid):
                return True
            progress.note(info)
            await asyncio.wait([ended], timeout=delay)
            delay = min(delay * 1.5, LAST_POLL_SECONDS)
        return False
    finally:
        ended.cancel()
        await client.aclose()


async def _ask(client: Redis) -> dict[str, Any]:
    """What the server says of itself; nothing while it does not answer."""
    try:
        return dict(await client.info("server", "persistence"))
    except (RedisError, OSError):
        return {}


def _is_ready(info: dict[str, Any], pid: int) -> bool:
    if info and int(info["process_id"]) != pid:
        raise StateDirTaken(
            f"the store's socket is served by process {info['process_id']}, not by the one just started; stop it"
        )
    return bool(info) and not int(info["loading"])


class _Progress:
    """Whether loading moves on, and when to say so again."""

    def __init__(self, emit: Callable[..., None]) -> None:
        self._emit = emit
        self._loaded_bytes = -1
        self._moved_at = self._reported_at = time.monotonic()

    def note(self, info: dict[str, Any]) -> None:
        now = time.monotonic()
        loaded_bytes = int(info.get("loading_loaded_bytes", self._loaded_bytes))
        if loaded_bytes != self._loaded_bytes:
            self._loaded_bytes, self._moved_at = loaded_bytes, now
        if now - self._moved_at > STANDSTILL_SECONDS:
            raise StoreUnavailable(
                f"the store's server has made no progress for {STANDSTILL_SECONDS:.0f} s while starting; "
                "its disk may hang: look at store.log in the state folder"
            )
        if info and now - self._reported_at >= REPORT_EVERY_SECONDS:
            self._reported_at = now
            percent, eta = info.get("loading_loaded_perc", 0), info.get("loading_eta_seconds", 0)
            self._emit("store.loading", percent=float(percent), eta_seconds=float(eta))
