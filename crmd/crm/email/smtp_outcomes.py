"""What is known about a mail after it was offered to a server."""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAX_TEXT = 300
_ADDRESS = re.compile(r"[^\s<>\"'(),;:@]+@")


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail, ready to be sent."""

    sender: str
    recipients: tuple[str, ...]
    """Plain addresses: to, cc and bcc."""
    content: bytes
    """Headers and body as they cross the wire: CRLF, dots doubled, the final dot left out. See `wire_form`."""
    size_bytes: int
    """Before dots were doubled, as the server counts."""


@dataclass(frozen=True, slots=True)
class RefusedRecipient:
    """The server does not take the mail for this recipient."""

    address: str
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """The server took the mail for at least one recipient."""

    refused: tuple[RefusedRecipient, ...]
    answer: str
    """What it said, often its own id of the mail."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The server answered and did not take the mail."""

    code: int
    """Its reply code: 4xx will pass, 5xx will not."""
    text: str
    what: str
    """What it refused: sender, recipients or mail."""

    @property
    def passing(self) -> bool:
        """Whether the server says that a later attempt may succeed."""
        return 400 <= self.code < 500

    def __str__(self) -> str:
        return f"the mail server refused the {self.what}: {self.code} {self.text}"


@dataclass(frozen=True, slots=True)
class Unusable:
    """The server takes no mail from us at all, until a person changes something."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotTaken:
    """The server was not reached, or was lost before it had the whole mail."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unclear:
    """The server had the whole mail, and its answer was lost: it may have taken it."""

    reason: str


Outcome = Accepted | Refused | Unusable | NotTaken | Unclear


def wire_form(mail: bytes) -> bytes:
    """A mail with CRLF line ends as it crosses the wire: lines that begin with a dot get another one."""
    ended = mail if mail.endswith(b"\r\n") else mail + b"\r\n"
    doubled = ended.replace(b"\r\n.", b"\r\n..")
    return b"." + doubled if doubled.startswith(b".") else doubled


def one_line(text: str) -> str:
    """A server's answer for logs and errors: one line, and nobody's address."""
    return _ADDRESS.sub("***@", " ".join(text.split()))[:_MAX_TEXT]
