"""SAQ's queue on the engine's scripts: what plain SAQ functions call, made safe."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

from saq.job import Job, Status
from saq.queue.base import Queue

from crmd.engine.admin.control import Control
from crmd.engine.codec import Unreadable, decode, encode_payload
from crmd.engine.saq.plain import FIELDS, with_changes
from crmd.engine.store.replies import NewDocument
from crmd.errors import IllegalTransition, RequestError


class SaqQueue(Queue):
    """A queue whose jobs cannot be lost or doubled by the calls that SAQ offers.

    It is not a RedisQueue, of which it could keep nothing. The engine's workers take its jobs by `claim`, so
    `dequeue` and `finish` are refused.
    """

    def __init__(self, name: str, control: Control, store_update: Callable[[Job], Awaitable[bool]]) -> None:
        """`store_update` stores what changed in a job that runs here, and says whether it does."""
        super().__init__(name, None, None)
        self.redis = control.store.redis
        """For functions that reach for the store by their queue."""
        self.control = control
        self.inspector = control.inspector
        self.scripts = control.inspector.queue(name)
        self._store_update = store_update

    def job_id(self, job_key: str) -> str:
        """A job's id in the store."""
        return self.scripts.keys.job_id(job_key)

    async def disconnect(self) -> None:
        """Does nothing: the connection is the daemon's."""

    def deserialize(self, payload: Any, status: Any = None) -> Job | None:
        """A stored job as SAQ's object, without fields that this SAQ does not know; None for what is not a job."""
        if not payload:
            return None
        try:
            data = dict(payload) if isinstance(payload, dict) else decode(payload)
        except Unreadable:
            return None
        fields = {name: value for name, value in data.items() if name in FIELDS and name != "queue"}
        if not isinstance(fields.get("function"), str):
            return None
        if str(fields.get("status")).upper() not in Status.__members__:
            fields.pop("status", None)
        if status:
            fields["status"] = status
        if str(fields.get("status")).upper() not in Status.__members__:
            fields["status"] = Status.QUEUED
        fields.setdefault("function", "")
        return Job(**fields, queue=self)

    async def enqueue(self, job_or_func: str | Job, **kwargs: Any) -> Job | None:
        """Adds a job; where its key is taken the existing job is returned instead of None."""
        job = await super().enqueue(job_or_func, **kwargs)
        if job is None and isinstance(job_or_func, Job):
            return await self.job(job_or_func.key)
        return job

    async def _enqueue(self, job: Job) -> Job | None:
        data = {**job.to_dict(), "queue": self.name}
        due_ms = round(job.scheduled * 1000) if job.scheduled else -1
        [created] = await self.scripts.enqueue(
            [NewDocument(self.job_id(job.key), encode_payload(data), due_ms=due_ms)]
        )
        return job if created else await self.job(job.key)

    async def job(self, job_key: str) -> Job | None:
        """One job, if the queue holds it."""
        return self.deserialize(await self.control.store.command("GET", self.job_id(job_key)))

    async def jobs(self, job_keys: Iterable[str]) -> list[Job | None]:
        """Several jobs; None for each that is gone or unreadable."""
        ids = [self.job_id(key) for key in job_keys]
        documents = await self.control.store.command("MGET", *ids) if ids else []
        return [self.deserialize(document) for document in documents]

    async def iter_jobs(self, statuses: list[Status] = list(Status), batch_size: int = 100) -> AsyncIterator[Job]:  # noqa: B006
        """The queue's jobs, finished ones too, that have one of these statuses."""
        cursor: str | None = None
        while True:
            page = await self.inspector.jobs(self.name, cursor=cursor, limit=batch_size)
            for job in await self.jobs(view.key for view in page.jobs):
                if job is not None and job.status in statuses:
                    yield job
            cursor = page.cursor
            if cursor is None:
                return

    async def abort(self, job: Job, error: str, ttl: float = 5) -> None:
        """Cancels a job that waits or runs; a finished one stays as it is, without an error, as in SAQ."""
        with contextlib.suppress(IllegalTransition):
            await self.control.cancel(self.name, job.key, error)
            job.status, job.error = Status.ABORTING, error

    async def retry(self, job: Job, error: str | None) -> None:
        """Queues a finished job again. One that waits, runs or completed stays as it is."""
        with contextlib.suppress(IllegalTransition):
            await self.control.retry(self.name, job.key)
            job.status = Status.QUEUED

    _retry = retry

    async def finish(
        self, job: Job, status: Status, *, result: Any = None, error: str | None = None, **_: Any
    ) -> None:
        """Raises IllegalTransition: a job's end is written by the worker that holds its lease."""
        raise IllegalTransition(f"job {job.key} is ended by the daemon that runs it, not by finish()")

    _finish = finish

    async def _update(self, job: Job, status: Status | None = None, **kwargs: Any) -> None:
        """Stores a running job's own changes. One that does not run stays as it is."""
        if await self._store_update(job):
            return
        [found] = await self.scripts.inspect([self.job_id(job.key)])
        if found.lease is None or found.document is None:
            return
        job.status = status or Status.ACTIVE
        document = encode_payload(with_changes(decode(found.document), job))
        await self.scripts.mark([(found.job_id, found.lease, document, False)])

    async def dequeue(self, timeout: float = 0.0, poll_interval: float = 0.0) -> Job | None:
        """Raises RequestError: taking one job without a lease is how SAQ loses jobs."""
        raise RequestError(f"queue {self.name} gives its jobs to crmd's workers, in batches with a lease")

    async def sweep(self, lock: int = 60, abort: float = 5.0) -> list[str]:
        """Nothing to do: leases, not time limits, say which jobs are orphans, and the daemon looks after them."""
        return []

    async def write_worker_info(self, worker_id: str, info: Any, ttl: int) -> None:
        """Nothing to do: daemons announce themselves."""

    async def count(self, kind: str) -> int:
        """How many jobs of a kind: queued, active or incomplete. Raises ValueError for another kind."""
        counts = await self.inspector.counts(self.name)
        known = {
            "queued": counts.waiting,
            "active": counts.active,
            "incomplete": counts.waiting + counts.active + counts.delayed,
        }
        try:
            return known[kind]
        except KeyError:
            raise ValueError(f"cannot count {kind!r}; kinds are {', '.join(known)}") from None

    async def info(self, jobs: bool = False, offset: int = 0, limit: int = 10) -> Any:
        """Counts, workers, and with `jobs` one page of jobs, state after state, finished ones too."""
        counts, daemons = await asyncio.gather(self.inspector.counts(self.name), self.inspector.daemons())
        totals = (await self.inspector.totals())[self.name]
        stats = {"complete": totals.completed, "failed": totals.failed, "retried": totals.retried}
        uptimes = {daemon.id: round((daemon.seen_at - daemon.started_at) * 1000) for daemon in daemons}
        return {
            "workers": {
                name: {"stats": {**stats, "aborted": totals.cancelled, "uptime": uptime}, "queue_key": self.name}
                for name, uptime in uptimes.items()
            },
            "name": self.name,
            "queued": counts.waiting,
            "active": counts.active,
            "scheduled": counts.delayed,
            "jobs": await self._page(offset, limit) if jobs else [],
        }

    async def listen(
        self, job_keys: Iterable[str], callback: Any, timeout: float | None = 10, poll_interval: float = 0.5
    ) -> None:
        """Calls back with each job's status until the callback is content, or TimeoutError."""

        async def wait(key: str) -> bool:
            return await self.control.wait_for(
                self.job_id(key), functools.partial(satisfied, key), timeout or None
            )

        async def satisfied(key: str) -> bool | None:
            job = await self.job(key)
            if job is None:
                return None
            answer = callback(key, job.status)
            return True if (await answer if inspect.isawaitable(answer) else answer) else None

        waits = [asyncio.create_task(wait(key)) for key in job_keys]
        if not waits:
            return
        done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        done.pop().result()

    async def notify(self, job: Job) -> None:
        """Publishes a job's status, as SAQ does."""
        await self.control.store.command("PUBLISH", job.id, job.status)

    async def _page(self, offset: int, limit: int) -> list[dict[str, Any]]:
        keys: list[str] = []
        cursor: str | None = None
        while len(keys) < offset + limit:
            page = await self.inspector.jobs(self.name, cursor=cursor, limit=offset + limit - len(keys))
            keys += [view.key for view in page.jobs]
            cursor = page.cursor
            if cursor is None:
                break
        documents = await self.jobs(keys[offset:])
        return [job.to_dict() for job in documents if job is not None]
