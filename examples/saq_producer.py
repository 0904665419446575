"""Adds jobs with SAQ alone, without crmd: python saq_producer.py URL, the store's URL."""
# ruff: noqa: T201

from __future__ import annotations

import asyncio
import sys
import time

from saq.queue.redis import RedisQueue


async def main(url: str) -> None:
    """Adds a job and waits for it, then adds one for later and takes it back."""
    queue = RedisQueue.from_url(url, name="notification")
    await queue.connect()

    job = await queue.enqueue("notify", message="from SAQ")
    if job is None:
        raise SystemExit("a job with this key waits or runs already")
    await job.refresh(until_complete=10)
    print(job.status, job.result)

    later = await queue.enqueue("notify", message="later", scheduled=int(time.time()) + 600)
    if later is not None:
        await later.abort("not needed any more")
        print(later.key, "is taken back")

    await queue.disconnect()


asyncio.run(main(sys.argv[1]))
