"""A cache for application code: JSON values with a time to live; concurrent callers share one fetch."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Self, TypeVar, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, WatchError

from crmd.engine import codec
from crmd.engine.single_flight import SingleFlight
from crmd.engine.store.translate import store_error
from crmd.errors import StoreError, StoreUnavailable

T = TypeVar("T")

DEFAULT_PREFIX = "crmd:cache:"
OPERATION_SECONDS = 3.0
SOCKET_SECONDS = 1.5
RETRIES = 2
RETRY_BASE_SECONDS = 0.05
RETRY_MAX_SECONDS = 0.5
MAX_CONNECTIONS = 20

SCAN_BATCH = 1000
LOCK_SECONDS = 10.0
"""How long other processes wait for the one that fetches before they fetch themselves."""
FIRST_POLL_SECONDS = 0.02
LAST_POLL_SECONDS = 0.1
TTL_MAX_SECONDS = 10 * 365 * 86400.0

_GLOB = re.compile(r"([\\*?\[\]])")

_log = logging.getLogger(__name__)


class Cache:
    """Values under `<prefix><key>` as JSON. No method waits longer than `timeout_seconds` for the store.

    Methods raise StoreUnavailable if the store cannot be reached, StoreFull if it is full, StoreError if a
    key holds another kind of value, and ValueError for an invalid key or ttl.
    """

    def __init__(
        self, redis: Redis, prefix: str = DEFAULT_PREFIX, *, timeout_seconds: float = OPERATION_SECONDS
    ) -> None:
        self._redis = redis
        self._prefix = prefix
        self._timeout_seconds = timeout_seconds
        self._owns_redis = False
        self._fetches = SingleFlight[str, bytes]()

    @classmethod
    def from_url(
        cls, url: str, *, prefix: str = DEFAULT_PREFIX, timeout_seconds: float = OPERATION_SECONDS
    ) -> Self:
        """A cache with connections of its own to `redis://`, `rediss://` or `unix://`; connects on first use.

        Raises ValueError for another kind of URL.
        """
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=min(SOCKET_SECONDS, timeout_seconds),
            socket_connect_timeout=min(SOCKET_SECONDS, timeout_seconds),
            # A timeout is not tried again: the store is stalled, and has perhaps done what it was told.
            retry=Retry(
                ExponentialWithJitterBackoff(cap=RETRY_MAX_SECONDS, base=RETRY_BASE_SECONDS),
                RETRIES,
                supported_errors=(RedisConnectionError,),
            ),
        )
        cache = cls(Redis.from_pool(pool), prefix, timeout_seconds=timeout_seconds)
        cache._owns_redis = True
        return cache

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends fetches that are under way, and the cache's own connections. Idempotent."""
        await self._fetches.stop()
        if self._owns_redis:
            await self._redis.aclose()

    async def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default if there is none."""
        raw = await self._read(key)
        return default if raw is None else _decode(key, raw)

    async def set(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Keeps a JSON value for `ttl` seconds, or for good; raises TypeError if it cannot be JSON."""
        await self._write(key, _encode(key, value), _milliseconds(ttl))

    async def delete(self, *keys: str) -> int:
        """Deletes keys; returns how many there were."""
        if not keys:
            return 0
        names = [self._name(key) for key in keys]
        return int(await self._call("cache delete", self._redis.unlink(*names)))

    async def exists(self, key: str) -> bool:
        """Whether a key has a value."""
        return bool(await self._call("cache exists", self._redis.exists(self._name(key))))

    async def incr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        """Adds to a whole number, or to 0 if there is none, and returns the sum.

        `ttl` counts from the first increment, so that a count for a time window ends with it. A connection
        that breaks at the wrong moment may count twice.
        """
        ttl_ms = _milliseconds(ttl)
        pipe = self._redis.pipeline(transaction=True)
        pipe.incrby(self._name(key), by)
        if ttl_ms is not None:
            pipe.pexpire(self._name(key), ttl_ms, nx=True)
        answers = await self._call(f"cache incr {key!r}", pipe.execute())
        return int(answers[0])

    async def decr(self, key: str, by: int = 1, ttl: float | None = None) -> int:
        """As `incr`, but subtracts."""
        return await self.incr(key, -by, ttl)

    async def get_cached(self, key: str, ttl: float | None, fetch: Callable[[], Any]) -> Any:
        """The value of a key or, if there is none, what `fetch` (sync or async) returns, kept for `ttl` seconds.

        Of concurrent callers one fetches, in this process and, as far as the store allows, in all; None is a
        value too. What `fetch` raises, all who wait raise, and nothing is kept. A caller that is cancelled leaves
        the fetch to the others.
        """
        ttl_ms = _milliseconds(ttl)
        raw = None if key in self._fetches else await self._read(key)
        if raw is None:
            raw = await self._fetched(key, ttl_ms, fetch)
        # Each caller has a value of its own, the same as a later one reads from the store.
        return _decode(key, raw)

    async def delete_pattern(self, pattern: str) -> int:
        """Deletes the keys that match a glob such as `user:*`; returns how many. Reads all keys in batches."""
        match = _GLOB.sub(r"\\\1", self._prefix) + pattern
        deleted = 0
        cursor = 0
        while True:
            cursor, names = await self._call(
                "cache delete_pattern", self._redis.scan(cursor, match=match, count=SCAN_BATCH)
            )
            if names:
                deleted += int(await self._call("cache delete_pattern", self._redis.unlink(*names)))
            if not cursor:
                return deleted

    async def health(self) -> dict[str, Any]:
        """`{"connected": bool, "latency_ms": float | None}`; never raises for an unavailable store."""
        began = time.perf_counter()
        try:
            await self._call("cache health", cast(Awaitable[bool], self._redis.ping()))
        except StoreError:
            return {"connected": False, "latency_ms": None}
        return {"connected": True, "latency_ms": round((time.perf_counter() - began) * 1000, 3)}

    async def _fetched(self, key: str, ttl_ms: int | None, fetch: Callable[[], Any]) -> bytes:
        try:
            return await self._fetches.run(key, partial(self._fill, key, ttl_ms, fetch))
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if current and current.cancelling():
                raise
            raise StoreUnavailable("the cache was closed while a value was fetched") from None

    async def _fill(self, key: str, ttl_ms: int | None, fetch: Callable[[], Any]) -> bytes:
        token = secrets.token_hex(8).encode()
        found = await self._wait_turn(key, token)
        try:
            if found is not None:
                return found
            value = fetch()
            raw = _encode(key, await value if inspect.isawaitable(value) else value)
            await self._keep(key, raw, ttl_ms)
            return raw
        finally:
            await self._unlock(key, token)

    async def _wait_turn(self, key: str, token: bytes) -> bytes | None:
        """The value, when another process has fetched it; None when it is for us to fetch."""
        ends_at = time.monotonic() + LOCK_SECONDS
        delay = FIRST_POLL_SECONDS
        while True:
            locked = await self._lock(key, token)
            raw = await self._read(key)
            if raw is not None or locked or time.monotonic() >= ends_at:
                return raw
            await asyncio.sleep(delay)
            delay = min(delay * 1.5, LAST_POLL_SECONDS)

    async def _keep(self, key: str, raw: bytes, ttl_ms: int | None) -> None:
        try:
            await self._write(key, raw, ttl_ms)
        except StoreError as error:
            # The value is there: to fail now would only have it fetched again.
            _log.warning("%s; its value is used and not kept", error)

    async def _lock(self, key: str, token: bytes) -> bool:
        call = self._redis.set(self._lock_name(key), token, nx=True, px=int(LOCK_SECONDS * 1000))
        return bool(await self._call(f"cache get_cached {key!r}", call))

    async def _unlock(self, key: str, token: bytes) -> None:
        try:
            await self._call(f"cache get_cached {key!r}", self._delete_if(self._lock_name(key), token))
        except StoreError as error:
            _log.debug("%s; the lock expires by itself", error)

    async def _delete_if(self, name: str, value: bytes) -> None:
        pipe: Any = self._redis.pipeline(transaction=True)
        async with pipe:
            await pipe.watch(name)
            if await pipe.get(name) == value:
                pipe.multi()
                pipe.delete(name)
                try:
                    await pipe.execute()
                except WatchError:
                    _log.debug("the lock %s expired and is another's", name)

    async def _read(self, key: str) -> bytes | None:
        raw = await self._call(f"cache get {key!r}", self._redis.get(self._name(key)))
        return raw.encode() if isinstance(raw, str) else cast(bytes | None, raw)

    async def _write(self, key: str, raw: bytes, ttl_ms: int | None) -> None:
        await self._call(f"cache set {key!r}", self._redis.set(self._name(key), raw, px=ttl_ms))

    async def _call(self, what: str, operation: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await operation
        except (RedisError, OSError) as error:
            raise store_error(error, what) from error

    def _name(self, key: str) -> str:
        if not isinstance(key, str) or not key:
            raise ValueError(f"a cache key is a string that is not empty, not {key!r}")
        return self._prefix + key

    def _lock_name(self, key: str) -> str:
        # Beside the prefix, so that no key of a caller and no pattern meets it.
        return f"{self._prefix.rstrip(':')}-lock:{key}"


def _encode(key: str, value: Any) -> bytes:
    try:
        return codec.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the value for cache key {key!r} is not JSON: {error}") from None


def _decode(key: str, raw: bytes) -> Any:
    try:
        return codec.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StoreError(
            f"cache key {key!r} holds something that is not JSON ({error}); delete it, or use another prefix"
        ) from None


def _milliseconds(ttl: float | None) -> int | None:
    if ttl is None:
        return None
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)):
        raise ValueError(f"a ttl is a number of seconds or None, not {ttl!r}")
    if not math.isfinite(ttl) or not 0 < ttl <= TTL_MAX_SECONDS:
        raise ValueError(f"a ttl is a number of seconds above 0 and up to ten years, not {ttl!r}")
    return max(1, round(ttl * 1000))
