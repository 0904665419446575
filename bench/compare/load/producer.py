"""Adds jobs with the client of the revision that runs it, and marks the phase for `bench.trial`.

Run as a file, outside of the project: only what all versions have.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from typing import Any

import uvloop

from crmd import AsyncClient, NewJob

CHUNK = 1_000
AT_ONCE = 10
"""Tasks that add one job after the other."""


async def many(client: AsyncClient, count: int, keyed: bool, payload: dict[str, Any], queues: list[str]) -> None:
    """In calls of a thousand, to one queue after the other."""
    for begin, queue in zip(range(0, count, CHUNK), itertools.cycle(queues), strict=False):
        numbers = range(begin, min(begin + CHUNK, count))
        await client.enqueue_many(queue, [NewJob("work", payload, _key(n, keyed)) for n in numbers])


async def single(client: AsyncClient, count: int, keyed: bool, payload: dict[str, Any]) -> None:
    """Each in a call of its own, ten tasks at a time."""

    async def produce(first: int) -> None:
        for number in range(first, count, AT_ONCE):
            await client.enqueue("bench", "work", payload, key=_key(number, keyed))

    await asyncio.gather(*(produce(first) for first in range(AT_ONCE)))


async def steady(client: AsyncClient, count: int, every: float) -> None:
    """One every so often, not in step with any timer of the worker; each says when it was about to be added."""
    for _ in range(count):
        await client.enqueue("bench", "late", {"at": time.time()})
        await asyncio.sleep(every * random.uniform(0.8, 1.2))


async def main() -> None:
    """What the command line names."""
    _, task, url, text = sys.argv[1:]
    options = json.loads(text)
    async with AsyncClient(url) as client:
        _mark("begin add")
        if task == "steady":
            await steady(client, options["jobs"], options["every"])
        elif task == "many":
            await many(client, options["jobs"], options["keyed"], options["payload"], options["queues"])
        else:
            await single(client, options["jobs"], options["keyed"], options["payload"])
        _mark("end add")
    print("{}", flush=True)


def _key(number: int, keyed: bool) -> str | None:
    return f"order-{number:07}" if keyed else None


def _mark(words: str) -> None:
    print(words, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    uvloop.run(main())
