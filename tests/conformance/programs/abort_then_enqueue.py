"""Aborts a running job and uses its key again at once: abort_then_enqueue.py URL ONE OTHER.

Prints how long the key was refused in its own queue and in another.
"""

import asyncio
import json
import sys
import time

from saq.queue.redis import RedisQueue


async def main(url: str, one: str, other: str) -> None:
    queues = {name: RedisQueue.from_url(url, name=name) for name in (one, other)}
    job = await queues[one].enqueue("long", key="same", timeout=0)
    assert job is not None
    while job.status != "active":
        await asyncio.sleep(0.02)
        await job.refresh()
    await job.abort("not wanted")
    await job.refresh(until_complete=5)
    refused = {}
    for name, queue in queues.items():
        began = time.monotonic()
        while await queue.enqueue("double", key="same", n=4) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        refused[name] = time.monotonic() - began
        again = await queue.job("same")
        assert again is not None
        await again.refresh(until_complete=5)
        assert again.result == 8, again
    sys.stdout.write(json.dumps({"status": job.status.value, "refused": refused}))
    for queue in queues.values():
        await queue.disconnect()


asyncio.run(main(*sys.argv[1:4]))
