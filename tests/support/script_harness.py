"""One queue's scripts on a real store, and the few steps that tests of them take again and again."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import orjson

from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.store.replies import Ack, AckKind, Claimed, Inspected, NewDocument
from crmd.engine.store.scripts import QueueScripts
from crmd.errors import StoreError
from tests.support.storeclock import NOW_KEY, StoreClock, freeze

T = TypeVar("T")


class ScriptHarness:
    """A queue and what tests do with it. Jobs are named by their keys here, not by their ids."""

    def __init__(self, store: Store, settings: QueueSettings) -> None:
        self.store = store
        self.scripts = QueueScripts(store, settings.name, SettingsRegistry({settings.name: settings}))
        self.keys = self.scripts.keys
        self._tokens = itertools.count()

    async def redis(self, *command: Any) -> Any:
        """Runs one plain command."""
        return await self.store.command(*command)

    def token(self, epoch: str = "daemon-1") -> str:
        """A lease token that no other claim has."""
        return f"{epoch}:{next(self._tokens)}"

    def new(self, key: str, payload: dict[str, Any] | None = None, **options: Any) -> NewDocument:
        """A job to enqueue."""
        return NewDocument(self.keys.job_id(key), document(self.keys.name, key, payload), **options)

    async def add(self, *keys: str, payload: dict[str, Any] | None = None, **options: Any) -> list[bool]:
        """Enqueues jobs; says of each whether it is new."""
        return await self.scripts.enqueue([self.new(key, payload, **options) for key in keys])

    async def claim(self, slots: int = 10, token: str | None = None, *, isolated: bool = False) -> Claimed:
        """Claims under a token of its own, if none is given."""
        return await self.scripts.claim(token or self.token(), slots, isolated=isolated)

    async def claimed(self, slots: int = 10, token: str | None = None, *, isolated: bool = False) -> list[str]:
        """Claims, and says the keys of what was leased."""
        return self.keys_of(await self.claim(slots, token, isolated=isolated))

    async def lease(self, *keys: str, epoch: str = "daemon-1", **options: Any) -> str:
        """Enqueues jobs and claims them; their token."""
        token = self.token(epoch)
        await self.add(*keys, **options)
        assert await self.claimed(len(keys), token) == list(keys)
        return token

    async def finish(self, key: str, kind: AckKind = AckKind.COMPLETE, **fields: Any) -> None:
        """Enqueues one job and brings it to its end, with an entry in its timeline."""
        token = await self.lease(key)
        assert await self.end(key, token, kind, **{"entry": b"{}", **fields}) == "done"

    async def make_crash_looping(self, key: str) -> None:
        """Lets a waiting job be one whose daemon died twice with it."""
        job_id = self.keys.job_id(key)
        await self.redis("LREM", self.keys.queued, 0, job_id)
        await self.redis("RPUSH", self.keys.suspects, job_id)
        await self.redis("HSET", self.keys.crashes, job_id, 2)

    async def add_crash_looping(self, key: str, payload: dict[str, Any] | None = None) -> None:
        """Enqueues a job whose daemon died twice with it."""
        await self.add(key, payload=payload)
        await self.make_crash_looping(key)

    @asynccontextmanager
    async def broken(self, structure: str) -> AsyncIterator[None]:
        """Meanwhile a structure of the queue is of the wrong type; then it holds again what it held."""
        name = getattr(self.keys, structure)
        held = await self.redis("DUMP", name)
        await self.redis("DEL", name)
        await self.redis("SET", name, "wrong")
        yield
        await self.redis("DEL", name)
        if held:
            await self.redis("RESTORE", name, 0, held)

    @asynccontextmanager
    async def full(self) -> AsyncIterator[None]:
        """Meanwhile the store is at its memory limit."""
        await self.redis("CONFIG", "SET", "maxmemory", 1)
        try:
            yield
        finally:
            await self.redis("CONFIG", "SET", "maxmemory", 0)

    def keys_of(self, claimed: Claimed) -> list[str]:
        """The keys of what a claim leased."""
        return [self.keys.key_of(job_id) for job_id, _, _ in claimed.jobs]

    def ack(self, key: str, token: str, kind: AckKind, **fields: Any) -> Ack:
        """The outcome of one job; its JSON says the status that it ends with."""
        fields.setdefault("document", document(self.keys.name, key, status=kind.status))
        return Ack(self.keys.job_id(key), token, kind, **fields)

    async def settle(self, key: str, token: str, kind: AckKind, **fields: Any) -> str:
        """Settles one job: `done`, `stale` or `taken`."""
        stale, taken = await self.scripts.settle([self.ack(key, token, kind, **fields)])
        return "stale" if stale else "taken" if taken else "done"

    async def end(self, key: str, token: str, kind: AckKind, **fields: Any) -> str:
        """Settles one job; one that is to be cancelled was taken out of the indexes by its cancellation before."""
        if kind is AckKind.ABORTED:
            await self.redis("ZREM", self.keys.incomplete, self.keys.job_id(key))
        return await self.settle(key, token, kind, **fields)

    async def inspect(self, key: str) -> Inspected:
        """All that is known of one job."""
        [found] = await self.scripts.inspect([self.keys.job_id(key)], timeline=True)
        return found

    async def place(self, key: str) -> str:
        """Where a job is: active, waiting, delayed, completed, failed, unknown, cancelled, limbo or gone."""
        found = await self.inspect(key)
        if found.lease is not None:
            return "active" if found.due is not None else "active, aborted"
        if found.due is not None:
            return "delayed" if found.due else "waiting"
        return found.place or ("limbo" if found.document else "gone")

    async def status(self, key: str) -> str | None:
        """What a job's JSON says."""
        found = await self.inspect(key)
        return orjson.loads(found.document)["status"] if found.document else None

    async def lane(self) -> list[str]:
        """The keys in the normal lane, mentions of gone jobs included."""
        return [self.keys.key_of(raw.decode()) for raw in await self.redis("LRANGE", self.keys.queued, 0, -1)]

    async def counters(self) -> dict[str, int]:
        """The counts of all time."""
        return {name: int(count) for name, count in (await self.scripts.counts()).counters.items()}

    async def log(self, key: str) -> list[bytes]:
        """A job's timeline, as stored."""
        found: list[bytes] = await self.redis("LRANGE", self.keys.log(key), 0, -1)
        return found

    async def stock_abort(self, key: str) -> None:
        """What SAQ's `RedisQueue.abort` writes; then its client ends a job that waited itself."""
        job_id = self.keys.job_id(key)
        async with self.store.redis.pipeline(transaction=True) as pipe:
            pipe.lrem(self.keys.queued, 0, job_id)
            pipe.zrem(self.keys.incomplete, job_id)
            pipe.set(job_id, document(self.keys.name, key, status="aborting", error="stop"))
            pipe.setex(f"saq:abort:{key}", 5, "stop")
            pipe.publish(job_id, "aborting")
            waited, *_ = await pipe.execute()
        if not waited:
            await self.redis("LREM", self.keys.active, 0, job_id)
            return
        async with self.store.redis.pipeline(transaction=True) as pipe:
            pipe.lrem(self.keys.active, 1, job_id)
            pipe.zrem(self.keys.incomplete, job_id)
            pipe.setex(job_id, 600, document(self.keys.name, key, status="aborted", error="stop"))
            await pipe.execute()
        await self.redis("DEL", f"saq:abort:{key}")

    async def stock_enqueue(self, key: str, due_s: float = 0) -> bool:
        """What the script of SAQ's `RedisQueue` does to add a job."""
        job_id = self.keys.job_id(key)
        taken = await self.redis("ZSCORE", self.keys.incomplete, job_id)
        if taken is not None or await self.redis("EXISTS", f"saq:abort:{key}"):
            return False
        async with self.store.redis.pipeline(transaction=True) as pipe:
            pipe.set(job_id, document(self.keys.name, key))
            pipe.zadd(self.keys.incomplete, {job_id: due_s})
            if not due_s:
                pipe.rpush(self.keys.queued, job_id)
            await pipe.execute()
        return True


