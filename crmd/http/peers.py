"""Finds a client's address, also behind proxies, and slows down clients that guess passwords."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

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


# Slows down clients that guess passwords


FAILURES = 5
REFILL_SECONDS = 12.0
"""Five failures a minute."""
ADDRESSES_KEPT = 10_000
"""Beyond that the least recently used address is forgotten."""


@dataclass(slots=True)
class _Bucket:
    left: float
    filled_at: float
    reported: bool = False


class FailedAttempts:
    """Counts failed attempts per client: five in a row are allowed, then one every twelve seconds."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def blocked_seconds(self, client: str) -> int:
        """Seconds until a client may try again, rounded up; 0 if it may try now."""
        bucket = self._buckets.get(client)
        if bucket is None:
            return 0
        self._refill(bucket)
        if bucket.left >= 1:
            return 0
        return max(1, math.ceil((1 - bucket.left) * REFILL_SECONDS))

    def fail(self, client: str) -> bool:
        """Counts a failure; True if this one starts a block."""
        bucket = self._buckets.setdefault(client, _Bucket(FAILURES, self._monotonic()))
        self._buckets.move_to_end(client)
        if len(self._buckets) > ADDRESSES_KEPT:
            self._buckets.popitem(last=False)
        self._refill(bucket)
        bucket.left = max(0.0, bucket.left - 1)
        begins = bucket.left < 1 and not bucket.reported
        bucket.reported = bucket.reported or begins
        return begins

    def _refill(self, bucket: _Bucket) -> None:
        now = self._monotonic()
        bucket.left = min(FAILURES, bucket.left + (now - bucket.filled_at) / REFILL_SECONDS)
        bucket.filled_at = now
        if bucket.left == FAILURES:
            bucket.reported = False
