"""The one owner of the connection to Redis or Valkey: connects, watches, reconnects, and reports its state."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakSet

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import DataError, NoScriptError, RedisError

from crmd.engine.store import keys
from crmd.engine.store.connection import PipelinedConnection
from crmd.engine.store.library import Script, load_scripts
from crmd.engine.store.tls import check_tls_files
from crmd.engine.store.translate import gives_up, refuses_writes, store_error
from crmd.errors import RequestError, StoreError, StoreUnavailable, StoreUnusable
from crmd.formatting import mask_url
from crmd.telemetry.events import Events

CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 4.0
"""A store that says nothing for this long is unavailable: a frozen one is noticed within five seconds."""
BACKOFF_FIRST_S = 0.05
BACKOFF_MAX_S = 1.0
"""Work has to resume within two seconds of the store's return."""
POOL_SIZE = 6
"""Connections for ordinary commands, beside the pipelined one."""
MIN_REDIS = (7, 0)
MIN_VALKEY = (7, 2)


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """The URL of the store, and that URL as it may be shown."""

    url: str
    """redis://, rediss:// or unix://, credentials inside."""

    @property
    def masked(self) -> str:
        """The URL without its credentials, to show."""
        return mask_url(self.url)


class Store:
    """The connection state machine. Everything that touches the store goes through it.

    `call` runs a script and joins the trip of the moment; `redis` is a plain client for ordinary commands.
    """

    def __init__(
        self,
        target: StoreTarget,
        events: Events | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.target = target
        self.events = events or Events()
        self.monotonic = monotonic
        self.redis = self._client()
        self.scripts = load_scripts()
        self.run_id = ""
        self.server = ""
        self.last_error: str | None = None
        self.refusal: str | None = None
        """Why the store, though it answers, does not take what has to be written; None while it does."""
        self.why_unavailable: Callable[[], str | None] = _no_reason
        """What the server's keeper knows of why it does not serve, such as a full disk."""
        self.latency_ms: float | None = None
        self.memory_ratio: float | None = None
        self.connected_since = 0.0
        """When this unbroken connection began, on `time.monotonic()`."""
        self._connection: PipelinedConnection | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._fatal: StoreUnusable | None = None
        self._settled = asyncio.Event()
        self._served = False
        self._tried = asyncio.Event()
        self._dedicated: WeakSet[AbstractConnection] = WeakSet()

    @property
    def connected(self) -> bool:
        """Whether the store answers."""
        return self._up.is_set()

    @property
    def serves(self) -> bool:
        """Whether the store answers and takes writes."""
        return self.connected and self.refusal is None

    @property
    def trouble(self) -> str:
        """Why the store does not serve, in one line."""
        return (
            self.why_unavailable()
            or self.last_error
            or self.refusal
            or f"{self.target.masked}: the store does not answer"
        )

    async def start(self, wait: bool = True) -> None:
        """Connects. With `wait`, waits for a store that is unavailable; else raises StoreUnavailable at once.

        Raises StoreUnusable for wrong credentials, unreadable TLS files, a database that is not there, a cluster,
        an old version or an eviction policy.
        """
        check_tls_files(self.redis.connection_pool.connection_kwargs, self.target.masked)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="store")
        if wait:
            await self._settled.wait()
        else:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._tried.wait(), CONNECT_TIMEOUT_S)
        if self._fatal:
            raise self._fatal
        if not self._settled.is_set():
            raise self._unavailable()

    async def stop(self) -> None:
        """Closes every connection. Idempotent, also before start."""
        if self._task:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._drop_connection()
        await self._close_others()
        await self.redis.aclose()

    async def wait_connected(self) -> None:
        """Returns once the store answers."""
        await self._up.wait()

    async def call(self, name: str, keys: Sequence[str], args: Sequence[Any] = ()) -> Any:
        """Runs a script; its strings come as bytes. Raises StoreUnavailable, StoreFull or StoreError."""
        script = self.scripts[name]
        command = ("EVALSHA", script.sha, len(keys), *keys, *args)
        try:
            return await self.command(*command)
        except NoScriptError:
            await self._load([script])
            return await self.command(*command)

    async def command(self, *command: str | bytes | int | float) -> Any:
        """Runs one command. Raises RequestError for a value that cannot be sent."""
        if self._connection is None:
            raise self._unavailable()
        try:
            return await self._connection.submit(command)
        except NoScriptError:
            raise
        except DataError as error:
            raise RequestError(f"the store takes no such value: {error}") from error
        except (RedisError, OSError) as error:
            if gives_up(error):
                self._connection.give_up(error)
            translated = self.translate(error)
            if refuses_writes(error) or isinstance(translated, StoreUnusable):
                self.note_refusal(str(translated))
            raise translated from error

    async def dedicated_connection(self) -> AbstractConnection:
        """A connection of the caller's own, for commands that block: reads do not time out.

        It is closed when the store is lost. Raises redis errors and OSError.
        """
        connection = cast(AbstractConnection, self.redis.connection_pool.make_connection())
        try:
            await connection.connect()
            _raise_swallowed_cancellation()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        connection.socket_timeout = None
        self._dedicated.add(connection)
        return connection

    def note_refusal(self, reason: str | None) -> None:
        """Notes why writes are not taken, or with None that they are."""
        if reason and not self.refusal:
            self.events.emit("store.writes_refused", reason=reason)
        elif self.refusal and not reason:
            self.events.emit("store.writes_taken")
        self.refusal = reason

    def translate(self, error: Exception) -> StoreError:
        """A redis error as one of ours."""
        return store_error(error, self.target.masked)

    async def guard(self, call: Awaitable[Any]) -> Any:
        """Awaits a call of the plain client; raises its errors as StoreError."""
        try:
            return await call
        except (RedisError, OSError, TimeoutError) as error:
            raise self.translate(error) from error

    async def require_writes(self) -> None:
        """Raises what a write ends with, by one that changes nothing: no time to live is longer than none."""
        await self.command("PEXPIRE", keys.DAEMONS, 1, "GT")

    async def probe(self) -> None:
        """Measures the latency and reads the memory figures; never raises."""
        began = time.monotonic()
        try:
            info = _parse_info(await self.command("INFO", "memory"))
        except StoreError:
            self.latency_ms = None
            return
        self.latency_ms = round((time.monotonic() - began) * 1000, 3)
        limit = int(info.get("maxmemory", 0))
        self.memory_ratio = int(info["used_memory"]) / limit if limit else None

    def _client(self) -> Redis:
        pool = BlockingConnectionPool.from_url(
            self.target.url,
            max_connections=POOL_SIZE,
            timeout=CONNECT_TIMEOUT_S,
            socket_timeout=REPLY_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            # A command that may have run is never sent again by the library: we decide.
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            client_name="crmd",
        )
        return Redis(connection_pool=pool)

    def _unavailable(self) -> StoreUnavailable:
        return StoreUnavailable(self.trouble)

    async def _run(self) -> None:
        delay = BACKOFF_FIRST_S
        while True:
            try:
                connection = await self._connect()
            except StoreUnusable as error:
                self.last_error = str(error)
                if not self._settled.is_set():
                    self._fatal = error
                    self._settled.set()
                    self._tried.set()
                    return
            except StoreError as error:
                self.last_error = str(error)
            else:
                delay = BACKOFF_FIRST_S
                await self._serve(connection)
            self._tried.set()
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(delay * 2, BACKOFF_MAX_S)

    async def _serve(self, connection: PipelinedConnection) -> None:
        self._connection, self.last_error = connection, None
        self.connected_since = time.monotonic()
        self._up.set()
        self._settled.set()
        self._tried.set()
        self.events.emit(
            "store.back" if self._served else "store.connected", server=self.server, url=self.target.masked
        )
        self._served = True
        error = await asyncio.shield(connection.broken)
        self._up.clear()
        self.latency_ms = None
        self.last_error = str(self.translate(error))
        await self._drop_connection()
        await self._close_others()
        self.events.emit("store.lost", url=self.target.masked, reason=self.last_error)

    async def _connect(self) -> PipelinedConnection:
        connection = cast(AbstractConnection, self.redis.connection_pool.make_connection())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S + REPLY_TIMEOUT_S):
                await connection.connect()
                _raise_swallowed_cancellation()
                info = await self._info(connection)
                _raise_swallowed_cancellation()
                self._check(info)
        except (RedisError, OSError) as error:
            await connection.disconnect(nowait=True)
            raise self.translate(error) from error
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        pipelined = PipelinedConnection(connection, REPLY_TIMEOUT_S, on_broken=self._up.clear)
        pipelined.start()
        try:
            await self._load(list(self.scripts.values()), pipelined)
        except BaseException:
            await pipelined.stop()
            raise
        return pipelined

    async def _info(self, connection: AbstractConnection) -> dict[str, str]:
        info: dict[str, str] = {}
        for section in ("server", "memory", "replication", "persistence", "cluster"):
            await connection.send_command("INFO", section)
            info |= _parse_info(await connection.read_response(disable_decoding=True))
        return info

    def _check(self, info: dict[str, str]) -> None:
        valkey = info.get("valkey_version")
        version = _version(valkey or info.get("redis_version", "0"))
        kind, minimum = ("Valkey", MIN_VALKEY) if valkey else ("Redis", MIN_REDIS)
        where = f"the store at {self.target.masked}"
        if version < minimum:
            needed = ".".join(map(str, minimum))
            raise StoreUnusable(
                f"{where} is {kind} {valkey or info.get('redis_version')}; {needed} or newer is needed"
            )
        if info.get("cluster_enabled") == "1":
            raise StoreUnusable(f"{where} is a cluster, which crmd does not support; give it a single server")
        policy = info.get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise StoreUnusable(f'{where} evicts keys ("{policy}"); set maxmemory-policy to noeviction')
        if info.get("loading") == "1":
            raise StoreUnavailable(f"{where} is loading its data")
        if info.get("role") == "slave":
            raise StoreUnavailable(f"{where} is a read-only replica")
        self.run_id = info.get("run_id", "")
        self.server = f"{kind} {valkey or info.get('redis_version')}"

    async def _load(self, scripts: list[Script], connection: PipelinedConnection | None = None) -> None:
        connection = connection or self._connection
        if connection is None:
            raise self._unavailable()
        try:
            await asyncio.gather(*(connection.submit(("SCRIPT", "LOAD", script.text)) for script in scripts))
        except (RedisError, OSError) as error:
            raise self.translate(error) from error

    async def _close_others(self) -> None:
        """What waits on another connection would not notice that the store is gone."""
        await self.redis.connection_pool.disconnect()
        for connection in list(self._dedicated):
            await connection.disconnect(nowait=True)

    async def _drop_connection(self) -> None:
        if self._connection:
            connection, self._connection = self._connection, None
            await connection.stop()
        self._up.clear()


def _no_reason() -> str | None:
    """The default of `why_unavailable`."""
    return None


def _raise_swallowed_cancellation() -> None:
    """Raises a cancellation that was swallowed: Python 3.11's `wait_for`, by which redis sends, may do so."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _parse_info(reply: bytes) -> dict[str, str]:
    pairs = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines() if ":" in line)
    return {name: value for name, _, value in pairs}


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])
