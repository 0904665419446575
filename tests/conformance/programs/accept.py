"""Enqueues jobs as a program without crmd does: accept.py URL QUEUE FUNCTION COUNT.

Prints how many were accepted.
"""

import asyncio
import json
import sys

from saq import Queue


async def main(url: str, name: str, function: str, count: int) -> None:
    queue = Queue.from_url(url, name=name)
    jobs = await asyncio.gather(*(queue.enqueue(function, n=n) for n in range(count)))
    sys.stdout.write(json.dumps({"accepted": sum(job is not None for job in jobs)}))
    await queue.disconnect()


asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
