"""HTTP to the outside: one pool of connections, bounded answers, and what is known when none came."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import IO, Any

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from crmd.crm.outbound.addresses import AddressPolicy, AddressRefused, CheckedResolver, CheckedSockets
from crmd.jobs import JobContext
from crmd.version import __version__

MAX_BODY_BYTES = 1024 * 1024
SNIPPET_BYTES = 2048
MAX_REDIRECTS = 3
CONNECT_SECONDS = 5.0
# A server may close an idle connection just as a request leaves on it, and then nobody knows whether the request
# arrived. Few servers close one that was idle for so short a time.
KEEPALIVE_SECONDS = 5.0
_REASON_LENGTH = 300
_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """The other side answered."""

    status: int
    headers: Mapping[str, str]
    """Case-insensitive."""
    body: bytes
    """At most MAX_BODY_BYTES of it."""
    complete: bool
    """False where the body was too long, or the connection was lost in it."""
    duration_ms: float

    def snippet(self, size_bytes: int = SNIPPET_BYTES) -> str:
        """The start of the body as text."""
        return self.body[:size_bytes].decode("utf-8", "replace")

    def json(self) -> dict[str, Any]:
        """The JSON object that the body is; an empty one where it is none."""
        try:
            return json_object(json.loads(self.body))
        except (ValueError, RecursionError):
            return {}


def json_object(value: Any) -> dict[str, Any]:
    """A value of some JSON where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True, slots=True)
class NotSent:
    """No connection came about, so nothing was sent."""

    reason: str
    forbidden: bool = False
    """True where trying again cannot help: the address is refused, or the URL is not valid."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """The request may have arrived; no answer came."""

    reason: str


Exchange = Answer | NotSent | NoAnswer


@dataclass(frozen=True, slots=True)
class Downloaded:
    """The whole body is in the file."""

    headers: Mapping[str, str]
    """Case-insensitive."""
    size_bytes: int
    url: URL
    """Where it came from, after redirects."""


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The body is larger than was asked for; the rest of it was not read."""

    max_bytes: int


Download = Downloaded | TooLarge | Exchange


