"""One connection to a mail server."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from crmd.crm.email.smtp_outcomes import (
    Accepted,
    Mail,
    NotTaken,
    Outcome,
    Refused,
    RefusedRecipient,
    Unclear,
    Unusable,
    one_line,
)

if TYPE_CHECKING:
    from aiosmtplib import SMTP
    from aiosmtplib.errors import SMTPResponseException

Security = Literal["starttls", "tls", "none"]

ALIVE_SECONDS = 5.0
"""A connection that does not answer NOOP within this is taken for dead."""
QUIT_SECONDS = 0.5
"""Saying goodbye is polite and must not hold up the end of the daemon."""
SLOWEST_BYTES_PER_SECOND = 100_000
"""The answer to a large mail is waited for longer, as it has to cross the network first."""

_START_INPUT = 354
_CLOSING = 421
# The login is missing, too weak, wrong, or has to be encrypted: no mail will do better.
_LOGIN_CODES = frozenset({530, 534, 535, 538})


@dataclass(frozen=True, slots=True)
class Server:
    """Where the server is, and how it is spoken to."""

    host: str
    port: int
    security: Security
    username: str
    password: SecretStr
    timeout_seconds: float
    local_name: str
    """What we call ourselves."""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class ConnectionLost(Exception):
    """The connection had been idle, and the server had closed it: nothing was said of the mail."""


class ConnectFailed(Exception):
    """No session came about; `outcome` says what that means for the mail."""

    def __init__(self, outcome: Unusable | NotTaken) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Session:
    """A connection after greeting, TLS and login. One mail at a time."""

    def __init__(self, smtp: SMTP, server: Server) -> None:
        self._smtp = smtp
        self._server = server
        self._sound = True
        self.mails_count = 0
        """Mails that were offered over this connection."""
        self.idle_since = 0.0
        """On the pool's clock."""

    @classmethod
    async def open(cls, server: Server, tls: ssl.SSLContext | None) -> Session:
        """Connects and logs in; raises ConnectFailed."""
        from aiosmtplib import SMTP

        smtp = SMTP(
            hostname=server.host,
            port=server.port,
            username=server.username or None,
            password=server.password.get_secret_value() if server.username else None,
            local_hostname=server.local_name,
            timeout=server.timeout_seconds,
            use_tls=server.security == "tls",
            start_tls=server.security == "starttls",
            tls_context=tls,
        )
        try:
            await smtp.connect()
            if smtp.is_ehlo_or_helo_needed:
                await smtp.ehlo()
        except (OSError, _smtp_error()) as error:
            smtp.close()
            raise ConnectFailed(_why_not_open(error, server)) from None
        return cls(smtp, server)

    @property
    def sound(self) -> bool:
        """Whether another mail may be sent; False after a transaction that broke off."""
        return self._sound and self._smtp.is_connected

    async def is_alive(self) -> bool:
        """Whether the server answers."""
        if not self.sound:
            return False
        try:
            await self._smtp.noop(timeout=min(ALIVE_SECONDS, self._server.timeout_seconds))
        except (OSError, _smtp_error()):
            return False
        return True

    async def send(self, mail: Mail) -> Outcome:
        """Offers one mail. Raises ConnectionLost where an idle connection turns out to be closed."""
        transaction = _Transaction(self._smtp, self._server, mail, reused=self.mails_count > 0)
        self.mails_count += 1
        self._sound = False  # until the transaction is over: one that is cancelled leaves the server in the middle
        outcome = await transaction.run()
        self._sound = isinstance(outcome, Accepted) or (isinstance(outcome, Refused) and await self._reset())
        return outcome

    async def close(self) -> None:
        """Says goodbye and closes."""
        try:
            if self.sound:
                await self._smtp.quit(timeout=QUIT_SECONDS)
        except (OSError, _smtp_error()):
            pass  # a server that does not say goodbye is left all the same
        finally:
            self._smtp.close()

    def cut(self) -> None:
        """Closes without a word."""
        self._sound = False
        self._smtp.close()

    async def _reset(self) -> bool:
        try:
            await self._smtp.rset(timeout=self._server.timeout_seconds)
        except (OSError, _smtp_error()):
            return False
        return True


