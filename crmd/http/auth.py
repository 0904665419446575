"""Authentication and authorisation: the basic-auth user, bearer tokens with scopes, and open paths."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from aiohttp import web
from aiohttp.typedefs import Handler
from aiohttp_basicauth import BasicAuthMiddleware

from crmd.config.tables import AuthTable, TokenTable
from crmd.http.peers import FailedAttempts, Peers, client_group, is_forwarded
from crmd.http.problems import HttpProblem
from crmd.http.route_table import RouteTable
from crmd.http.routes import Access, Route

if TYPE_CHECKING:
    from crmd.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

REALM = "crmd"
SCOPES = frozenset({"enqueue", "read", "operate"})


@dataclass(frozen=True, slots=True)
class Principal:
    """The user or token that makes a request."""

    name: str
    scopes: frozenset[str]
    queues: frozenset[str] | None = None
    """The queues it is limited to; None for all."""
    is_user: bool = False
    """True for the basic-auth user, False for a token."""

    @property
    def owner(self) -> str:
        """Identifies it among users and tokens, which may have the same name."""
        return f"{'user' if self.is_user else 'token'}:{self.name}"

    def may_see(self, queue: str) -> bool:
        """Whether it may see the queue."""
        return self.queues is None or queue in self.queues


@dataclass(frozen=True, slots=True)
class Credentials:
    """The contents of an Authorization header; `user` is None for a bearer token."""

    user: str | None
    secret: str = field(repr=False)


_PRINCIPAL: ContextVar[Principal] = ContextVar("principal")
"""Set per request: aiohttp handles each in its own context."""


def current_principal() -> Principal:
    """The principal of the current request, which has been authenticated."""
    return _PRINCIPAL.get()


class AuthMiddleware(BasicAuthMiddleware):  # type: ignore[misc] # the package has no types
    """Checks credentials in constant time, and blocks clients that fail too often.

    While a client is held back it gets 429 for the right password too, or its guesses would go on being answered.
    A valid token always passes: nobody guesses 256 bits, and many share an address.
    """

    def __init__(
        self,
        auth: AuthTable,
        password: str,
        *,
        routes: RouteTable,
        peers: Peers,
        metrics: Metrics,
        loopback_only: bool,
    ) -> None:
        # The base class would compare plain text, so it gets none.
        super().__init__(username=None, password=None, force=True, realm=REALM)
        self._routes = routes
        self._peers = peers
        self._metrics = metrics
        self._loopback_only = loopback_only
        self._attempts = FailedAttempts()
        self._token_attempts = FailedAttempts()
        self.configure(auth, password)

    def configure(self, auth: AuthTable, password: str) -> None:
        """Applies credentials; `password` is the current one, configured or generated."""
        self._user_digest = _digest(auth.username)
        self._password_digest = _digest(password)
        self._has_password = bool(password)
        self._user = Principal(auth.username, SCOPES, is_user=True)
        self._tokens = [_Token(name, table) for name, table in auth.tokens.items()]
        self._public_metrics = auth.public_metrics

    async def __call__(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """The middleware."""
        route = self._routes.find(request)
        if not self._is_open(route.access, request):
            await self._authenticate(request)
            self._authorise(current_principal(), route, request.match_info.get("queue"))
        return await handler(request)

    def parse_auth_header(self, request: web.Request) -> Credentials | None:
        """The request's credentials; None if it has none that can be parsed."""
        values = request.headers.getall("Authorization", [])
        return parse_credentials(values[0]) if len(values) == 1 else None

    async def authenticate(self, request: web.Request) -> bool:
        """Whether the credentials are valid; if so, sets `current_principal()`."""
        found = self.parse_auth_header(request)
        if found is None:
            return False
        if found.user is None:
            principal = self._token_holder(found.secret)
        else:
            good = await self.check_credentials(found.user, found.secret, request)
            principal = self._user if good else None
        if principal is None:
            return False
        _PRINCIPAL.set(principal)
        return True

    async def check_credentials(self, username: str, password: str, request: web.Request) -> bool:
        """Whether user and password match; takes the same time whichever is wrong."""
        user_matches = hmac.compare_digest(_digest(username), self._user_digest)
        password_matches = hmac.compare_digest(_digest(password), self._password_digest)
        return user_matches & password_matches & self._has_password

    def challenge(self) -> NoReturn:
        """Raises the base class's challenge as HttpProblem 401."""
        raise HttpProblem(
            401,
            "this needs a user and password, or a token",
            headers={"WWW-Authenticate": f'Basic realm="{REALM}", charset="UTF-8"'},
        )

    def _is_open(self, access: Access, request: web.Request) -> bool:
        if access is Access.SUMMARY:
            return self._public_metrics or (self._loopback_only and not is_forwarded(request))
        return access is Access.OPEN

    async def _authenticate(self, request: web.Request) -> None:
        if "Authorization" not in request.headers:
            self.challenge()
        found = self.parse_auth_header(request)
        if found is None:
            self._metrics.auth_refused("wrong")
            self.challenge()
        client = client_group(self._peers.client(request))
        by_token = found.user is None
        attempts = self._token_attempts if by_token else self._attempts
        if by_token and await self.authenticate(request):
            return
        self._refuse_blocked(client, attempts)
        if not by_token and await self.authenticate(request):
            return
        self._metrics.auth_refused("wrong")
        if attempts.fail(client):
            _log.warning("auth.throttled", extra={"fields": {"address": client}})
        self.challenge()

    def _authorise(self, principal: Principal, route: Route, queue: str | None) -> None:
        if route.access.scope not in principal.scopes:
            raise HttpProblem(403, f'token "{principal.name}" lacks the scope "{route.access.scope}"')
        if queue is None:
            if principal.queues is not None and not route.for_any_queue:
                raise HttpProblem(403, f'token "{principal.name}" is limited to queues, and this path names none')
        elif not principal.may_see(queue):
            raise HttpProblem(403, f'token "{principal.name}" is not for the queue {queue}')

    def _refuse_blocked(self, client: str, attempts: FailedAttempts) -> None:
        wait = attempts.blocked_seconds(client)
        if wait:
            self._metrics.auth_refused("throttled")
            raise HttpProblem(
                429,
                f"too many failed logins from this address; try again in {wait} s",
                headers={"Retry-After": str(wait)},
            )

    def _token_holder(self, secret: str) -> Principal | None:
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest().encode()
        holder = None
        for token in self._tokens:  # all of them, so that timing reveals nothing
            if hmac.compare_digest(digest, token.digest):
                holder = token.principal
        return holder


class _Token:
    def __init__(self, name: str, table: TokenTable) -> None:
        self.digest = table.sha256.encode()
        queues = frozenset(table.queues) if table.queues else None
        self.principal = Principal(name, frozenset(table.scopes), queues)


def parse_credentials(header: str) -> Credentials | None:
    """The user and password, or the token, in an Authorization header; None if it is malformed.

    Basic credentials are read as UTF-8, else as Latin-1: browsers differ.
    """
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer" and value:
        return Credentials(None, value)
    if scheme.lower() != "basic":
        return None
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    user, colon, password = _decode(raw).partition(":")
    return Credentials(user, password) if colon else None


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
