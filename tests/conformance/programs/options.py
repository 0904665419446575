"""Enqueues jobs with every option of SAQ's own: options.py URL QUEUE. Prints each job as it ended."""

import asyncio
import json
import sys
import time
from typing import Any

from redis.asyncio import Redis
from saq.queue.redis import RedisQueue

JOBS: dict[str, dict[str, Any]] = {
    "timeout": {"function": "sleep", "seconds": 30, "timeout": 1, "retries": 2},
    "retries": {"function": "fail", "retries": 2, "retry_delay": 0.2},
    "backoff": {"function": "fail", "retries": 3, "retry_delay": 0.1, "retry_backoff": 0.15},
    "ttl": {"function": "double", "n": 1, "ttl": 30},
    "forever": {"function": "double", "n": 2, "ttl": 0},
    "scheduled": {"function": "clock", "scheduled": 2},
    "foreign": {"function": "sleep", "seconds": 1.5, "priority": 5, "group_key": "g", "heartbeat": 1},
    "meta": {"function": "double", "n": 3, "meta": {"tenant": "one"}},
}


async def main(url: str, name: str) -> None:
    queue = RedisQueue.from_url(url, name=name)
    client = Redis.from_url(url)
    began = time.time()
    jobs = {}
    for key, options in JOBS.items():
        fields = dict(options)
        if "scheduled" in fields:
            fields["scheduled"] = int(began) + fields["scheduled"]
        job = await queue.enqueue(fields.pop("function"), key=key, **fields)
        assert job is not None
        jobs[key] = job
    await queue.enqueue("double", key="deleted", n=4, ttl=-1)
    answer: dict[str, Any] = {}
    for key, job in jobs.items():
        await job.refresh(until_complete=10)
        stored = json.loads(await client.get(job.id))
        answer[key] = {**stored, "lives": await client.ttl(job.id)}
    answer["began"] = began
    answer["deleted"] = await queue.job("deleted")
    sys.stdout.write(json.dumps(answer))
    await queue.disconnect()
    await client.aclose()


asyncio.run(main(*sys.argv[1:3]))
