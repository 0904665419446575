"""Who is at the other end: the client's address, behind proxies too."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import web

from crmd.config.values import Network

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

IPV6_CLIENT_PREFIX = 64
"""One household or machine owns as many IPv6 addresses; it counts as one client."""


class Peers:
    """Knows which proxies to believe."""

    def __init__(self, trusted_proxies: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted_proxies)

    def client(self, request: web.Request) -> str:
        """The client's address. X-Forwarded-For is read from its end, as far as trusted proxies wrote it."""
        address = request.remote or ""
        if not self.trusts(address):
            return address
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
        for hop in reversed([hop.strip() for hop in forwarded.split(",") if hop.strip()]):
            if parse_address(hop) is None:
                return address
            address = hop
            if not self.trusts(hop):
                return address
        return address

    def trusts(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy."""
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def parse_address(text: str) -> IPAddress | None:
    """An address, with or without port and brackets; None for what is none. ::ffff:a.b.c.d is a.b.c.d."""
    host = text[1:].partition("]")[0] if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def client_group(address: str) -> str:
    """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, IPV6_CLIENT_PREFIX), strict=False))
    return str(parsed) if parsed else address


def is_forwarded(request: web.Request) -> bool:
    """Whether a proxy had the request in its hands."""
    return any(name.lower() == "forwarded" or name.lower().startswith("x-forwarded-") for name in request.headers)
