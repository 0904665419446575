"""From the options to a connected store: how every command that talks to it begins."""

from __future__ import annotations

import asyncio
import difflib
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from crmd.cli.kit.base import Globals, complain
from crmd.errors import StoreUnavailable, UnknownQueue

if TYPE_CHECKING:
    from crmd.config.load import Loaded
    from crmd.engine.admin.assembly import EngineAdmin

T = TypeVar("T")

PROBE_TIMEOUT_SECONDS = 2.0


@dataclass(frozen=True)
class Session:
    """The engine on the configured store, connected."""

    admin: EngineAdmin
    unconfigured: Mapping[str, str]
    """Queues whose service is not configured, and what is not set, as this command reads the configuration."""

    def require(self, names: Iterable[str]) -> None:
        """Raises UnknownQueue for the first name that no queue has, before anything is done to the others."""
        queues = self.admin.registry.queues
        for name in names:
            if name not in queues:
                near = difflib.get_close_matches(name, queues, n=1)
                hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(queues)}"
                raise UnknownQueue(f"no queue is named {name!r}; {hint}")


def load_settings(options: Globals) -> Loaded:
    """The configuration as this command line sees it; its warnings go to standard error."""
    from crmd.config.load import load

    loaded = load(path=options.config, environ=os.environ, overrides=options.overrides(), cwd=Path.cwd())
    for warning in loaded.warnings:
        complain(f"warning: {warning}")
    return loaded


def in_session(options: Globals, work: Callable[[Session], Awaitable[T]]) -> T:
    """Connects to the store that the configuration names and does the work; never starts a store."""

    async def run() -> T:
        async with connect(options) as session:
            return await work(session)

    return run_async(run())


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine. Ctrl-C raises KeyboardInterrupt at once, also where the coroutine asks or reads a person.

    asyncio's own handler would only cancel the task, which a blocking read does not notice.
    """

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with asyncio.Runner() as runner:
            runner.get_loop().set_exception_handler(_report)
            return runner.run(work)
    finally:
        signal.signal(signal.SIGINT, before)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """As asyncio does, except for the task that Ctrl-C found running: its exception is the command's."""
    if not isinstance(context.get("exception"), KeyboardInterrupt):
        loop.default_exception_handler(context)


@asynccontextmanager
async def connect(options: Globals) -> AsyncIterator[Session]:
    """The engine on the configured store; raises StoreUnavailable that says where it looked."""
    loaded = load_settings(options)
    from crmd.engine.admin.assembly import EngineAdmin
    from crmd.engine.settings import SettingsRegistry

    settings = loaded.settings
    registry = SettingsRegistry(settings.queue_settings(), settings.schedule_settings())
    admin = EngineAdmin.at(store_url(loaded), registry)
    await admin.start()
    try:
        yield Session(admin, settings.unconfigured())
    finally:
        await admin.stop()


def store_url(loaded: Loaded) -> str:
    """The address of the configured store, with credentials; raises StoreUnavailable that says where it looked."""
    from crmd.embedded.server_config import StoreFiles, embedded_url
    from crmd.embedded.state_folder import StateDir

    settings = loaded.settings
    if url := settings.redis.url.get_secret_value():
        return url
    state_dir = settings.daemon.state_dir
    trouble = _probe(StoreFiles(state_dir).socket)
    if trouble is None:
        return embedded_url(StateDir(state_dir))
    where = f"in {loaded.path}" if loaded.path else "in the built-in defaults, as there is no config.toml"
    raise StoreUnavailable(
        f"no store to talk to: redis.url is not set {where}, and {trouble}; start the daemon with `crmd run`, "
        "or say where its state is with --state-dir, or set redis.url"
    )


def _probe(path: Path) -> str | None:
    """What is wrong with the embedded store's socket; None where it answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(PROBE_TIMEOUT_SECONDS)
        try:
            client.connect(str(path))
        except FileNotFoundError:
            return f"there is no {path}"
        except PermissionError:
            return f"{path} is another user's (use sudo)"
        except OSError as error:
            return f"{path} does not answer ({error})"
    return None
