"""Enqueues jobs and waits for each: wait_for_all.py URL QUEUE FUNCTION COUNT.

Prints their statuses and results.
"""

import asyncio
import collections
import json
import sys

from saq import Queue


async def main(url: str, name: str, function: str, count: int) -> None:
    queue = Queue.from_url(url, name=name)
    added = await asyncio.gather(*(queue.enqueue(function, n=n) for n in range(count)))
    jobs = [job for job in added if job is not None]
    await asyncio.gather(*(job.refresh(until_complete=20) for job in jobs))
    statuses = collections.Counter(job.status.value for job in jobs)
    right = sum(job.result == n for n, job in enumerate(jobs))
    sys.stdout.write(json.dumps({"statuses": statuses, "right": right}))
    await queue.disconnect()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
