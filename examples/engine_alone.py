"""A queue on crmd's engine alone, without the daemon, its configuration or the CRM: `engine_alone.py redis://…`"""
# ruff: noqa: T201

import asyncio
import sys

from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.views import NewJob
from crmd.engine.pool import PoolParts, WorkerPool
from crmd.engine.saq.worker import SaqWorker
from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.store.client import Store, StoreTarget
from crmd.engine.worker.pending_acks import MemoryFiles
from crmd.jobs import Catalog, JobContext, JobSpec


async def greet(ctx: JobContext, payload: dict[str, str]) -> str:
    return f"hello {payload['name']}, this is attempt {ctx.attempt}"


async def main(url: str) -> None:
    registry = SettingsRegistry({"greetings": QueueSettings("greetings", concurrency=2)})
    store = Store(StoreTarget(url))
    await store.start(wait=False)
    control = Control(store, Inspector(store, registry))
    catalog = Catalog()
    catalog.add("greetings", JobSpec("greet", "greetings", greet))
    pool = WorkerPool(PoolParts(store, control, registry, catalog, "example", MemoryFiles(), SaqWorker))
    await pool.start()
    [added] = await control.enqueue("greetings", [NewJob("greet", {"name": "ann"})])
    print((await control.wait("greetings", added.key, timeout=10)).result)
    await pool.stop(drain_timeout=5)
    await store.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
