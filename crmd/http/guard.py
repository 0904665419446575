"""Refuses foreign Host names, cross-site requests and encoded bodies."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from crmd.config.values import is_loopback
from crmd.http.peers import Peers, parse_address
from crmd.http.problems import HttpProblem
from crmd.http.route_table import RouteTable
from crmd.http.routes import Access

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_PLAIN = {"Content-Encoding": frozenset({"", "identity"}), "Transfer-Encoding": frozenset({"", "chunked"})}
_PORT = re.compile(r":\d*$")


class HostCheck:
    """Which Host headers are ours.

    Always: localhost, and the listening address; where that is "any" (0.0.0.0, ::) every bare IP address and this
    machine's own name, since a rebound name is neither. Besides: `allowed_hosts`.
    """

    def __init__(self, listening: str, allowed_hosts: Iterable[str] = ()) -> None:
        self._names = {"localhost", _bare(listening), *(_bare(host) for host in allowed_hosts)}
        address = parse_address(listening)
        self._any_address = address is not None and address.is_unspecified
        self._loopback = is_loopback(listening)
        if self._any_address:
            self._names.add(socket.gethostname().lower())

    def allows(self, host: str) -> bool:
        """Whether a Host header, with or without port, is ours."""
        bare = _bare(host)
        if bare in self._names:
            return True
        address = parse_address(bare)
        if address is None:
            return False
        return self._any_address or (self._loopback and address.is_loopback)


def guard(routes: RouteTable, hosts: HostCheck, peers: Peers) -> Middleware:
    """The middleware. Probes answer under any Host: they reveal nothing, and orchestrators use addresses."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.body_exists:
            _check_coding(request)
        route = routes.find(request)
        if route.access is not Access.OPEN:
            _check_host(request, hosts)
        if request.method not in SAFE_METHODS and not route.signed:
            _check_site(request, peers)
            if not route.any_body:
                _check_body_type(request)
        return await handler(request)

    return middleware


def _check_coding(request: web.Request) -> None:
    """Refuses compressed bodies: unpacking costs the sender nothing, and the event loop seconds."""
    for name, plain in _PLAIN.items():
        codings = (coding.strip() for value in request.headers.getall(name, ()) for coding in value.split(","))
        if any(coding.lower() not in plain for coding in codings):
            detail = f"the body is compressed or encoded ({name}): send it as it is"
            raise HttpProblem(415, detail, headers={"Connection": "close", "Accept-Encoding": "identity"})


def _check_host(request: web.Request, hosts: HostCheck) -> None:
    found = request.headers.getall("Host", [])
    for host in found:
        if not hosts.allows(host):
            raise HttpProblem(421, f'no such host here: "{host}"; add it to http.allowed_hosts if it is meant')
    if len(found) > 1:
        raise HttpProblem(400, "a request has one Host header")


def _check_site(request: web.Request, peers: Peers) -> None:
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site not in ("same-origin", "none"):
            raise HttpProblem(403, f"a browser sent this from another site (Sec-Fetch-Site: {site})")
        return
    origin = request.headers.get("Origin")
    if origin is not None and _netloc(origin) != _host_as_seen_outside(request, peers):
        raise HttpProblem(403, f"a browser sent this from another site (Origin: {origin})")


def _check_body_type(request: web.Request) -> None:
    if request.body_exists and request.content_type != "application/json":
        raise HttpProblem(415, "the body has to be JSON: send Content-Type: application/json")


def _host_as_seen_outside(request: web.Request, peers: Peers) -> str:
    forwarded = request.headers.get("X-Forwarded-Host")
    if forwarded and peers.trusts(request.remote or ""):
        return forwarded.strip().lower()
    return request.headers.get("Host", "").lower()


def _netloc(origin: str) -> str:
    """Host and port of an Origin header; empty for `null` and for nonsense."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _bare(host: str) -> str:
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    if host.count(":") <= 1:
        host = _PORT.sub("", host)
    return host.rstrip(".")
