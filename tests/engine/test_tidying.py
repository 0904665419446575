"""The janitor forgets what is said of jobs and requests that are gone, queue after queue."""

from __future__ import annotations

import struct

from crmd.engine.admin.requests import made_keys
from crmd.engine.maintenance.janitor import Janitor
from crmd.engine.settings import QueueSettings
from tests.support.engine_harness import EngineHarness, engine_harness

QUEUES = (QueueSettings("a"), QueueSettings("b"))


async def litter(r: EngineHarness, queue: str, count: int) -> None:
    """Requests that are over, and jobs that are gone without a word."""
    keys = r.inspector.queue(queue).keys
    over = b"8 bytes." + bytes(6) + struct.pack(">HI", 1, 1)
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        database = [part for n in numbers for part in (f"{n:012}", over)]
        await r.store.command("HSET", keys.requests, *database)
        spans = [part for n in numbers for part in (keys.job_id(f"{n}"), 1)]
        await r.store.command("HSET", keys.unique_for, *spans)


def janitor(r: EngineHarness) -> Janitor:
    return Janitor(r.store, r.control, r.inspector.scripts.values())


async def left(r: EngineHarness, queue: str) -> int:
    keys = r.inspector.queue(queue).keys
    sizes = [await r.store.command("HLEN", name) for name in (keys.requests, keys.unique_for)]
    return sum(sizes)


async def test_it_walks_through_all_queues(store_url: str) -> None:
    async with engine_harness(store_url, *QUEUES) as r:
        await litter(r, "a", 100)
        await litter(r, "b", 100)
        made = janitor(r)
        for _ in range(2 * len(QUEUES)):
            await made.run_once()
        assert (await left(r, "a"), await left(r, "b")) == (0, 0)


async def test_much_is_forgotten_at_once_and_not_without_bound(store_url: str) -> None:
    async with engine_harness(store_url, QueueSettings("a")) as r:
        await litter(r, "a", 15_000)
        made = janitor(r)
        before = await left(r, "a")
        await made.run_once()
        assert 5_000 <= before - await left(r, "a") <= 12_000
        while await left(r, "a"):
            await made.run_once()


async def test_a_structure_of_the_wrong_type_keeps_nobody_else_from_it(store_url: str, untidy: None) -> None:
    async with engine_harness(store_url, *QUEUES) as r:
        await litter(r, "b", 100)
        await r.store.command("SET", r.inspector.queue("a").keys.unique_for, "wrong")
        made = janitor(r)
        for _ in range(2 * len(QUEUES)):
            await made.run_once()
        assert await left(r, "b") == 0


async def test_requests_of_many_jobs_are_forgotten_a_few_at_a_time(store_url: str) -> None:
    """A step looks for at most about 2,000 jobs, and requests that still have one keep no others from it."""
    async with engine_harness(store_url, QueueSettings("a")) as r:
        scripts = r.inspector.queue("a")
        record = b"8 bytes." + bytes(6) + struct.pack(">HI", 1_000, 1)
        digests = [f"{n:08}rest" for n in range(300)]
        await r.store.command("HSET", scripts.keys.requests, *(part for d in digests for part in (d, record)))
        alive = [scripts.keys.job_id(made_keys(0, digest.encode(), 1_000)[-1]) for digest in digests[:4]]
        await r.store.command("HSET", scripts.keys.leases, *(part for job_id in alive for part in (job_id, "d:1")))
        _, forgotten, early = await scripts.tidy_requests("0", 500)
        assert forgotten <= 2
        assert early
        made = janitor(r)
        for _ in range(200):
            await made.run_once()
            left_over = set(await r.store.command("HKEYS", scripts.keys.requests))
            if len(left_over) <= len(alive):
                break
        assert left_over == {digest.encode() for digest in digests[: len(alive)]}
        await r.store.command("DEL", scripts.keys.leases, scripts.keys.requests)
