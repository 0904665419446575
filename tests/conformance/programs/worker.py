"""A SAQ worker with a cron job: worker.py URL QUEUE. Runs until it is ended."""

import asyncio
import sys
from typing import Any

from saq import CronJob, Worker
from saq.queue.redis import RedisQueue


async def tick(_: Any) -> None:
    """Does nothing."""


async def main(url: str, name: str) -> None:
    queue = RedisQueue.from_url(url, name=name)
    # It takes no job: only its heartbeat and its cron job show.
    worker = Worker(queue, [], concurrency=0, cron_jobs=[CronJob(tick, cron="* * * * * */2")])
    await worker.start()


asyncio.run(main(*sys.argv[1:3]))