def document(queue: str, key: str, payload: dict[str, Any] | None = None, **fields: Any) -> bytes:
    """A job's JSON."""
    data = {"function": "work", "kwargs": payload or {}, "queue": queue, "key": key, "status": "queued"}
    return orjson.dumps(data | fields)


@contextmanager
def may_meet_wrong_type() -> Iterator[None]:
    """A script that may meet a structure of the wrong type, or not touch it, fails in no other way."""
    try:
        yield
    except StoreError as error:
        if "WRONGTYPE" not in str(error):
            raise


class Bench:
    """A store with a clock of its own for tests that are no coroutines, such as hypothesis examples."""

    def __init__(self, runner: asyncio.Runner, store: Store, clock: StoreClock) -> None:
        self.runner = runner
        self.store = store
        self.clock = clock

    def run(self, scenario: Callable[[Store, StoreClock], Awaitable[T]]) -> T:
        """Runs one scenario on an empty store, at the clock's start."""

        async def run() -> T:
            await self.store.command("FLUSHALL")
            await self.clock.set(self.clock.ms)
            result = await scenario(self.store, self.clock)
            await self.store.command("DEL", NOW_KEY)
            return result

        return self.runner.run(run())


@contextmanager
def bench(url: str) -> Iterator[Bench]:
    """A bench on the store at `url`."""
    with asyncio.Runner() as runner:
        store = Store(StoreTarget(url))

        async def start() -> StoreClock:
            await store.start(wait=False)
            return await freeze(store)

        try:
            yield Bench(runner, store, runner.run(start()))
        finally:
            runner.run(store.stop())
