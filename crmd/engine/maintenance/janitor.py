"""Cleans up after plain SAQ clients and older daemons: jobs in no structure, entries for jobs that are gone."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from crmd.engine.admin.control import Control
from crmd.engine.codec import Unreadable, decode, encode, ended_document, timeline_entry
from crmd.engine.store.client import Store
from crmd.engine.store.replies import Inspected
from crmd.engine.store.scripts import QueueScripts, replace, sweep_step
from crmd.errors import StoreError, StoreUnavailable

STEP = 200
"""Keys looked at in one step, once a second: some 0.2 ms of the store."""
GRACE_S = 60.0
"""A client in the middle of an abort or an enqueue has this long to finish."""
REMEMBERED = 10_000
TIDY_STEP = 500
TIDY_STEPS = 20
"""Steps in one queue, once a second, while each finds much to forget."""

_STATUS_BY_PLACE = {"completed": "complete", "failed": "failed", "unknown": "failed", "cancelled": "aborted"}
_FINAL = frozenset(_STATUS_BY_PLACE.values())


class Janitor:
    """Walks the keys of the store, a step a second, and ends what lies in no structure for a minute."""

    def __init__(
        self,
        store: Store,
        control: Control,
        queues: Iterable[QueueScripts],
        *,
        grace: float = GRACE_S,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._control = control
        self._queues = list(queues)
        self._grace = grace
        self._now = now
        self._monotonic = monotonic
        self._cursor = "0"
        self._seen: OrderedDict[str, float] = OrderedDict()
        self._tidied = 0
        """How many walks are through; it says whose turn it is."""
        self._tidy_cursor = "0"

    def add(self, queue: QueueScripts) -> None:
        """Looks after one more queue."""
        self._queues.append(queue)

    async def run_once(self) -> int:
        """One step; returns how many jobs it ended."""
        self._cursor, lost = await sweep_step(self._store, self._queues, self._cursor, STEP)
        for job_id in lost:
            self._seen.setdefault(job_id, self._monotonic())
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        await self._tidy()
        return await self._end_old()

    async def _tidy(self) -> None:
        """Forgets what is said of jobs and requests that are gone: one queue after the other."""
        walks = [walk for queue in self._queues for walk in (queue.tidy_unique, queue.tidy_requests)]
        if not walks:
            return
        walk = walks[self._tidied % len(walks)]
        try:
            for _ in range(TIDY_STEPS):
                self._tidy_cursor, forgotten, early = await walk(self._tidy_cursor, TIDY_STEP)
                if early and forgotten:
                    continue  # the same page again; a cursor "0" is then not the end
                if self._tidy_cursor == "0" or not (early or forgotten >= TIDY_STEP // 2):
                    break
            else:
                return  # the walk goes on in the next second
        except StoreUnavailable:
            raise
        except StoreError:  # a structure of the wrong type, which its worker tells of
            self._tidy_cursor = "0"
        self._tidied += self._tidy_cursor == "0"

    async def _end_old(self) -> int:
        ended = 0
        while self._seen:
            job_id, since = next(iter(self._seen.items()))
            if self._monotonic() - since < self._grace:
                break
            del self._seen[job_id]
            ended += await self._end(job_id)
        return ended

    async def _end(self, job_id: str) -> bool:
        queue = self._queue_of(job_id)
        if queue is None:
            return False
        if await self._control.finalise_abort(queue.keys.name, job_id):
            return True
        return await self._end_limbo(queue, job_id)

    async def _end_limbo(self, queue: QueueScripts, job_id: str) -> bool:
        """A job whose JSON and place disagree; one in no place goes to the cancelled, where it is seen."""
        [found] = await queue.inspect([job_id])
        if found.document is None or found.lease or found.due is not None:
            return False
        try:
            data = decode(found.document)
        except Unreadable as reason:
            data = {"queue": queue.keys.name, "error": f"the stored job {reason}"}
        if found.place:
            return await self._correct(queue, found, data)
        if data.get("status") in _FINAL:
            return False  # ended by a plain client, with a TTL of its own
        now = self._now()
        error = data.get("error") or "found in no queue: a client wrote over it"
        ended = ended_document(data, "aborted", error, now)
        note = timeline_entry(now, "cancelled", 0, 0, error)
        return await queue.finalise_abort(job_id, found.document, ended, note)

    async def _correct(self, queue: QueueScripts, found: Inspected, data: dict[str, Any]) -> bool:
        """A finished job that a client wrote over: its JSON says again how it ended."""
        status = _STATUS_BY_PLACE[found.place or ""]
        if data.get("status") == status:
            return False
        data |= {"status": status, "completed": data.get("completed") or round(found.ended_ms or 0)}
        if data.pop("error", None) is not None and status != "complete":
            data["error"] = (
                await self._error_in_timeline(queue, found.job_id) or f"{status}: a client wrote over why"
            )
        return await replace(self._store, found.job_id, found.document or b"", encode(data), status)

    async def _error_in_timeline(self, queue: QueueScripts, job_id: str) -> str | None:
        """Why the job ended; a client that aborts a finished job writes its own words over it."""
        log = await self._store.command("LRANGE", queue.keys.log(queue.keys.key_of(job_id)), -1, -1)
        try:
            return str(decode(log[0])["detail"] or "") or None
        except (IndexError, KeyError, Unreadable):
            return None

    def _queue_of(self, job_id: str) -> QueueScripts | None:
        for queue in self._queues:
            if job_id.startswith(queue.keys.job_prefix):
                return queue
        return None
