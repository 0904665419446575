"""Which addresses URLs from jobs may lead to: the public internet, and what the configuration allows besides."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType
from yarl import URL

MAX_URL_LENGTH = 2048
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Networks that are not the public internet (IANA special-purpose registries), and why.
_REFUSED: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), kind)
    for kind, networks in {
        "unspecified": ("0.0.0.0/8", "::/128"),
        "loopback": ("127.0.0.0/8", "::1/128"),
        "private": ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
        "link-local": ("169.254.0.0/16", "fe80::/10"),
        "cloud platform": ("168.63.129.16/32",),
        "carrier NAT": ("100.64.0.0/10", "64:ff9b:1::/48"),
        "multicast": ("224.0.0.0/4", "ff00::/8"),
        "reserved": ("192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "240.0.0.0/4", "100::/64", "2001::/23"),
        "documentation": (
            *("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"),
            *("2001:db8::/32", "3fff::/20"),
        ),
    }.items()
    for network in networks
)
_PUBLIC_V6 = IPv6Network("2000::/3")

# IPv6 networks whose addresses carry an IPv4 address, and how many bits follow it.
_CARRIERS: tuple[tuple[IPv6Network, int], ...] = (
    (IPv6Network("::ffff:0:0/96"), 0),  # v4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated (SIIT)
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)


class AddressRefused(OSError):
    """The address is not one that URLs from jobs may lead to."""


class AddressPolicy:
    """Refuses addresses outside the public internet, except those inside `allow_private`."""

    def __init__(self, allow_private: Iterable[Network | str] = ()) -> None:
        self._allowed = tuple(ip_network(str(network), strict=False) for network in allow_private)

    def check(self, text: str, name: str | None = None) -> None:
        """Raises AddressRefused unless `text` is a plain IP address that may be connected to.

        `name` is the host name it was found under, for the message.
        """
        try:
            address = ip_address(text.partition("%")[0])
        except ValueError:
            raise AddressRefused(f"{text} is not a plain IP address") from None
        kind = self._refusal(address)
        if kind:
            found = f"{name} has the address {text}, which" if name else text
            raise AddressRefused(
                f"{found} is not public ({kind}); to allow it, add its network to webhook.allow_private"
            )

    def _refusal(self, address: Address) -> str | None:
        """Why the address is refused; None where it is not."""
        if any(address in network for network in self._allowed):
            return None
        carried = _carried(address)
        if carried is not None:
            return self._refusal(carried)
        for network, kind in _REFUSED:
            if address in network:
                return kind
        return "non-public" if address.version == 6 and address not in _PUBLIC_V6 else None


class CheckedResolver(AbstractResolver):
    """Resolves names, and refuses a name if any of its addresses is refused.

    The connection goes to the very addresses that were checked, so a name that changes between check and use
    (DNS rebinding) gains nothing.
    """

    def __init__(self, policy: AddressPolicy, resolver: AbstractResolver) -> None:
        self._policy = policy
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The checked addresses of a host; raises AddressRefused, or OSError where there are none."""
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            self._policy.check(result["host"], host)
        return found

    async def close(self) -> None:
        """Closes the resolver behind this one."""
        await self._resolver.close()


class CheckedSockets:
    """Makes sockets, the last step before each connect: also addresses that no resolver saw are checked here."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    def __call__(self, info: AddrInfoType) -> socket.socket:
        """A socket for the address; raises AddressRefused."""
        family, kind, protocol, _, address = info
        self._policy.check(str(address[0]))
        return socket.socket(family=family, type=kind, proto=protocol)


def parse_target(text: str) -> URL:
    """A URL that may be posted to; raises ValueError that says what is wrong with it.

    Addresses are checked when connecting, not here.
    """
    if len(text) > MAX_URL_LENGTH:
        raise ValueError(f"must have at most {MAX_URL_LENGTH} characters")
    if any(character.isspace() or not character.isprintable() or character == "\\" for character in text):
        raise ValueError("must not contain spaces, control characters or backslashes")
    try:
        url = URL(text)
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError("must begin with https:// or http://")
    if "@" in text.split("://", 1)[-1].split("/", 1)[0].split("?", 1)[0].split("#", 1)[0]:
        raise ValueError("must not contain a user or password; use the header Authorization")
    if not url.raw_host or not _HOST.fullmatch(url.raw_host) or not url.port:
        raise ValueError("has no valid host and port")
    return url


def _carried(address: Address) -> IPv4Address | None:
    if isinstance(address, IPv4Address):
        return None
    for network, trailing_bits in _CARRIERS:
        if address in network:
            return IPv4Address(int(address) >> trailing_bits & 0xFFFFFFFF)
    return None
