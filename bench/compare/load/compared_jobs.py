"""The handlers that both revisions run. Imported from outside of the project: only what all versions have."""

from __future__ import annotations

import os
import struct
import time
from typing import Any

from crmd import job

QUEUES = ("bench", *(f"bench{number}" for number in range(10)))
RESULT = {"message_id": "wamid.HBgNNDkxNTExMjM0NTY3OBUCABEYEjI0"}


def _work(queue: str) -> Any:
    @job(queue, name="work")
    async def work(_context: Any, _payload: dict[str, Any]) -> dict[str, Any]:
        """Does nothing."""
        return RESULT

    return work


globals().update({f"work_{queue}": _work(queue) for queue in QUEUES})


@job("bench")
async def late(_context: Any, payload: dict[str, Any]) -> None:
    """Notes how late it is, as a double of ms."""
    file = os.open(os.environ["COMPARE_LATE_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, struct.pack("<d", (time.time() - payload["at"]) * 1000))
    finally:
        os.close(file)
