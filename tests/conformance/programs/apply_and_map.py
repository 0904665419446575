"""Calls jobs like functions: apply_and_map.py URL QUEUE.

Prints what came back and how long the first call took.
"""

import asyncio
import json
import sys
import time

from saq import Queue
from saq.queue.base import JobError
from saq.queue.redis import RedisQueue


async def main(url: str, name: str) -> None:
    # SAQ's own from_url knows no unix sockets; that of its Redis queue does.
    queue = (RedisQueue if url.startswith("unix") else Queue).from_url(url, name=name)
    began = time.monotonic()
    applied = await queue.apply("double", n=21, poll_interval=0.1)
    seconds = time.monotonic() - began
    mapped = await queue.map("double", [{"n": n} for n in range(20)], timeout=10)
    try:
        error = await queue.apply("fail", retries=2, retry_delay=0.01)
    except JobError as caught:
        error = caught.job.error
    several = await queue.map("fail", [{}, {}], timeout=10, retries=2, retry_delay=0.01, return_exceptions=True)
    answer = {
        "applied": applied,
        "seconds": seconds,
        "mapped": mapped,
        "error": error,
        "exceptions": [type(one).__name__ for one in several],
    }
    sys.stdout.write(json.dumps(answer))
    await queue.disconnect()


asyncio.run(main(sys.argv[1], sys.argv[2]))
