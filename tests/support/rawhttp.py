"""HTTP as bytes on a socket: what no well-behaved client would send, and exactly what comes back."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from multidict import CIMultiDict

ANSWER_SECONDS = 30.0
"""A hang is a failure; a busy machine is not."""


@dataclass(slots=True)
class Answer:
    """One response."""

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


class RawConnection:
    """One connection. `async with await RawConnection.open(address) as connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, address: tuple[str, int], first: bytes = b"") -> Self:
        """Connects, and sends the first bytes."""
        connection = cls(*await asyncio.open_connection(*address))
        connection.send(first)
        return connection

    @classmethod
    async def deaf(cls, address: tuple[str, int], first: bytes) -> Self:
        """Connects, sends, and reads nothing."""
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        await asyncio.get_running_loop().sock_connect(peer, address)
        connection = cls(*await asyncio.open_connection(sock=peer, limit=1))
        connection.send(first)
        return connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def send(self, data: bytes) -> None:
        """Sends bytes; what the other side has closed swallows them."""
        if data and not self._writer.is_closing():
            self._writer.write(data)

    async def drain(self) -> None:
        """Waits until what was sent is nearly all with the kernel."""
        await self._writer.drain()

    async def answer(self, *, head: bool = False) -> Answer:
        """The next response; raises TimeoutError after ANSWER_SECONDS, AssertionError where none will come."""
        found = await self.answer_if_any(head=head)
        assert found, "the connection was closed or reset without a response"
        return found

    async def answer_if_any(self, *, head: bool = False) -> Answer | None:
        """As `answer`, but None where the connection was closed or reset without a response."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._answer(head)
        except (ConnectionError, asyncio.IncompleteReadError):
            return None

    async def closed(self) -> bool:
        """Waits until the other side closes; False where it sends something instead."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._reader.read(1) == b""
        except ConnectionError:
            return True

    def is_closed(self) -> bool:
        """Whether the other side has closed already."""
        return self._reader.at_eof() or self._reader.exception() is not None

    def drop(self) -> None:
        """Closes it, and does not wait until it is closed."""
        self._writer.close()

    async def close(self) -> None:
        """Closes it."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except (ConnectionError, TimeoutError):
            return

    async def _answer(self, head: bool) -> Answer:
        status_line = await self._reader.readuntil(b"\r\n")
        answer = Answer(int(status_line.split()[1]))
        while line := (await self._reader.readuntil(b"\r\n")).rstrip(b"\r\n"):
            name, _, value = line.partition(b":")
            answer.headers.add(name.decode(), value.strip().decode("latin-1"))
        if answer.status == 100:
            return await self._answer(head)
        if head or answer.status in (204, 304):
            return answer
        if answer.headers.get("Transfer-Encoding") == "chunked":
            answer.body = await self._chunks()
        else:
            answer.body = await self._reader.readexactly(int(answer.headers.get("Content-Length", 0)))
        return answer

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += await self._reader.readexactly(size)
            await self._reader.readexactly(2)
        await self._reader.readuntil(b"\r\n")
        return body


async def ask(address: tuple[str, int], request: bytes) -> Answer:
    """The answer to a request on a connection of its own."""
    async with await RawConnection.open(address, request) as connection:
        return await connection.answer(head=request.startswith(b"HEAD "))
