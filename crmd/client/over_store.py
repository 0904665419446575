"""The client for applications: adds jobs and looks after them, over the store or over HTTP."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from crmd.client.repeating import in_parts, repeated
from crmd.config.model import Settings
from crmd.engine.admin.assembly import EngineAdmin
from crmd.engine.admin.requests import STORE_OWNER, RequestKey, check_request_key
from crmd.engine.admin.views import LONGEST_UNIQUE_FOR_S, Added, JobView, NewJob
from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.store import keys
from crmd.errors import StoreError, StoreUnavailable, UnknownQueue

T = TypeVar("T")

LEARN_EVERY_S = 30.0
"""A program at the store asks again for a queue's unique_for after this long."""

_QUEUE_NAME = re.compile(r"[a-z0-9_-]{1,64}")


class Backend(Protocol):
    """A way to the daemon."""

    async def start(self) -> None:
        """Connects; raises StoreUnavailable at once if nothing answers."""

    async def stop(self) -> None:
        """Disconnects."""

    async def enqueue(self, queue: str, jobs: list[NewJob], idempotency_key: str | None) -> list[Added]:
        """Adds jobs; under a key once, however often it is called."""

    async def job(self, queue: str, key: str) -> JobView:
        """One job."""

    async def wait(self, queue: str, key: str, timeout: float | None) -> JobView:
        """One job once it is over."""

    async def cancel(self, queue: str, key: str) -> JobView:
        """Cancels one job."""


class AsyncClient:
    """Adds jobs, waits for them and reads them.

    `url` is the store's (`redis://`, `rediss://`, `unix://`) or, with a bearer `token`, the daemon's (`http://`,
    `https://`). Use it as `async with AsyncClient(url) as client`. Methods raise `crmd.StoreUnavailable` if
    nothing answers, and the other errors of `crmd.errors` for what cannot be done.
    """

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self._backend = _backend(url, token)

    @classmethod
    def on(cls, admin: EngineAdmin) -> Self:
        """A client on an engine that its owner connects and disconnects."""
        client = cls.__new__(cls)
        client._backend = StoreBackend(admin)
        return client

    async def __aenter__(self) -> Self:
        await self._backend.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._backend.stop()

    async def enqueue(
        self,
        queue: str,
        job: str,
        payload: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        delay: float | None = None,
        at: float | None = None,
        priority: int = 0,
        unique_for: float | None = None,
        idempotency_key: str | None = None,
    ) -> Added:
        """Adds one job. `delay` and `unique_for` are seconds, `at` epoch seconds, `priority` 1 (first) to 10.

        A call that is repeated with its `idempotency_key` adds nothing and returns what the first returned.
        Over HTTP each call has such a key, and is repeated if its answer is lost; straight to the store only
        one that was given one.
        """
        new = NewJob(job, dict(payload or {}), key, delay, at, priority, unique_for)
        [added] = await self._backend.enqueue(queue, [new], idempotency_key)
        return added

    async def enqueue_many(
        self, queue: str, jobs: Iterable[NewJob], *, idempotency_key: str | None = None
    ) -> list[Added]:
        """Adds many jobs in few trips; `idempotency_key` as of `enqueue`, for all of them together."""
        return await self._backend.enqueue(queue, list(jobs), idempotency_key)

    async def job(self, queue: str, key: str) -> JobView:
        """One job with its timeline; raises JobNotFound."""
        return await self._backend.job(queue, key)

    async def wait(self, queue: str, key: str, timeout: float | None = None) -> JobView:
        """The job once it is over; raises TimeoutError after `timeout` seconds."""
        return await self._backend.wait(queue, key, timeout)

    async def cancel(self, queue: str, key: str) -> JobView:
        """Cancels a waiting, delayed or active job."""
        return await self._backend.cancel(queue, key)


