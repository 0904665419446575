"""Email addresses: `crm@example.com` or `CRM <crm@example.com>`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crmd.formatting import is_clean

MAX_LOCAL_CHARS = 64
MAX_ADDRESS_CHARS = 254
MAX_NAME_CHARS = 200

_NAMED = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]*)>")
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address, and the name that people see."""

    name: str
    address: str
    """ASCII: an international domain is in its encoded form."""

    @property
    def domain(self) -> str:
        """What follows the @."""
        return self.address.rpartition("@")[2]


def read_mailbox(text: str) -> Mailbox:
    """The mailbox that a text names; raises ValueError that says what is wrong with it."""
    if not is_clean(text) or len(text.splitlines()) > 1:
        raise ValueError("has control characters or line ends")
    named = _NAMED.fullmatch(text.strip())
    name, address = (named["name"], named["address"]) if named else ("", text)
    name = name.strip().removeprefix('"').removesuffix('"').strip()
    if len(name) > MAX_NAME_CHARS:
        raise ValueError(f"has a name of more than {MAX_NAME_CHARS} characters")
    return Mailbox(name, _read_address(address.strip()))


def _read_address(text: str) -> str:
    local, at, domain = text.rpartition("@")
    if not at:
        raise ValueError('is not a mail address; write "crm@example.com" or "CRM <crm@example.com>"')
    if "," in text or ";" in text:
        raise ValueError("holds more than one address; give each on its own")
    if len(local) > MAX_LOCAL_CHARS or not _LOCAL.fullmatch(local):
        raise ValueError("has before the @ what is not plain ASCII letters, digits, dots and !#$%&'*+/=?^_`{|}~-")
    try:
        encoded = domain.encode("idna").decode("ascii") if not domain.isascii() else domain
    except UnicodeError:
        encoded = ""
    if not _DOMAIN.fullmatch(encoded):
        raise ValueError("has no valid domain after the @")
    address = f"{local}@{encoded}"
    if len(address) > MAX_ADDRESS_CHARS:
        raise ValueError(f"has more than {MAX_ADDRESS_CHARS} characters")
    return address
