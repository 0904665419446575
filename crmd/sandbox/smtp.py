"""A mail server that keeps what it gets and sends nothing on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from crmd.errors import PortTaken
from crmd.sandbox.faults import HOLD_SECONDS, Fault, FaultKind, Faults, Service

MAX_MAIL_BYTES = 35 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
MAX_CONNECTIONS = 100
IDLE_SECONDS = 300.0
GREETING = ("250-sandbox", f"250-SIZE {MAX_MAIL_BYTES}", "250-8BITMIME", "250-SMTPUTF8", "250 AUTH PLAIN")

Keep = Callable[[str, list[str], bytes], None]
_PATH = re.compile(r"(?:FROM|TO):\s*<([^<>\s]*)>", re.IGNORECASE)


class SmtpSink:
    """Takes mail of everyone for everyone, with any name and password; `keep` gets sender, recipients and mail."""

    def __init__(self, keep: Keep, faults: Faults) -> None:
        self.port = 0
        self._keep, self._faults = keep, faults
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        """Listens; port 0 is any free one. Raises PortTaken."""
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=MAX_LINE_BYTES)
        except OSError as error:
            reason = error.strerror or error
            raise PortTaken(f"cannot take mail on {host}:{port}: {reason}; choose another --smtp-port") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes all connections. Idempotent, also before start."""
        if self._server:
            self._server.close()
        for session in self._sessions:
            session.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)
        self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.create_task(self._serve(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._sessions) > MAX_CONNECTIONS:
                writer.write(b"421 4.7.0 too many connections\r\n")
                return
            await _Session(reader, writer, self._keep, self._faults).run()
        except (OSError, TimeoutError, EOFError, ValueError):
            return  # the client left, was silent for too long, or sent an endless line
        finally:
            writer.close()


class _Session:
    """One connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: Keep, faults: Faults
    ) -> None:
        self._reader, self._writer = reader, writer
        self._keep, self._faults = keep, faults
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def run(self) -> None:
        await self._say("220 sandbox ESMTP")
        while line := await self._line():
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            if verb.upper() == "QUIT":
                await self._say("221 2.0.0 bye")
                return
            await self._say(*await self._answer(verb.upper(), rest))

    async def _answer(self, verb: str, rest: str) -> tuple[str, ...]:
        match verb:
            case "EHLO":
                return GREETING
            case "HELO" | "NOOP":
                return ("250 sandbox",)
            case "AUTH":
                return (await self._log_in(rest),)
            case "MAIL":
                return (self._begin(rest),)
            case "RCPT":
                return (self._recipient(rest),)
            case "DATA":
                return (await self._data(),)
            case "RSET":
                self._sender, self._recipients = None, []
                return ("250 2.0.0 forgotten",)
        return ("500 5.5.2 no such command",)

    async def _log_in(self, rest: str) -> str:
        method, _, given = rest.partition(" ")
        if method.upper() != "PLAIN":
            return "504 5.5.4 AUTH PLAIN only"
        if not given:
            await self._say("334 ")
            await self._line()
        return "235 2.7.0 welcome"

    def _begin(self, rest: str) -> str:
        found = _PATH.match(rest)
        if not found:
            return "501 5.5.4 MAIL FROM:<address>"
        self._sender, self._recipients = found[1], []
        return "250 2.1.0 go on"

    def _recipient(self, rest: str) -> str:
        found = _PATH.match(rest)
        if self._sender is None or not found or not found[1]:
            return "503 5.5.1 MAIL first" if self._sender is None else "501 5.5.4 RCPT TO:<address>"
        self._recipients.append(found[1])
        return "250 2.1.5 go on"

    async def _data(self) -> str:
        sender, recipients = self._sender, self._recipients
        if sender is None or not recipients:
            return "503 5.5.1 RCPT first"
        await self._say("354 end with a dot")
        lines, size = [], 0
        while (line := await self._line()) not in (b".\r\n", b""):
            size += len(line)
            if size <= MAX_MAIL_BYTES:
                lines.append(line.removeprefix(b"."))
        if not line:
            raise EOFError
        self._sender, self._recipients = None, []
        if size > MAX_MAIL_BYTES:
            return "552 5.3.4 too large"
        refusal = await self._fault(self._faults.take(Service.SMTP))
        if refusal is None:
            self._keep(sender, recipients, b"".join(lines))
        return refusal or "250 2.0.0 kept"

    async def _fault(self, fault: Fault | None) -> str | None:
        """What is said in place of taking the mail; None where it is taken."""
        if fault is None:
            return None
        if fault.kind in (FaultKind.DELAY, FaultKind.TIMEOUT):
            await self._faults.hold(HOLD_SECONDS if fault.seconds is None else fault.seconds)
        if fault.kind in (FaultKind.TIMEOUT, FaultKind.DROP):
            self._writer.transport.abort()
            raise EOFError
        code = fault.code
        return f"{code} {str(code)[0]}.0.0 by the sandbox" if code is not None else None

    async def _line(self) -> bytes:
        async with asyncio.timeout(IDLE_SECONDS):
            return await self._reader.readline()

    async def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()
