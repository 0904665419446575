"""A man in the middle of a unix socket: delays, stalls, cuts, and loses replies."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

CHUNK = 1 << 16


class _Line:
    """One client's connection."""

    def __init__(self) -> None:
        self.losing = False
        self.muted = False
        self.said = b""
        self.due_at = 0.0
        """When the last reply that is held back goes on, on the loop's clock."""


class Proxy:
    """Passes bytes between clients and a server, and spoils them when told to."""

    def __init__(self, target: Path) -> None:
        self._target = str(target)
        # Not pytest's tmp_path: a unix socket's path may have 107 bytes only.
        self._folder = Path(tempfile.mkdtemp(prefix="crmd-proxy-"))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lines: set[_Line] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lose: bytes | None = None
        self.reply_delay = 0.0
        """Seconds that each reply is held back."""
        self.refusing = False
        """Whether new connections are closed at once."""
        self.lost = asyncio.Event()
        """Set once a reply was lost."""
        self.requests = 0
        """Packets that clients sent: each is a round trip, or the begin of one."""

    @property
    def url(self) -> str:
        """Where clients connect to."""
        return f"unix://{self._folder}/p"

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return len(self._writers) // 2

    async def start(self) -> None:
        """Listens."""
        self._server = await asyncio.start_unix_server(self._serve, f"{self._folder}/p")

    async def close(self) -> None:
        """Ends everything."""
        if self._server:
            self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        shutil.rmtree(self._folder, ignore_errors=True)

    def stall(self) -> None:
        """Keeps the connections and passes nothing, as a cable that is pulled."""
        self._flowing.clear()

    def flow(self) -> None:
        """Ends a stall."""
        self._flowing.set()

    def cut(self) -> None:
        """Closes every connection."""
        for writer in self._writers:
            writer.close()

    def lose_reply(self, needle: str) -> None:
        """Loses the reply to the next request that holds `needle`, and cuts that connection."""
        self.lost.clear()
        self._lose = needle.encode()

    def mute(self, needle: str) -> int:
        """Swallows all further replies on connections that have sent `needle`; returns how many these are."""
        muted = [line for line in self._lines if needle.encode() in line.said]
        for line in muted:
            line.muted = True
        return len(muted)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.refusing:
                await self._connect(reader, writer)
        except asyncio.CancelledError:
            pass  # by close(); asyncio's streams complain of cancelled handlers
        finally:
            await _close(writer)
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream = await asyncio.open_unix_connection(self._target)
        except OSError:
            return
        self._writers |= {writer, upstream}
        line = _Line()
        self._lines.add(line)
        ways = [
            asyncio.create_task(self._pass_requests(reader, upstream, line)),
            asyncio.create_task(self._pass_replies(upstream_reader, writer, line)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._writers -= {writer, upstream}
            self._lines.discard(line)
            await _close(upstream)

    async def _pass_requests(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                self.requests += 1
                await self._flowing.wait()
                if self._lose and self._lose in data:
                    self._lose = None
                    line.losing = True
                line.said = (line.said + data)[-CHUNK:]
                writer.write(data)
                await writer.drain()

    async def _pass_replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: _Line) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._flowing.wait()
                if line.muted:
                    continue
                if line.losing:
                    self.lost.set()
                    return
                # Each on its own, as on a long way: what follows is not held up any longer.
                line.due_at = max(loop.time() + self.reply_delay, line.due_at)
                loop.call_at(line.due_at, _write, writer, data)


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def proxy(target: Path) -> AsyncIterator[Proxy]:
    """A proxy in front of the server whose socket is `target`."""
    made = Proxy(target)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


@contextmanager
def proxy_in_thread(target: Path) -> Iterator[tuple[Proxy, Callable[[Callable[[], None]], None]]]:
    """A proxy for tests without an event loop, and what runs a method of it, such as `stall`, in its own loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    made = Proxy(target)

    async def call(method: Callable[[], None]) -> None:
        method()

    asyncio.run_coroutine_threadsafe(made.start(), loop).result(5)
    try:
        yield made, lambda method: asyncio.run_coroutine_threadsafe(call(method), loop).result(5)
    finally:
        asyncio.run_coroutine_threadsafe(made.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