class _Transaction:
    """MAIL, RCPT, DATA: what is known of the mail follows from how far it came."""

    def __init__(self, smtp: SMTP, server: Server, mail: Mail, *, reused: bool) -> None:
        self._smtp = smtp
        self._server = server
        self._mail = mail
        self._reused = reused
        self._begun = False
        """Whether the server has answered anything about this mail."""
        self._all_said = False
        """Whether the server may have the whole mail."""

    async def run(self) -> Outcome:
        from aiosmtplib.errors import SMTPResponseException

        try:
            return await self._run()
        except SMTPResponseException as error:
            return self._answered(error, "sender" if not self._begun else "mail")
        except (OSError, _smtp_error()) as error:
            return self._connection_lost(f"{self._server}: {one_line(str(error)) or type(error).__name__}")

    async def _run(self) -> Outcome:
        if too_large := self._too_large():
            return too_large
        size = [f"SIZE={self._mail.size_bytes}"] if self._smtp.supports_extension("size") else []
        await self._smtp.mail(self._mail.sender, options=size)
        self._begun = True
        refused = await self._recipients()
        if len(refused) == len(self._mail.recipients):
            return _all_refused(refused)
        return Accepted(tuple(refused), await self._data())

    async def _recipients(self) -> list[RefusedRecipient]:
        from aiosmtplib.errors import SMTPRecipientRefused

        refused = []
        for address in self._mail.recipients:
            try:
                await self._smtp.rcpt(address)
            except SMTPRecipientRefused as error:
                if error.code == _CLOSING:
                    raise
                refused.append(RefusedRecipient(address, error.code, one_line(error.message)))
        return refused

    async def _data(self) -> str:
        """Sends the mail itself. By hand, as aiosmtplib does not say whether the whole mail had left."""
        from aiosmtplib.errors import SMTPDataError, SMTPServerDisconnected

        start = await self._smtp.execute_command(b"DATA")
        protocol = self._smtp.protocol
        if start.code != _START_INPUT:
            raise SMTPDataError(start.code, start.message)
        if protocol is None:
            raise SMTPServerDisconnected("connection lost")
        self._all_said = True
        protocol.write(self._mail.content + b".\r\n")
        extra_seconds = len(self._mail.content) / SLOWEST_BYTES_PER_SECOND
        answer = await protocol.read_response(timeout=self._server.timeout_seconds + extra_seconds)
        if not 200 <= answer.code < 300:
            raise SMTPDataError(answer.code, answer.message)
        return one_line(answer.message)

    def _too_large(self) -> Refused | None:
        said = self._smtp.esmtp_extensions.get("size", "")
        limit = int(said) if said.isdecimal() else 0
        if not limit or self._mail.size_bytes <= limit:
            return None
        return Refused(552, f"it has {self._mail.size_bytes:,} bytes and may have {limit:,}", "mail")

    def _answered(self, error: SMTPResponseException, what: str) -> Outcome:
        text = one_line(str(error.message))
        if error.code == _CLOSING or not 400 <= error.code < 600:
            reason = f"{self._server} answered {error.code} {text}"
            return self._connection_lost(reason, surely=error.code == _CLOSING)
        if error.code in _LOGIN_CODES:
            return Unusable(f"{self._server} wants another login: {error.code} {text}")
        return Refused(error.code, text, what)

    def _connection_lost(self, reason: str, *, surely: bool = False) -> Outcome:
        """`surely`: the server said that it did not take the mail."""
        self._smtp.close()
        if not self._begun and self._reused:
            raise ConnectionLost(reason)
        return Unclear(reason) if self._all_said and not surely else NotTaken(reason)


def _all_refused(refused: list[RefusedRecipient]) -> Refused:
    """One recipient who may be accepted later is worth another attempt."""
    first = next((one for one in refused if 400 <= one.code < 500), refused[0])
    return Refused(first.code, first.text, "recipient" if len(refused) == 1 else f"{len(refused)} recipients")


def _why_not_open(error: BaseException, server: Server) -> Unusable | NotTaken:
    from aiosmtplib.errors import SMTPConnectError, SMTPException, SMTPResponseException

    cause = error.__cause__ if isinstance(error, SMTPConnectError) and error.__cause__ else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unusable(f"{server} has a certificate that is not trusted: {cause.verify_message}")
    if isinstance(cause, ssl.SSLError):
        return Unusable(f"{server} does not speak TLS as smtp.security says: {one_line(str(cause))}")
    if isinstance(error, SMTPResponseException):
        text = f"{server} answered {error.code} {one_line(str(error.message))}"
        return Unusable(text) if 500 <= error.code < 600 else NotTaken(text)
    if isinstance(error, SMTPException) and not isinstance(error, OSError):
        return Unusable(f"{server}: {one_line(str(error))}")  # no STARTTLS, or no way to log in
    return NotTaken(f"{server}: {one_line(str(error)) or type(error).__name__}")


def _smtp_error() -> type[Exception]:
    from aiosmtplib.errors import SMTPException

    return SMTPException
