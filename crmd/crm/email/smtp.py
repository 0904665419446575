"""Mail over SMTP through a small pool of connections."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pydantic import SecretStr

from crmd.config.mailbox import Mailbox, read_mailbox
from crmd.crm.email.smtp_outcomes import Mail, Outcome
from crmd.crm.email.smtp_session import ConnectFailed, ConnectionLost, Security, Server, Session
from crmd.crm.outbound.adaptive_rate import AdaptiveRate

IDLE_SECONDS = 60.0
"""An idle connection is closed after this long; servers commonly close it after 5 minutes, some after one."""
PROBE_AFTER_SECONDS = 2.0
"""A connection that was idle for this long is tested before a mail goes over it."""
MAILS_PER_CONNECTION = 100
"""Servers commonly end a connection after this many, or slow it down."""

_HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,250}[A-Za-z0-9])?")


class AllBusy(Exception):
    """No connection became free in time."""


class SmtpClient:
    """Sends mail over at most `connections` connections, which are kept while there is more to send."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        security: Security,
        username: str,
        password: SecretStr,
        sender: str,
        connections: int,
        timeout_seconds: float,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        rate: AdaptiveRate | None = None,
    ) -> None:
        self.configured = bool(host)
        self.sender: Mailbox | None = read_mailbox(sender) if sender else None
        """Whom mail is from where the job does not say."""
        self.adaptive_rate = rate or AdaptiveRate()
        self._server = Server(host, port, security, username, password, timeout_seconds, _local_name())
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._slots = asyncio.Semaphore(connections)
        self._idle: list[Session] = []
        """The one used last stands last, and is used next: in quiet times the others age and are closed."""
        self._sweep: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        self._open = False

    async def start(self) -> None:
        """Makes ready to send; idempotent."""
        self._open = True

    async def stop(self) -> None:
        """Closes all idle connections; idempotent, also before start."""
        self._open = False
        if self._sweep:
            self._sweep.cancel()
            self._sweep = None
        idle, self._idle = self._idle, []
        await asyncio.gather(*(session.close() for session in idle), *self._closing)

    @property
    def idle_count(self) -> int:
        """Connections that are open and not in use."""
        return len(self._idle)

    @asynccontextmanager
    async def slot(self, timeout_seconds: float) -> AsyncIterator[Slot]:
        """The right to one connection; raises AllBusy where none is free in time.

        To be taken before a mail is put together: so no more mails than connections are in memory.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._slots.acquire()
        except TimeoutError:
            raise AllBusy from None
        try:
            yield Slot(self)
        finally:
            self._slots.release()

    async def _send(self, mail: Mail) -> Outcome:
        while session := await self._take_idle():
            try:
                return await self._offer(session, mail)
            except ConnectionLost:
                continue  # nothing was said about this mail: the next connection takes it
        try:
            session = await Session.open(self._server, await self._tls_context())
        except ConnectFailed as failed:
            return failed.outcome
        return await self._offer(session, mail)

    async def _offer(self, session: Session, mail: Mail) -> Outcome:
        try:
            outcome = await session.send(mail)
        except BaseException:
            session.cut()
            raise
        await self._give_back(session)
        return outcome

    async def _take_idle(self) -> Session | None:
        while self._idle:
            session = self._idle.pop()
            rested_seconds = self._clock() - session.idle_since
            fresh = rested_seconds < PROBE_AFTER_SECONDS and session.sound
            try:
                if fresh or (rested_seconds < self._idle_seconds and await session.is_alive()):
                    return session
            except asyncio.CancelledError:
                session.cut()
                raise
            session.cut()
        return None

    async def _give_back(self, session: Session) -> None:
        if session.sound and self._open and session.mails_count < MAILS_PER_CONNECTION:
            session.idle_since = self._clock()
            self._idle.append(session)
            self._sweep_later()
        else:
            await session.close()

    def _sweep_later(self) -> None:
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._idle_seconds, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        now = self._clock()
        kept = []
        for session in self._idle:
            if session.sound and now - session.idle_since < self._idle_seconds:
                kept.append(session)
                continue
            task = asyncio.create_task(session.close(), name="close mail connection")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._idle = kept
        if kept:
            self._sweep_later()

    async def _tls_context(self) -> ssl.SSLContext | None:
        """Verifies certificates against the system's authorities, or those that SSL_CERT_FILE names."""
        if self._server.security != "none" and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls


class Slot:
    """The right to send one mail after the other over one connection."""

    def __init__(self, client: SmtpClient) -> None:
        self._client = client

    async def send(self, mail: Mail) -> Outcome:
        """Offers a mail to the server and says what is known of it afterwards."""
        return await self._client._send(mail)


def _local_name() -> str:
    """Our host's name as it is, not looked up: that can take seconds where DNS is slow."""
    name = socket.gethostname()
    return name if _HOST_NAME.fullmatch(name) else "localhost"
