"""Ends unknown jobs once their outcome is known."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crmd.engine.admin.inspector import Inspector
from crmd.engine.codec import Unreadable, decode, encode, encode_result, queued_at, timeline_entry
from crmd.errors import UnknownQueue


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a job after all: its result, or its error."""

    queue: str
    key: str
    enqueued_at: datetime
    """Together with the key: the job, as keys may be used again."""
    result: Any = None
    error: str | None = None
    """Why it failed; None where it completed."""
    by: str = "a status webhook"


class UnknownJobs:
    """Settles unknown jobs in the store."""

    def __init__(self, inspector: Inspector, *, clock: Callable[[], float] = time.time) -> None:
        self._inspector = inspector
        self._clock = clock

    async def settle(self, settled: Settled) -> bool:
        """Ends an unknown job as completed or failed. False where there is none: it is gone, or not unknown.

        Raises StoreUnavailable.
        """
        try:
            scripts = self._inspector.queue(settled.queue)
        except UnknownQueue:
            return False
        job_id = scripts.keys.job_id(settled.key)
        [found] = await scripts.inspect([job_id])
        if found.place != "unknown" or found.document is None:
            return False
        try:
            data = decode(found.document)
        except Unreadable:
            return False
        if datetime.fromtimestamp(queued_at(data), UTC) != settled.enqueued_at:
            return False  # the key was used again
        at = self._clock()
        document = encode(_ended(data, settled, at))
        note = timeline_entry(at, "settled", data.get("attempts") or 0, found.crash_count, f"by {settled.by}")
        return await scripts.settle_unknown(
            job_id, found.document, document, note, completed=settled.error is None
        )


def _ended(data: dict[str, Any], settled: Settled, at: float) -> dict[str, Any]:
    """The job's JSON as it would be had its outcome not been lost."""
    if settled.error is not None:
        return {**data, "status": "failed", "error": settled.error}
    ended = {**data, "status": "complete", "progress": 1.0, "result": encode_result(settled.result)}
    ended.pop("error", None)
    ended.setdefault("completed", int(at * 1000))
    return ended
