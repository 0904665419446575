"""A queue on crmd's engine alone, without the daemon, its configuration or the CRM: `engine_alone.py redis://…`"""
# ruff: noqa: T201

import asyncio
import sys

from crmd.engine.admin.assembly import EngineAdmin
from crmd.engine.admin.views import NewJob
from crmd.engine.pool import PoolParts, WorkerPool
from crmd.engine.saq.worker import SaqWorker
from crmd.engine.settings import QueueSettings, SettingsRegistry
from crmd.engine.worker.pending_acks import MemoryFiles
from crmd.jobs import Catalog, JobContext, JobSpec


async def greet(ctx: JobContext, payload: dict[str, str]) -> str:
    return f"hello {payload['name']}, this is attempt {ctx.attempt}"


async def main(url: str) -> None:
    registry = SettingsRegistry({"greetings": QueueSettings("greetings", concurrency=2)})
    admin = EngineAdmin.at(url, registry)
    await admin.start()
    catalog = Catalog()
    catalog.add("greetings", JobSpec("greet", "greetings", greet))
    parts = PoolParts(admin.store, admin.control, registry, catalog, "example", MemoryFiles(), SaqWorker)
    pool = WorkerPool(parts)
    await pool.start()
    [added] = await admin.control.enqueue("greetings", [NewJob("greet", {"name": "ann"})])
    print((await admin.control.wait("greetings", added.key, timeout=10)).result)
    await pool.stop(drain_timeout=5)
    await admin.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
