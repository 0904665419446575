"""Watches short and long jobs run: watch.py URL QUEUE. Prints what was published and counted of them."""

import asyncio
import json
import sys
from typing import Any, cast

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue


async def main(url: str, name: str) -> None:
    queue = RedisQueue.from_url(url, name=name)
    client = Redis.from_url(url)
    published: dict[str, list[str]] = {}
    listening = asyncio.create_task(listen(client, name, published))
    while not await client.pubsub_numpat():  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    long = await queue.enqueue("hold", key="long", until="listed")
    assert long is not None
    while long.status != "active":
        await asyncio.sleep(0.01)
        await long.refresh()
    shorts = [await queue.enqueue("double", key=f"short{n}", n=n) for n in range(20)]
    for job in shorts:
        assert job is not None
        await job.refresh(until_complete=5)
    active, info = await queue.count("active"), await queue.info(jobs=True)
    listed = [job["key"] for job in info["jobs"]]
    await cast(Any, client).rpush("listed", "now")
    await long.refresh(until_complete=5)
    found = [job.key async for job in queue.iter_jobs()]
    answer = {
        "long": published["long"],
        "short": [published[f"short{n}"] for n in range(20)],
        "active": active,
        "info": {name: info[name] for name in ("name", "queued", "active", "scheduled")},
        "listed": listed,
        "attempts": long.attempts,
        "active_after": await queue.count("active"),
        "incomplete_after": await queue.count("incomplete"),
        "found": sorted(found),
    }
    sys.stdout.write(json.dumps(answer))
    listening.cancel()
    await queue.disconnect()
    await client.aclose()


async def listen(client: Redis, name: str, published: dict[str, list[str]]) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.psubscribe(f"saq:job:{name}:*")
        async for message in pubsub.listen():
            if message["type"] == "pmessage":
                key = message["channel"].decode().rpartition(":")[2]
                published.setdefault(key, []).append(message["data"].decode())


asyncio.run(main(*sys.argv[1:3]))
