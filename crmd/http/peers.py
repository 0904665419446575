"""Finds a client's address, also behind proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from aiohttp import web

from crmd.config.values import Network

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

IPV6_CLIENT_PREFIX = 64
"""A household or machine usually owns a whole /64, so it counts as one client."""


class Peers:
    """Resolves client addresses; believes trusted proxies only."""

    def __init__(self, trusted_proxies: Iterable[Network] = ()) -> None:
        self._trusted = tuple(trusted_proxies)

    def client(self, request: web.Request) -> str:
        """The client's address; X-Forwarded-For is read from its end, as far as trusted proxies wrote it."""
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
        """Whether an address belongs to a trusted proxy."""
        parsed = parse_address(address)
        return parsed is not None and any(parsed in network for network in self._trusted)


def parse_address(text: str) -> IPAddress | None:
    """Parses an address with or without port and brackets; None if it is not one. Unmaps ::ffff:a.b.c.d."""
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
    """What counts as one client: an IPv4 address or an IPv6 /64."""
    parsed = parse_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((parsed, IPV6_CLIENT_PREFIX), strict=False))
    return str(parsed) if parsed else address


def is_forwarded(request: web.Request) -> bool:
    """Whether the request came through a proxy."""
    return any(name.lower() == "forwarded" or name.lower().startswith("x-forwarded-") for name in request.headers)
