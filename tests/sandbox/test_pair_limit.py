"""crmd's limit for each recipient against Meta's rule: a real pool sends to the stand-in, which has its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from crmd.crm.catalog import shipped_catalog
from crmd.daemon.resources import Resources
from crmd.engine.admin.views import NewJob
from crmd.engine.durations import Rate
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import KeyedLimit, QueueSettings
from crmd.sandbox.journal import Kind
from crmd.sandbox.server import Sandbox
from crmd.sandbox.settings import SandboxSettings
from tests.support.config import ConfigBench
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.storeclock import StoreClock, freeze
from tests.support.wait import wait_until

CROWDED = ["491511234500", "491511234501", "491511234502", "491511234503"]
OTHERS = [f"49151123460{n}" for n in range(8)]
LIMIT = KeyedLimit("to", Rate(1, 6.0), 45)
THROUGHPUT = 1000
"""The most that Meta gives a number: the queue has no limit of its own here."""


@dataclass
class Bench:
    """A pool that sends, and the stand-in that it sends to."""

    engine: EngineHarness
    pool: WorkerPool
    sandbox: Sandbox

    async def enqueue(self, recipients: list[str]) -> None:
        """One message to each."""
        jobs = [NewJob("send_message", {"to": to, "text": f"message {n}"}) for n, to in enumerate(recipients)]
        await self.engine.control.enqueue("message", jobs)

    @property
    def accepted(self) -> Counter[str]:
        """Messages that the stand-in took, by recipient."""
        kept = self.sandbox.journal.entries(Kind.MESSAGE)
        return Counter(entry.fields["to"] for entry in kept if entry.fields["wamid"])

    @property
    def refused(self) -> Counter[int]:
        """Error codes that the stand-in answered."""
        kept = self.sandbox.journal.entries(Kind.MESSAGE)
        return Counter(entry.fields["error"] for entry in kept if entry.fields["wamid"] is None)


@asynccontextmanager
async def bench(store_url: str, folder: Path, limit: KeyedLimit) -> AsyncIterator[Bench]:
    """In real time."""
    async with engine_harness(store_url, queue_with(limit)) as engine, sending(engine, folder, time.time) as made:
        yield made


@asynccontextmanager
async def stopped_bench(
    store_url: str, folder: Path, limit: KeyedLimit
) -> AsyncIterator[tuple[Bench, StoreClock]]:
    """The store's scripts and the stand-in go by one clock, which the test sets."""
    async with engine_harness(store_url, queue_with(limit)) as engine:
        clock = await freeze(engine.store)
        async with sending(engine, folder, lambda: clock.ms / 1000) as made:
            yield made, clock


@asynccontextmanager
async def sending(engine: EngineHarness, folder: Path, clock: Callable[[], float]) -> AsyncIterator[Bench]:
    """A pool with the shipped jobs that sends to a sandbox."""
    settings = SandboxSettings(
        port=0, smtp_port=0, callback_url=None, messages_per_second=THROUGHPUT, failed_share=0.0
    )
    async with AsyncExitStack() as stack:
        sandbox = Sandbox(settings, clock)
        stack.push_async_callback(sandbox.stop)
        addresses = await sandbox.start()
        resources = Resources()
        stack.push_async_callback(resources.stop)
        made = resources.make(
            ConfigBench(folder).load(
                environ=addresses.environment(settings), overrides={"daemon.state_dir": str(folder)}
            )
        )
        await resources.start()
        engine.catalog = shipped_catalog()
        pool = await engine.start_pool(resources=made)
        stack.push_async_callback(pool.stop, 0.0)
        yield Bench(engine, pool, sandbox)


def queue_with(limit: KeyedLimit) -> QueueSettings:
    """The queue, without a limit of its own."""
    return QueueSettings("message", concurrency=20, limits=(limit,))


async def at_rest(made: Bench) -> None:
    """Waits until the worker has looked for jobs and runs none."""
    worker = made.pool.workers["message"]
    worker.claim_now()
    await wait_until(lambda: not worker.next_claim.now and not worker.executor.executions, 10)


async def crowd(made: Bench) -> None:
    """50 messages to each of four recipients, and the 45 of each that Meta lets through at once."""
    await made.enqueue(CROWDED * 50)
    await wait_until(lambda: made.accepted.total() + made.refused.total() >= 180, 20)
    await at_rest(made)
    assert made.accepted == dict.fromkeys(CROWDED, 45)


async def test_200_messages_to_4_recipients_never_break_the_pair_limit(store_url: str, tmp_path: Path) -> None:
    async with stopped_bench(store_url, tmp_path, LIMIT) as (made, clock):
        await crowd(made)
        await made.enqueue(OTHERS)
        await wait_until(lambda: made.accepted.total() == 188, 5, "others are not delayed")
        for _ in range(35):
            await clock.forward(10_000)
            await at_rest(made)
        assert made.refused == {}
        assert made.accepted == dict.fromkeys(CROWDED, 50) | dict.fromkeys(OTHERS, 1)


async def test_a_limit_that_is_too_lax_is_caught_by_the_stand_in(store_url: str, tmp_path: Path) -> None:
    lax = KeyedLimit("to", Rate(1, 5.0), 45)
    async with stopped_bench(store_url, tmp_path, lax) as (made, clock):
        await crowd(made)
        await clock.forward(230_000)
        await at_rest(made)
        await wait_until(lambda: made.refused[131056] > 0, 5)


@pytest.mark.faults
@pytest.mark.timeout(400)
async def test_the_same_in_real_time(store_url: str, tmp_path: Path) -> None:
    async with bench(store_url, tmp_path, LIMIT) as made:
        await crowd(made)
        await made.enqueue(OTHERS)
        await wait_until(lambda: made.accepted.total() == 188, 5, "others are not delayed")
        await wait_until(lambda: made.accepted.total() == 208, 320)
        assert made.refused == {}
        assert made.accepted == dict.fromkeys(CROWDED, 50) | dict.fromkeys(OTHERS, 1)
