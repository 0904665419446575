"""The HTTP server: middlewares around the routes that it is given, on one address."""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from aiohttp import web
from aiohttp.typedefs import Handler

from crmd.config.tables import AuthTable, HttpTable
from crmd.config.values import is_loopback
from crmd.errors import PortTaken
from crmd.http.auth import AuthMiddleware
from crmd.http.bodies import CONNECTIONS
from crmd.http.connections import Connections
from crmd.http.guard import HostCheck, guard
from crmd.http.late_routes import LateRoutes
from crmd.http.long_requests import LongRequests
from crmd.http.peers import Peers
from crmd.http.problems import RETRY_AFTER_SECONDS, HttpProblem, problems
from crmd.http.protocol import request_handlers
from crmd.http.route_table import RouteTable
from crmd.http.routes import Route
from crmd.http.schema import MAX_BODY_BYTES

if TYPE_CHECKING:
    import socket

    from crmd.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 0.5
"""How long requests under way may take to end; waits and streams end at once. The drain is over by then."""
BACKLOG = 1024

Cleanup = Callable[[web.Application], Awaitable[None]]
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpServer:
    """All of crmd's HTTP, on one address. Up before the store is, and until the last job has ended.

    `connections`, `long_requests` and `peers` are those that the routes know too; `cleanup` is awaited once the
    server has stopped. `listen_socket` is a socket that already listens, such as systemd's: host and port then
    only say what it is.
    """

    def __init__(
        self,
        http: HttpTable,
        auth: AuthTable,
        password: str,
        routes: Sequence[Route],
        late: Sequence[LateRoutes] = (),
        *,
        peers: Peers,
        connections: Connections,
        long_requests: LongRequests,
        metrics: Metrics,
        cleanup: Sequence[Cleanup] = (),
        listen_socket: socket.socket | None = None,
    ) -> None:
        self._http = http
        self._socket = listen_socket
        self._metrics = metrics
        self._cleanup = cleanup
        self._peers = peers
        self.long_requests = long_requests
        self.connections = connections
        self._table = RouteTable(http.base_path, routes, late)
        self._auth = AuthMiddleware(
            auth,
            password,
            routes=self._table,
            peers=peers,
            metrics=metrics,
            loopback_only=is_loopback(self._listening_host),
        )
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    @property
    def routes(self) -> list[Route]:
        """The routes, of the late ones those that were made."""
        return self._table.routes

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it listens on, the port that was found free where 0 was asked for."""
        if self._server is None or not self._server.sockets:
            return self._http.host, self._http.port or 0
        name = self._server.sockets[0].getsockname()
        return (name, 0) if isinstance(name, str) else (name[0], name[1])

    @property
    def url(self) -> str:
        """Where people find it."""
        host, port = self.address
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{port}{self._http.base_path}"

    def configure(self, auth: AuthTable, password: str) -> None:
        """Applies other credentials."""
        self._auth.configure(auth, password)

    async def start(self) -> None:
        """Listens. Raises PortTaken."""
        if self._runner is not None:
            return
        self.long_requests.open()
        runner = web.AppRunner(self._app(), handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
        await runner.setup()
        try:
            self._server = await self._listen(runner)
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Stops listening, ends waits and streams, and gives other requests half a second. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is None or self._server is None:
            return
        self._server.close()
        self.long_requests.close()
        await runner.cleanup()
        self._server = None

    @property
    def _listening_host(self) -> str:
        """A socket that was handed over says itself where it listens; the configuration may say otherwise."""
        if self._socket is None:
            return self._http.host
        name = self._socket.getsockname()
        return name if isinstance(name, str) else str(name[0])

    async def _listen(self, runner: web.AppRunner) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = runner.server
        if server is None:
            raise RuntimeError("the HTTP runner is not set up")
        factory = self.connections.wrap(request_handlers(server))
        if self._socket is not None:
            return await loop.create_server(factory, sock=self._socket, backlog=BACKLOG)
        host, port = self._http.host, self._http.port or 0
        try:
            return await loop.create_server(factory, host, port, backlog=BACKLOG)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES):
                raise PortTaken(_cannot_listen(host, port, error)) from None
            raise

    def _app(self) -> web.Application:
        hosts = HostCheck(self._listening_host, self._http.allowed_hosts)
        app = web.Application(
            client_max_size=MAX_BODY_BYTES,
            middlewares=[
                self._outermost,
                problems(),
                self._admit,
                guard(self._table, hosts, self._peers),
                self._auth,
            ],
        )
        app[CONNECTIONS] = self.connections
        app.on_response_prepare.append(_add_headers)
        app.on_cleanup.extend(self._cleanup)
        self._table.register(app)
        return app

    @web.middleware
    async def _outermost(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keeps the connection while its request is handled; counts, and logs one line at debug."""
        began = time.monotonic()
        try:
            async with self.connections.request(request, streamed=self._table.find(request).streamed):
                response = await handler(request)
        except ConnectionError as lost:
            if request.transport is not None:
                raise
            # The body's stream keeps it; its traceback would hold the request and what has come of the body.
            lost.__traceback__ = None
            return web.Response(status=400)  # nobody reads it
        seconds = time.monotonic() - began
        resource = request.match_info.route.resource
        method = request.method if request.method in _METHODS else "other"
        self._metrics.request_done(method, resource.canonical if resource else "none", response.status, seconds)
        _log.debug("%s %s %s %.1f ms", request.method, request.rel_url.raw_path, response.status, seconds * 1000)
        return response

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Sends away what is no probe while every connection is busy."""
        if not self._table.find(request).probe and not self.connections.has_room():
            headers = {"Connection": "close", "Retry-After": str(RETRY_AFTER_SECONDS)}
            raise HttpProblem(503, "too many requests at once; try again", headers=headers)
        return await handler(request)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer bears. Pages set their own content policy."""
    headers = response.headers
    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    headers.setdefault("Cache-Control", "no-store")
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "no-referrer"
    headers["X-Frame-Options"] = "DENY"


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port} is in use: set http.port or CRMD_HTTP__PORT to another, or stop what listens there"
    return (
        f"cannot listen on {host}:{port} ({error.strerror}): set http.host and http.port to what this machine has"
    )