class Client:
    """`AsyncClient` for code without an event loop: the same methods, blocking. Safe to use from many threads."""

    def __init__(self, url: str, *, token: str | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crmd client", daemon=True)
        self._client = AsyncClient(url, token=token)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._client.__aexit__(kind, error, trace))
        finally:
            self._end()

    def enqueue(self, queue: str, job: str, payload: Mapping[str, Any] | None = None, **options: Any) -> Added:
        """As `AsyncClient.enqueue`."""
        return self._run(self._client.enqueue(queue, job, payload, **options))

    def enqueue_many(
        self, queue: str, jobs: Iterable[NewJob], *, idempotency_key: str | None = None
    ) -> list[Added]:
        """As `AsyncClient.enqueue_many`."""
        return self._run(self._client.enqueue_many(queue, jobs, idempotency_key=idempotency_key))

    def job(self, queue: str, key: str) -> JobView:
        """As `AsyncClient.job`."""
        return self._run(self._client.job(queue, key))

    def wait(self, queue: str, key: str, timeout: float | None = None) -> JobView:
        """As `AsyncClient.wait`."""
        return self._run(self._client.wait(queue, key, timeout))

    def cancel(self, queue: str, key: str) -> JobView:
        """As `AsyncClient.cancel`."""
        return self._run(self._client.cancel(queue, key))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        waiting: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return waiting.result()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class StoreBackend:
    """Straight to the store."""

    def __init__(self, admin: EngineAdmin) -> None:
        self._registry = admin.registry
        self._admin = admin
        self._learn_at: dict[str, float] = {}

    async def start(self) -> None:
        """Connects."""
        await self._admin.start()

    async def stop(self) -> None:
        """Disconnects."""
        await self._admin.stop()

    async def enqueue(self, queue: str, jobs: list[NewJob], idempotency_key: str | None) -> list[Added]:
        """Adds jobs; with a key 1,000 in a step, and again where an answer is lost."""
        name = self._known(queue)
        if idempotency_key is None:
            if self._unique_for_unknown(name, jobs):
                await self._learn_unique_for(name)
            return await self._admin.control.enqueue(name, jobs)
        added: list[Added] = []
        for part, key in in_parts(jobs, check_request_key(idempotency_key)):
            added += await repeated(partial(self._add_once, name, part, RequestKey(STORE_OWNER, key)))
        return added

    def _unique_for_unknown(self, queue: str, jobs: list[NewJob]) -> bool:
        """Whether jobs go by their queue's unique_for and it was not read lately."""
        return _go_by_their_queue(jobs) and time.monotonic() >= self._learn_at.get(queue, 0.0)

    async def _learn_unique_for(self, queue: str) -> None:
        """Reads the daemons' unique_for of a queue; without one, or where it is not one, the shipped one holds."""
        settings = self._registry.queues[queue]
        seconds = await self._told_unique_for(queue)
        if seconds is not None and seconds != settings.unique_for_seconds:
            self._registry.put(replace(settings, unique_for_seconds=seconds))
        self._learn_at[queue] = time.monotonic() + LEARN_EVERY_S

    async def _told_unique_for(self, queue: str) -> float | None:
        try:
            seconds = float(await self._admin.store.command("HGET", keys.UNIQUE_FOR, queue) or b"") / 1000
        except StoreUnavailable:
            raise
        except (StoreError, ValueError):  # the next daemon to announce itself puts it right
            return None
        return seconds if 0 <= seconds <= LONGEST_UNIQUE_FOR_S else None

    async def _add_once(self, queue: str, jobs: list[NewJob], key: RequestKey) -> list[Added]:
        if self._unique_for_unknown(queue, jobs):
            await self._learn_unique_for(queue)
        return await self._admin.control.enqueue_request(queue, jobs, key)

    async def job(self, queue: str, key: str) -> JobView:
        """One job."""
        return await self._admin.inspector.job(self._known(queue), key)

    async def wait(self, queue: str, key: str, timeout: float | None) -> JobView:
        """One job once it is over."""
        return await self._admin.control.wait(self._known(queue), key, timeout)

    async def cancel(self, queue: str, key: str) -> JobView:
        """Cancels one job."""
        return await self._admin.control.cancel(self._known(queue), key)

    def _known(self, queue: str) -> str:
        """A queue of the daemon's own configuration is not known here, and needs no more than its name."""
        if queue not in self._registry.queues:
            if not _QUEUE_NAME.fullmatch(queue):
                raise UnknownQueue(f"{queue!r} is not a queue's name: 1 to 64 of a-z, 0-9, _ and -")
            self._registry.put(QueueSettings(queue))
        return queue


def _go_by_their_queue(jobs: list[NewJob]) -> bool:
    """Whether the key of any stays taken as long as its queue's settings say."""
    for new in jobs:  # noqa: SIM110 - a generator would cost 3 % of adding one job
        if new.key is not None and new.unique_for is None:
            return True
    return False


def _backend(url: str, token: str | None) -> Backend:
    if url.startswith(("http://", "https://")):
        from crmd.client.over_http import (
            HttpBackend,  # aiohttp's client is not loaded for who needs the store only
        )

        return HttpBackend(url, token)
    return StoreBackend(EngineAdmin.at(url, SettingsRegistry(Settings().queue_settings())))
