"""A mail server that keeps what it gets and forwards nothing."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Callable

from crmd.errors import PortTaken
from crmd.sandbox.faults import HOLD_SECONDS, Fault, FaultKind, Faults, Service, SmtpStage
from crmd.sandbox.mails import ReceivedMail
from crmd.sandbox.settings import SandboxSettings

MAX_MAIL_BYTES = 35 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
MAX_CONNECTIONS = 100
IDLE_SECONDS = 300.0

Keep = Callable[[ReceivedMail], None]
_PATH = re.compile(r"(?:FROM|TO):\s*<([^<>\s]*)>", re.IGNORECASE)
_STAGES = {"HELO": SmtpStage.EHLO} | {stage.upper(): stage for stage in SmtpStage}
_CLOSING = "421 "


class SmtpSink:
    """Takes mail of everyone for everyone who does what the settings want; `keep` gets each.

    `on_command` is told each command before it is answered.
    """

    def __init__(
        self,
        keep: Keep,
        faults: Faults,
        settings: SandboxSettings | None = None,
        on_command: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.port = 0
        self.connection_count = 0
        """All that were ever made."""
        self._keep, self._faults, self._on_command = keep, faults, on_command
        self._settings = settings or SandboxSettings()
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        """Listens; port 0 is any free one. Raises PortTaken."""
        tls = self._settings.smtp_tls if self._settings.smtp_security == "tls" else None
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=MAX_LINE_BYTES, ssl=tls)
        except OSError as error:
            reason = error.strerror or error
            raise PortTaken(f"cannot take mail on {host}:{port}: {reason}; choose another --smtp-port") from None
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Closes all connections. Idempotent, also before start."""
        if self._server:
            self._server.close()
        await self.hang_up()
        self._server = None

    async def hang_up(self) -> None:
        """Closes all connections, as servers do with idle ones."""
        for session in self._sessions:
            session.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)

    @property
    def open_count(self) -> int:
        """Connections that are open now."""
        return len(self._sessions)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        session = asyncio.create_task(self._serve(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._sessions) > MAX_CONNECTIONS:
                writer.write(b"421 4.7.0 too many connections\r\n")
                return
            await _Session(reader, writer, self._settings, self._keep, self._faults, self._on_command).run()
        except (OSError, TimeoutError, EOFError, ValueError):
            return  # the client left, was silent for too long, or sent an endless line
        finally:
            writer.close()


class _Session:
    """One connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        settings: SandboxSettings,
        keep: Keep,
        faults: Faults,
        on_command: Callable[[str], None],
    ) -> None:
        self._reader, self._writer, self._settings = reader, writer, settings
        self._keep, self._faults, self._on_command = keep, faults, on_command
        self._encrypted = settings.smtp_security == "tls"
        self._username: str | None = None
        self._sender: str | None = None
        self._recipients: list[str] = []

    async def run(self) -> None:
        await self._say("220 sandbox ESMTP")
        while line := await self._line():
            verb, _, rest = line.decode("utf-8", "replace").strip().partition(" ")
            verb = verb.upper()
            self._on_command(verb)
            if verb == "QUIT":
                await self._say("221 2.0.0 bye")
                return
            answer = await self._spoilt(verb, rest) or await self._answer(verb, rest)
            await self._say(*answer)
            if answer[0].startswith(_CLOSING):
                return
            if verb == "STARTTLS" and (tls := self._starttls):
                await self._encrypt(tls)

    async def _answer(self, verb: str, rest: str) -> tuple[str, ...]:
        match verb:
            case "EHLO":
                return self._greeting()
            case "HELO" | "NOOP":
                return ("250 sandbox",)
            case "STARTTLS" if self._starttls:
                return ("220 2.0.0 go on",)
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

    def _greeting(self) -> tuple[str, ...]:
        last = "STARTTLS" if self._starttls else "AUTH PLAIN"
        return ("250-sandbox", f"250-SIZE {MAX_MAIL_BYTES}", "250-8BITMIME", "250-SMTPUTF8", f"250 {last}")

    @property
    def _starttls(self) -> ssl.SSLContext | None:
        """What STARTTLS, which has to come first, is done with; None where it is not offered, or done."""
        due = self._settings.smtp_security == "starttls" and not self._encrypted
        return self._settings.smtp_tls if due else None

    async def _encrypt(self, tls: ssl.SSLContext) -> None:
        await self._writer.start_tls(tls)
        self._encrypted = True
        self._sender, self._recipients = None, []

    async def _log_in(self, rest: str) -> str:
        method, _, given = rest.partition(" ")
        if self._starttls:
            return "530 5.7.0 STARTTLS first"
        if method.upper() != "PLAIN":
            return "504 5.5.4 AUTH PLAIN only"
        if not given:
            await self._say("334 ")
            given = (await self._line()).decode("ascii", "replace").strip()
        try:
            _, username, password = base64.b64decode(given).decode().split("\0")
        except ValueError:
            return "501 5.5.2 not what AUTH PLAIN takes"
        wanted = self._settings.smtp_username, self._settings.smtp_password
        if wanted[0] and (username, password) != wanted:
            return "535 5.7.8 wrong name or password"
        self._username = username
        return "235 2.7.0 welcome"

    def _begin(self, rest: str) -> str:
        found = _PATH.match(rest)
        if self._starttls:
            return "530 5.7.0 STARTTLS first"
        if self._settings.smtp_username and self._username is None:
            return "530 5.7.0 log in first"
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
        mail = ReceivedMail(sender, recipients, b"".join(lines), self._username, self._encrypted)
        fault = self._faults.take(Service.SMTP)
        kept = fault is not None and bool(fault.accepted)
        if kept:
            self._keep(mail)
        refusal = await self._act(fault)
        if refusal is None and not kept:
            self._keep(mail)
        return refusal or "250 2.0.0 kept"

    async def _spoilt(self, verb: str, rest: str) -> tuple[str, ...]:
        """What is said in place of the answer to a command; nothing where it is answered as ever."""
        if verb not in _STAGES:
            return ()
        path = _PATH.match(rest)
        fault = self._faults.take(Service.SMTP, path[1] if path else None, stage=_STAGES[verb])
        refusal = await self._act(fault)
        return () if refusal is None else (refusal,)

    async def _act(self, fault: Fault | None) -> str | None:
        """Does what goes wrong; the reply that is then given, None for the usual one."""
        if fault is None:
            return None
        if fault.kind in (FaultKind.DELAY, FaultKind.TIMEOUT):
            await self._faults.hold(HOLD_SECONDS if fault.seconds is None else fault.seconds)
        if fault.kind in (FaultKind.TIMEOUT, FaultKind.DROP):
            self._writer.transport.abort()
            raise EOFError
        code = fault.code
        return f"{code} {fault.text or f'{str(code)[0]}.0.0 by the sandbox'}" if code is not None else None

    async def _line(self) -> bytes:
        async with asyncio.timeout(IDLE_SECONDS):
            return await self._reader.readline()

    async def _say(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self._writer.drain()
