"""Aborts jobs that wait, are delayed, and run: abort.py URL HELD OPEN. Prints how each ended.

The queue HELD is paused; the queue OPEN runs its jobs.
"""

import asyncio
import json
import sys
import time

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue


async def main(url: str, held: str, open_: str) -> None:
    client = Redis.from_url(url)
    published: dict[str, list[str]] = {}
    listening = asyncio.create_task(listen(client, published))
    queues = {name: RedisQueue.from_url(url, name=name) for name in (held, open_)}
    answer = {}
    for kind, name, scheduled in (
        ("waiting", held, 0),
        ("delayed", open_, int(time.time()) + 3600),
        ("running", open_, 0),
    ):
        job = await queues[name].enqueue("long", key=kind, scheduled=scheduled, timeout=0)
        assert job is not None
        while kind == "running" and job.status != "active":
            await asyncio.sleep(0.02)
            await job.refresh()
        began = time.monotonic()
        await job.abort("not wanted")
        await job.refresh(until_complete=5)
        answer[kind] = {
            "seconds": time.monotonic() - began,
            "status": job.status.value,
            "error": job.error,
            "stored": json.loads(await client.get(job.id))["status"],
            "incomplete": await client.zscore(f"saq:{name}:incomplete", job.id),
        }
    await asyncio.sleep(0.3)
    for kind, found in answer.items():
        found["published"] = published[kind]
    sys.stdout.write(json.dumps(answer))
    listening.cancel()
    for queue in queues.values():
        await queue.disconnect()
    await client.aclose()


async def listen(client: Redis, published: dict[str, list[str]]) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.psubscribe("saq:job:*")
        async for message in pubsub.listen():
            if message["type"] == "pmessage":
                key = message["channel"].decode().rpartition(":")[2]
                published.setdefault(key, []).append(message["data"].decode())


asyncio.run(main(*sys.argv[1:4]))
