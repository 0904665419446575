"""A real mail server on a free port: aiosmtpd, which can be told to refuse, to be slow and to hang up."""

from __future__ import annotations

import asyncio
import ssl
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

HANG = "hang"
HANG_UP = "hang up"
STAGES = ("EHLO", "MAIL", "RCPT", "DATA", "NOOP")


@dataclass(frozen=True)
class Arrived:
    """One mail that the server took."""

    sender: str
    recipients: list[str]
    content: bytes
    secure: bool
    """Whether it came over TLS."""
    user: str | None

    @property
    def message(self) -> EmailMessage:
        """The mail, parsed."""
        parsed = BytesParser(policy=default).parsebytes(self.content)
        assert isinstance(parsed, EmailMessage)
        return parsed


@dataclass
class MailServer:
    """Takes all mail, unless told otherwise by `then`."""

    tls: ssl.SSLContext | None = None
    """Offers STARTTLS with it, and insists on it."""
    implicit_tls: ssl.SSLContext | None = None
    login: tuple[str, str] | None = None
    size_limit: int = 33_554_432
    port: int = 0
    arrived: list[Arrived] = field(default_factory=list)
    connections: int = 0
    """All that were ever made."""
    most_at_once: int = 0
    commands: list[str] = field(default_factory=list)
    """What was said, in order; without arguments."""

    def __post_init__(self) -> None:
        self.released = asyncio.Event()
        self._next: dict[str, list[str]] = {}
        self._always: dict[str, str] = {}
        self._protocols: set[_Protocol] = set()
        self._server: asyncio.Server | None = None

    def then(self, stage: str, *answers: str) -> None:
        """What the next commands of a stage are answered with: a line, HANG or HANG_UP.

        Stages are those of STAGES, and END for the answer to the whole mail.
        """
        self._next.setdefault(stage, []).extend(answers)

    def always(self, stage: str, answer: str) -> None:
        """What all commands of a stage are answered with."""
        self._always[stage] = answer

    async def start(self) -> None:
        """Listens on a free port, the same one where it did before."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._make, "127.0.0.1", self.port, ssl=self.implicit_tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections and closes the port."""
        self.released.set()
        self.hang_up()
        if self._server:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    def hang_up(self) -> None:
        """Closes all connections, as servers do with idle ones."""
        for protocol in list(self._protocols):
            protocol.hang_up()

    @property
    def open_count(self) -> int:
        """Connections that are open now."""
        return len(self._protocols)

    async def act(self, stage: str, protocol: _Protocol) -> str | None:
        """What to answer in place of the server's own answer; may hang, or hang up."""
        waiting = self._next.get(stage)
        answer = waiting.pop(0) if waiting else self._always.get(stage)
        if answer == HANG:
            await self.released.wait()
        if answer in (HANG, HANG_UP):
            protocol.hang_up()
            return "421 gone"
        return answer

    def joined(self, protocol: _Protocol) -> None:
        """A connection was made."""
        self.connections += 1
        self._protocols.add(protocol)
        self.most_at_once = max(self.most_at_once, len(self._protocols))

    def left(self, protocol: _Protocol) -> None:
        """A connection is over."""
        self._protocols.discard(protocol)

    def _make(self) -> _Protocol:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # aiosmtpd warns of a login without TLS, which is on purpose here
            return _Protocol(
                self,
                hostname="mail.test",
                loop=asyncio.get_running_loop(),
                data_size_limit=self.size_limit,
                tls_context=self.tls,
                require_starttls=self.tls is not None,
                auth_required=self.login is not None,
                auth_require_tls=self.tls is not None,
                authenticator=self._authenticate,
            )

    def _authenticate(self, _server: Any, _session: Any, _envelope: Any, _how: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        given = data.login.decode(), data.password.decode()
        return AuthResult(success=given == self.login, handled=False, auth_data=given[0])


class _Protocol(SMTP):
    def __init__(self, mail_server: MailServer, **settings: Any) -> None:
        super().__init__(_Handler(mail_server, self), **settings)
        self._mail_server = mail_server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self not in self._mail_server._protocols:  # made a second time by STARTTLS
            self._mail_server.joined(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._mail_server.left(self)
        super().connection_lost(error)

    def hang_up(self) -> None:
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    async def smtp_NOOP(self, arg: str) -> None:
        await self._said("NOOP", lambda: super(_Protocol, self).smtp_NOOP(arg))

    async def smtp_EHLO(self, hostname: str) -> None:
        await self._said("EHLO", lambda: super(_Protocol, self).smtp_EHLO(hostname))

    async def smtp_MAIL(self, arg: str | None) -> None:
        await self._said("MAIL", lambda: super(_Protocol, self).smtp_MAIL(arg))

    async def smtp_RCPT(self, arg: str | None) -> None:
        await self._said("RCPT", lambda: super(_Protocol, self).smtp_RCPT(arg))

    async def smtp_DATA(self, arg: str | None) -> None:
        await self._said("DATA", lambda: super(_Protocol, self).smtp_DATA(arg))

    async def _said(self, stage: str, usual: Callable[[], Awaitable[None]]) -> None:
        self._mail_server.commands.append(stage)
        answer = await self._mail_server.act(stage, self)
        if answer is None:
            await usual()
        elif self.transport and not self.transport.is_closing():
            await self.push(answer)


class _Handler:
    def __init__(self, mail_server: MailServer, protocol: _Protocol) -> None:
        self._mail_server = mail_server
        self._protocol = protocol

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await self._mail_server.act("END", self._protocol)
        if answer is not None and not answer.startswith("250 taken, then"):
            return answer
        assert isinstance(envelope.content, bytes)
        self._mail_server.arrived.append(
            Arrived(
                sender=envelope.mail_from or "",
                recipients=list(envelope.rcpt_tos),
                content=envelope.content,
                secure=session.ssl is not None or self._mail_server.implicit_tls is not None,
                user=session.auth_data if session.authenticated else None,
            )
        )
        if answer is not None:
            self._protocol.hang_up()
        return "250 OK queued as 4711"
