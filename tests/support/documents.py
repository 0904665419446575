"""Jobs written straight into the store, as another program writes them."""

from __future__ import annotations

import json
import time
from typing import Any

from crmd.engine.store.client import Store


async def put_job(store: Store, queue: str, key: str, document: bytes | dict[str, Any], due: float = 0) -> None:
    """Enqueues as SAQ's script does, whatever the document; a dict is filled up to a job's fields."""
    if isinstance(document, dict):
        fields = {"queue": queue, "key": key, "status": "queued", "queued": int(time.time() * 1000), **document}
        document = json.dumps(fields).encode()
    job_id = f"saq:job:{queue}:{key}"
    await store.command("SET", job_id, document)
    await store.command("ZADD", f"saq:{queue}:incomplete", due, job_id)
    if not due:
        await store.command("RPUSH", f"saq:{queue}:queued", job_id)


async def stored_job(store: Store, queue: str, key: str) -> dict[str, Any]:
    """A job's JSON as it is stored."""
    found: dict[str, Any] = json.loads(await store.command("GET", f"saq:job:{queue}:{key}"))
    return found
