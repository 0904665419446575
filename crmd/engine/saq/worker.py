"""The daemon's workers as SAQ workers: one for each queue, and thin."""

from __future__ import annotations

from asyncio import Task
from collections.abc import Mapping
from functools import partial
from typing import Any

import saq
from saq.job import Job
from saq.types import WorkerInfo

from crmd.engine.saq.plain import plain_context, take_update
from crmd.engine.saq.queue import SaqQueue
from crmd.engine.worker.context import WorkerContext
from crmd.engine.worker.worker import QueueWorker
from crmd.jobs import Catalog


class SaqWorker(QueueWorker, saq.Worker[Any]):
    """A SAQ worker whose jobs the engine takes, runs and settles.

    Plain functions find in it what they know of SAQ's: `queue`, `id`, `context`, its methods. Yet `start`
    returns at once, and what SAQ's does from time to time the pool does for all workers.
    """

    queue: SaqQueue

    SIGNALS = []  # noqa: RUF012 - signals belong to the daemon; SAQ's worker would take them

    def __init__(self, name: str, context: WorkerContext, catalog: Catalog, resources: Mapping[type, Any]) -> None:
        queue = SaqQueue(name, context.control, self.store_update)
        concurrency = queue.scripts.settings.concurrency
        saq.Worker.__init__(self, queue, functions=(), id=context.instance_id, concurrency=concurrency)
        first_argument = partial(plain_context, queue, self.context, context.instance_id)
        QueueWorker.__init__(self, name, context, catalog, resources, first_argument)

    async def process(self) -> bool:
        """One trip to the store; False when there was nothing to do."""
        return await self.make_trip()

    async def upkeep(self) -> list[Task[None]]:
        """No tasks: the pool looks after delayed and cancelled jobs, lost leases and the list of daemons."""
        return []

    async def schedule(self, lock: int = 1) -> None:
        """Queues the delayed jobs that are due."""
        await self.promote_due()

    async def abort(self, abort_threshold: float) -> None:
        """Does nothing: a job is cancelled as soon as somebody asks for it, however long it has run."""

    async def worker_info(self, ttl: int = 60) -> WorkerInfo:
        """What the queue has done, and for how long this daemon is up. The pool announces it, whatever `ttl`."""
        found = (await self.queue.info())["workers"].get(self.id)
        return {"queue_key": self.queue.name, "stats": found and found["stats"], "metadata": None}

    async def store_update(self, job: Job) -> bool:
        """Stores what a handler changed in its job; False where the job does not run here."""
        execution = self.executor.executions.get(self.scripts.keys.job_id(job.key))
        if execution is None:
            return False
        take_update(execution, job)
        await self.executor.mark([execution])
        return True
