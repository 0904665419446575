"""One measurement of one peer, in a process of its own: `python -m bench.peers PEER URL CONCURRENCY JOBS`.

Prints one JSON object: enqueued and processed jobs a second, and the CPU time of this process per job.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import saq
import uvloop
from saq.queue.redis import RedisQueue

from crmd.config.queue import QueueSettings
from crmd.jobs import Catalog, JobSpec
from crmd.queues.control import Control
from crmd.queues.fleet import Fleet, FleetParts
from crmd.queues.inspector import Inspector
from crmd.queues.views import NewJob
from crmd.store.client import Store, StoreTarget

PAYLOAD = {
    "to": "+4915112345678",
    "template": "order_shipped",
    "variables": {"name": "Ada Lovelace", "order": "A-1815"},
}
RESULT = {"message_id": "wamid.HBgNNDkxNTExMjM0NTY3OBUCABEYEjI0"}
POLL_S = 0.01


async def work(_: Any, **_payload: Any) -> dict[str, str]:
    """The handler: does nothing and returns the same as its peers."""
    return RESULT


class NoFiles:
    """A state folder for a fleet that spools nothing."""

    def write_private(self, name: str, text: str) -> None:
        """Refuses."""
        raise RuntimeError(f"nothing is spooled in a benchmark: {name}")

    def read_private(self, name: str) -> str | None:
        """Nothing is spooled."""

    def delete_private(self, name: str) -> None:
        """Nothing is spooled."""


async def run_crmd(url: str, concurrency: int, jobs: int) -> dict[str, float]:
    """crmd: bulk enqueue, then a fleet of one queue."""
    store = Store(StoreTarget(url))
    await store.start(wait=False)
    queues = {"bench": QueueSettings("bench", concurrency=concurrency)}
    inspector = Inspector(store, queues)
    control = Control(store, queues, inspector)
    catalog = Catalog()
    catalog.add("bench", JobSpec("work", None, work, plain=True))
    began = time.perf_counter()
    await control.enqueue("bench", [NewJob("work", PAYLOAD) for _ in range(jobs)])
    enqueued = time.perf_counter() - began
    fleet = Fleet(FleetParts(store, control, queues, catalog, "bench", NoFiles()))
    cpu, began = time.process_time(), time.perf_counter()
    await fleet.start()
    while (await inspector.totals())["bench"].completed < jobs:
        await asyncio.sleep(POLL_S)
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    await fleet.stop(1.0)
    await store.stop()
    return {"enqueue": jobs / enqueued, "process": jobs / elapsed, "cpu_us": cpu / jobs * 1e6}


async def run_saq(url: str, concurrency: int, jobs: int) -> dict[str, float]:
    """Stock SAQ: enqueued by ten tasks at a time, then its worker."""
    queue = RedisQueue.from_url(url, name="bench")
    await queue.connect()
    began = time.perf_counter()
    for start in range(0, jobs, 10):
        await asyncio.gather(*(queue.enqueue("work", **PAYLOAD) for _ in range(start, min(start + 10, jobs))))
    enqueued = time.perf_counter() - began
    worker: saq.Worker[Any] = saq.Worker(queue, [("work", work)], concurrency=concurrency)
    worker.SIGNALS = []
    cpu, began = time.process_time(), time.perf_counter()
    running = asyncio.create_task(worker.start())
    while queue.complete < jobs:
        await asyncio.sleep(POLL_S)
    elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    await queue.disconnect()
    running.cancel()
    return {"enqueue": jobs / enqueued, "process": jobs / elapsed, "cpu_us": cpu / jobs * 1e6}


def main() -> None:
    """Measures what the command line names."""
    peer, url, concurrency, jobs = sys.argv[1:]
    measure = {"crmd": run_crmd, "saq": run_saq}[peer]
    print(json.dumps(uvloop.run(measure(url, int(concurrency), int(jobs)))), flush=True)


if __name__ == "__main__":
    main()