class HttpClient:
    """Owns one aiohttp session with verified TLS, no cookies and no redirects.

    With a policy it connects only to addresses that the policy lets through.
    """

    def __init__(
        self,
        *,
        policy: AddressPolicy | None = None,
        resolver: AbstractResolver | None = None,
        connection_limit: int = 100,
    ) -> None:
        self._policy = policy
        self._resolver = resolver
        self._connection_limit = connection_limit
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Makes the session; idempotent."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=self._connector(),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[_connection_trace()],
                headers={"User-Agent": f"crmd/{__version__}", "Accept-Encoding": "identity"},
            )

    async def stop(self) -> None:
        """Closes all connections; idempotent, also before start."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def post(
        self, url: URL, *, body: bytes | aiohttp.FormData, headers: Mapping[str, str], timeout_seconds: float
    ) -> Exchange:
        """Posts the body and says what became of it; the timeout covers all, the connect included.

        Raises RuntimeError before `start`.
        """
        if self._session is None:
            raise RuntimeError("HttpClient.start() was not called")
        await _see_closed_connections()
        progress = _Progress()
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS)
        started = asyncio.get_running_loop().time()
        try:
            async with self._session.post(
                url,
                data=body,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=progress,
            ) as response:
                answer_body, complete = await _read(response)
                duration_ms = (asyncio.get_running_loop().time() - started) * 1000
                return Answer(response.status, response.headers, answer_body, complete, duration_ms)
        except (aiohttp.ClientError, OSError, RuntimeError, UnicodeError) as error:
            # RuntimeError: uvloop's for some failed connects, aiohttp's for a session that was just closed
            if progress.connected:
                return NoAnswer(_reason(error, f"no answer within {timeout_seconds:g} s"))
            return NotSent(_reason(error, f"no connection to {url.host}:{url.port} in time"), _is_final(error))

    async def download(self, url: URL, into: IO[bytes], *, max_bytes: int, timeout_seconds: float) -> Download:
        """Gets the URL into a file, and follows redirects; each address on the way is checked.

        An `Answer` is one that is not a success; where the outcome is not `Downloaded`, the file may hold a part.
        Raises RuntimeError before `start`.
        """
        if self._session is None:
            raise RuntimeError("HttpClient.start() was not called")
        progress = _Progress()
        timeout = aiohttp.ClientTimeout(total=timeout_seconds, sock_connect=CONNECT_SECONDS)
        started = asyncio.get_running_loop().time()
        try:
            async with self._session.get(
                url, timeout=timeout, max_redirects=MAX_REDIRECTS, trace_request_ctx=progress
            ) as response:
                if not 200 <= response.status < 300:
                    body, complete = await _read(response)
                    duration_ms = (asyncio.get_running_loop().time() - started) * 1000
                    return Answer(response.status, response.headers, body, complete, duration_ms)
                return await _save(response, into, max_bytes)
        except (aiohttp.ClientError, OSError, RuntimeError, UnicodeError) as error:
            if _is_final(error) or not progress.connected:
                return NotSent(_reason(error, f"no connection to {url.host}:{url.port} in time"), _is_final(error))
            return NoAnswer(_reason(error, f"not whole within {timeout_seconds:g} s"))

    def _connector(self) -> aiohttp.TCPConnector:
        resolver = self._resolver or aiohttp.ThreadedResolver()
        if self._policy is None:
            return aiohttp.TCPConnector(
                limit=self._connection_limit, keepalive_timeout=KEEPALIVE_SECONDS, resolver=resolver
            )
        return aiohttp.TCPConnector(
            limit=self._connection_limit,
            keepalive_timeout=KEEPALIVE_SECONDS,
            use_dns_cache=False,
            resolver=CheckedResolver(self._policy, resolver),
            socket_factory=CheckedSockets(self._policy),
        )


def request_seconds(ctx: JobContext, longest_seconds: float, reserve_seconds: float) -> float:
    """How long a request of a job may take: what is left of its timeout, but for a reserve to note the outcome."""
    if ctx.remaining_seconds is None:
        return longest_seconds
    return min(longest_seconds, max(reserve_seconds, ctx.remaining_seconds - reserve_seconds))


async def _see_closed_connections() -> None:
    """Lets the loop read the ends of pooled connections that have already arrived.

    Else a request could leave on one that the server has closed, and its outcome would not be known.
    """
    # In the first turn the loop finds what has arrived, in the second it has handled it.
    for _ in range(2):
        await asyncio.sleep(0)


@dataclass(slots=True)
class _Progress:
    """How far one request came. Set before the first byte leaves, so it errs towards "sent"."""

    connected: bool = False


def _connection_trace() -> aiohttp.TraceConfig:
    async def connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
        context.trace_request_ctx.connected = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(connected)
    return trace


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The body, and whether it is all of it; an answer whose body breaks off is still an answer."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > MAX_BODY_BYTES:
                break
        else:
            return bytes(body), True
    except (aiohttp.ClientError, OSError):
        pass  # told by `complete`
    response.close()
    return bytes(body[:MAX_BODY_BYTES]), False


async def _save(response: aiohttp.ClientResponse, into: IO[bytes], max_bytes: int) -> Downloaded | TooLarge:
    size_bytes = 0
    if (response.content_length or 0) <= max_bytes:
        async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
            size_bytes += len(chunk)
            if size_bytes > max_bytes:
                break
            into.write(chunk)
        else:
            return Downloaded(response.headers, size_bytes, response.url)
    response.close()
    return TooLarge(max_bytes)


def _is_final(error: Exception) -> bool:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return isinstance(cause, (AddressRefused, aiohttp.InvalidURL, UnicodeError))


def _reason(error: Exception, timed_out: str) -> str:
    if isinstance(error, TimeoutError):
        return timed_out
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, AddressRefused):
        return str(cause)
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_REASON_LENGTH]


# How long a server asks us to wait


MAX_RETRY_AFTER_SECONDS = 3600.0


def retry_after_seconds(answer: Answer, now: float) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date; at most MAX_RETRY_AFTER_SECONDS, None without it.

    `now` is epoch seconds.
    """
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(at.timestamp() - now, 0.0), MAX_RETRY_AFTER_SECONDS)
