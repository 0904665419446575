"""Ends running jobs in the other ways that SAQ offers: end_running.py URL QUEUE. Prints how each ended."""

import asyncio
import json
import sys

from saq.job import Status
from saq.queue.redis import RedisQueue


async def main(url: str, name: str) -> None:
    queue = RedisQueue.from_url(url, name=name)
    answer = {}
    for key in ("updated", "completed", "failed"):
        job = await queue.enqueue("long", key=key, timeout=0)
        assert job is not None
        while job.status != "active":
            await asyncio.sleep(0.02)
            await job.refresh()
        if key == "updated":
            job.error = "enough"
            await job.update(status=Status.ABORTING)
        elif key == "completed":
            await job.finish(Status.COMPLETE, result={"by": "hand"})
        else:
            await job.finish(Status.FAILED, error="by hand")
        leased = 1
        while leased:  # until the daemon has let go of it
            await asyncio.sleep(0.02)
            leased = await queue.redis.exists(f"crmd:q:{name}:leases")
        await job.refresh()
        answer[key] = {"status": job.status.value, "result": job.result, "error": job.error}
    sys.stdout.write(json.dumps(answer))
    await queue.disconnect()


asyncio.run(main(*sys.argv[1:3]))
