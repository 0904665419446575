"""The demo's daemon, and the ways its users reach it: the command line and HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from crmd.errors import CrmdError
from crmd.sandbox.demo.folder import DemoFolder

READY_SECONDS = 60.0
STOP_SECONDS = 40.0
"""A little above the daemon's own drain."""
COMMAND_SECONDS = 90.0
ASK_AGAIN_SECONDS = 0.2
_INHERITED = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "TZ")
"""Nothing that configures crmd: the demo has its own configuration."""


class Crm:
    """A real `crmd run`, and whoever works with it. `say` gets each command before it runs."""

    def __init__(self, folder: DemoFolder, port: int, say: Callable[[str], None]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.password = ""
        self._folder = folder
        self._say = say
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Starts the daemon and waits until it is ready. Raises CrmdError."""
        with self._folder.log.open("ab") as log:
            # In a session of its own: Ctrl-C is for the demo, which then ends all in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._typed("run"), stdout=log, stderr=log, env=_environ(), start_new_session=True
            )
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=COMMAND_SECONDS))
        try:
            async with asyncio.timeout(READY_SECONDS):
                await until(self._is_ready)
        except TimeoutError:
            raise CrmdError(f"the daemon is not ready after {READY_SECONDS:g} s; see {self._folder.log}") from None
        shown: dict[str, str] = await self.command("password", "show", quiet=True)
        self.password = shown["password"]

    async def stop(self) -> None:
        """Ends the daemon. Idempotent, also before start."""
        if self._session:
            await self._session.close()
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def ended(self) -> None:
        """Returns only when the daemon has ended by itself; raises CrmdError then."""
        if self._process is not None:
            code = await self._process.wait()
            raise CrmdError(f"the daemon ended with exit code {code}; see {self._folder.log}")

    async def command(self, *arguments: str, quiet: bool = False) -> Any:
        """What a command prints as JSON. Raises CrmdError where it fails."""
        if not quiet:
            self._say(shlex.join(["crmd", *arguments]))
        process = await asyncio.create_subprocess_exec(
            *self._typed("--json", *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environ(),
            cwd=self._folder.path,
        )
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            said = err.decode(errors="replace").strip() or out.decode(errors="replace").strip()
            raise CrmdError(f"crmd {arguments[0]} failed: {said}")
        return json.loads(out)

    async def show(self, *arguments: str) -> str:
        """What a command prints for people, in this terminal's colours."""
        self._say(shlex.join(["crmd", *arguments]))
        process = await asyncio.create_subprocess_exec(
            *self._typed(*arguments), stdout=asyncio.subprocess.PIPE, env=_environ()
        )
        out, _ = await process.communicate()
        return out.decode(errors="replace").rstrip()

    async def upload(self, name: str) -> str:
        """Uploads a file of the folder; returns its id."""
        path = f"/api/v1/files?name={name}"
        self._say_curl("--data-binary", f"@{name}", path)
        stored = await self._ask("POST", path, data=self._folder.read(name))
        return str(json.loads(stored)["id"])

    async def download(self, file_id: str, name: str) -> None:
        """Fetches a file into the folder."""
        self._say_curl("-o", name, f"/api/v1/files/{file_id}")
        self._folder.write(name, await self._ask("GET", f"/api/v1/files/{file_id}"))

    async def get(self, path: str) -> Any:
        """One answer of the API."""
        return json.loads(await self._ask("GET", path))

    async def _ask(self, method: str, path: str, **options: Any) -> bytes:
        if self._session is None:
            raise RuntimeError("the daemon is not started")
        auth = aiohttp.BasicAuth("admin", self.password)
        async with self._session.request(method, self.url + path, auth=auth, **options) as response:
            body = await response.read()
            if response.status >= 400:
                raise CrmdError(f"{method} {path} was answered {response.status}: {body.decode(errors='replace')}")
            return body

    def _say_curl(self, *options: str) -> None:
        """The same request as a person types it; the last option is the path."""
        *given, path = options
        self._say(shlex.join(["curl", "-u", f"admin:{self.password}", *given, self.url + path]))

    async def _is_ready(self) -> bool:
        if self._process is not None and self._process.returncode is not None:
            code = self._process.returncode
            raise CrmdError(f"the daemon did not start (exit code {code}); see {self._folder.log}")
        if self._session is None:
            return False
        try:
            async with self._session.get(f"{self.url}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    def _typed(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "crmd", "--config", str(self._folder.config.absolute()), *arguments]


def _environ() -> dict[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


async def until(look: Callable[[], Awaitable[bool]]) -> None:
    """Asks now and then, until the answer is yes."""
    while True:
        if await look():
            return
        await asyncio.sleep(ASK_AGAIN_SECONDS)
