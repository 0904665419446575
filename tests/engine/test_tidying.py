"""The janitor forgets what is said of jobs and requests that are gone, queue after queue."""

from __future__ import annotations

import struct

import pytest

from crmd.engine.admin.requests import made_keys
from crmd.engine.maintenance.janitor import Janitor
from crmd.engine.settings import QueueSettings
from tests.support.engine_harness import EngineHarness

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


@pytest.mark.queues(*QUEUES)
async def test_it_walks_through_all_queues(engine: EngineHarness) -> None:
    await litter(engine, "a", 100)
    await litter(engine, "b", 100)
    made = janitor(engine)
    for _ in range(2 * len(QUEUES)):
        await made.run_once()
    assert (await left(engine, "a"), await left(engine, "b")) == (0, 0)


@pytest.mark.queues(QueueSettings("a"))
async def test_much_is_forgotten_at_once_and_not_without_bound(engine: EngineHarness) -> None:
    await litter(engine, "a", 15_000)
    made = janitor(engine)
    before = await left(engine, "a")
    await made.run_once()
    assert 5_000 <= before - await left(engine, "a") <= 12_000
    while await left(engine, "a"):
        await made.run_once()


@pytest.mark.queues(*QUEUES)
async def test_a_structure_of_the_wrong_type_keeps_nobody_else_from_it(
    engine: EngineHarness, untidy: None
) -> None:
    await litter(engine, "b", 100)
    await engine.store.command("SET", engine.inspector.queue("a").keys.unique_for, "wrong")
    made = janitor(engine)
    for _ in range(2 * len(QUEUES)):
        await made.run_once()
    assert await left(engine, "b") == 0


@pytest.mark.queues(QueueSettings("a"))
async def test_requests_of_many_jobs_are_forgotten_a_few_at_a_time(engine: EngineHarness) -> None:
    """A step looks for at most about 2,000 jobs, and requests that still have one keep no others from it."""
    scripts = engine.inspector.queue("a")
    record = b"8 bytes." + bytes(6) + struct.pack(">HI", 1_000, 1)
    digests = [f"{n:08}rest" for n in range(300)]
    await engine.store.command("HSET", scripts.keys.requests, *(part for d in digests for part in (d, record)))
    alive = [scripts.keys.job_id(made_keys(0, digest.encode(), 1_000)[-1]) for digest in digests[:4]]
    await engine.store.command(
        "HSET", scripts.keys.leases, *(part for job_id in alive for part in (job_id, "d:1"))
    )
    _, forgotten, early = await scripts.tidy_requests("0", 500)
    assert forgotten <= 2
    assert early
    made = janitor(engine)
    for _ in range(200):
        await made.run_once()
        left_over = set(await engine.store.command("HKEYS", scripts.keys.requests))
        if len(left_over) <= len(alive):
            break
    assert left_over == {digest.encode() for digest in digests[: len(alive)]}
    await engine.store.command("DEL", scripts.keys.leases, scripts.keys.requests)
