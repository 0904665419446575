"""Changes queues and jobs from outside: for HTTP, the command line, Python and SAQ's page."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, TypeVar

from crmd.engine.admin.completion_waiter import CompletionWaiter
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.requests import MAX_JOBS, Fingerprint, RequestKey, made_keys
from crmd.engine.admin.views import LONGEST_UNIQUE_FOR_S, Added, JobView, NewJob, State
from crmd.engine.codec import (
    Unreadable,
    decode,
    encode,
    encode_payload,
    ended_document,
    timeline_entry,
)
from crmd.engine.durations import END_OF_TIME, Rate
from crmd.engine.store.client import Store
from crmd.engine.store.limits import rate_window
from crmd.engine.store.replies import NewDocument, RequestRecord
from crmd.engine.store.scripts import QueueScripts
from crmd.errors import IllegalTransition, JobNotFound, RequestError, StoreFull

T = TypeVar("T")

KEY_PATTERN = re.compile(r"[A-Za-z0-9._:@+-]{1,200}")
MAX_PRIORITY = 10
LONGEST_S = 10 * 365 * 86_400.0
TURN_BYTES = 256 * 1024
"""Of JSON, made at once: some milliseconds."""
ADMISSION_RATIO = 0.8
"""Of the store's memory limit: the rest is for finishing what was accepted."""

_FORGOTTEN = ("started", "completed", "progress", "attempts", "error", "result", "touched", "worker_id")
"""What a job that is queued again by hand begins without."""


class Control:
    """Adds, retries, cancels, pauses. Methods raise RequestError kinds and StoreUnavailable."""

    def __init__(
        self,
        store: Store,
        inspector: Inspector,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.store = store
        self.inspector = inspector
        self._now = now
        self._waiter = CompletionWaiter(store)

    async def stop(self) -> None:
        """Closes what waits hold open. Idempotent."""
        await self._waiter.stop()

    async def enqueue(self, queue: str, jobs: Sequence[NewJob]) -> list[Added]:
        """Adds jobs in one trip; says of each its key and whether it is new.

        Raises InvalidPayload, JobTooLarge or RequestError before any is stored, StoreFull where memory is short.
        """
        scripts = self.inspector.scripts[queue]
        self._require_memory()
        documents = await self._documents_in_turns(scripts, jobs)
        created = await scripts.enqueue(documents)
        prefix = len(scripts.keys.job_prefix)
        return [Added(document.job_id[prefix:], new) for document, new in zip(documents, created, strict=True)]

    async def enqueue_request(
        self, queue: str, jobs: Sequence[NewJob], request: RequestKey, *, many: bool = True
    ) -> list[Added]:
        """Adds the jobs of a request that may be repeated: a repeat adds nothing and gets the first answer again,
        with the state of each job as it is now.

        Raises as `enqueue`, and RequestError for more jobs than one step takes or for a key of another request.
        A repeat adds nothing, and is answered where memory is short too.
        """
        if len(jobs) > MAX_JOBS:
            raise RequestError(f"{len(jobs):,} jobs under one idempotency key; at most {MAX_JOBS:,} are taken")
        scripts, digest, now = self.inspector.queue(queue), request.digest, self._now()
        mixed_keys = len({new.key is None for new in jobs}) > 1
        record = RequestRecord(digest, await _fingerprint(jobs, many), int(now * 1000), mixed_keys)
        made = made_keys(record.time_ms, digest, len(jobs))
        documents = await self._documents_in_turns(scripts, jobs, made)
        try:
            self._require_memory()
            reply = await scripts.enqueue_request(documents, record)
        except StoreFull:
            recalled = await scripts.recall_request(documents, record)
            if recalled is None:
                raise
            reply = recalled
        made = made_keys(reply.time_ms, digest, len(jobs))
        names = [fresh if new.key is None else new.key for new, fresh in zip(jobs, made, strict=True)]
        states = await self.inspector.states(queue, names) if reply.repeated else [None] * len(names)
        return list(map(Added, names, reply.created, states, repeat(reply.repeated)))

    def documents(self, queue: str, jobs: Sequence[NewJob]) -> list[NewDocument]:
        """Jobs as the store takes them, for a script that stores them with something else. Raises as `enqueue`."""
        scripts = self.inspector.scripts[queue]
        self._require_memory()
        return list(self._documents(scripts, jobs))

    async def wait(self, queue: str, key: str, timeout: float | None) -> JobView:
        """The job once it is over; raises TimeoutError after `timeout` seconds, JobNotFound."""
        job_id = self.inspector.queue(queue).keys.job_id(key)

        async def finished() -> JobView | None:
            view = await self.inspector.job(queue, key)
            return view if view.state.finished else None

        return await self._waiter.wait(job_id, finished, timeout)

    async def wait_for(self, job_id: str, look: Callable[[], Awaitable[T | None]], timeout: float | None) -> T:
        """The first answer of `look` that is not None, asked whenever the job's status changes."""
        return await self._waiter.wait(job_id, look, timeout)

    async def pause(
        self, queue: str, *, reason: str | None = None, by: str | None = None, duration: float | None = None
    ) -> None:
        """Pauses a queue on all daemons, for good or for `duration` seconds."""
        now = self._now()
        until = now + duration if duration else ""
        fields: dict[str, str | float] = {"reason": reason or "", "by": by or "", "at": now, "until": until}
        await self.inspector.queue(queue).pause(fields, duration)
        self.store.events.emit("queue.paused", queue=queue, reason=reason, by=by)

    async def resume(self, queue: str) -> None:
        """Lets a paused queue go on, on all daemons; also lifts a slow-down that the outside asked for."""
        await self.inspector.queue(queue).resume()
        self.store.events.emit("queue.resumed", queue=queue)

    async def limit(self, queue: str, rate: Rate | None, duration: float | None = None) -> None:
        """Sets a queue's rate on all daemons, for good or for `duration` seconds; None: as configured."""
        fields: dict[str, str | float] = {}
        if rate:
            count, period_ms = rate_window(rate)
            until = self._now() + duration if duration else ""
            fields = {"count": count, "period_ms": period_ms, "text": str(rate), "until": until}
        await self.inspector.queue(queue).limit(fields, duration)
        self.store.events.emit("queue.limited", queue=queue, rate=str(rate) if rate else None)

    async def retry(self, queue: str, key: str, *, by_name: bool = True) -> JobView:
        """Queues a failed, cancelled or unknown job again, attempts from 0, history kept.

        An unknown one only where a person named it (`by_name`), not where a filter found it. Raises
        JobNotFound, and IllegalTransition for a job in another state or one that changed meanwhile.
        """
        scripts, view = self.inspector.queue(queue), await self.inspector.job(queue, key)
        if view.state is State.UNKNOWN and not by_name:
            raise IllegalTransition(
                f"job {key} is unknown: its effect may have happened; check, then retry it by its key"
            )
        if view.state not in (State.FAILED, State.CANCELLED, State.UNKNOWN):
            raise IllegalTransition(
                f"job {key} is {view.state}; only failed, cancelled and unknown jobs are retried"
            )
        job_id = scripts.keys.job_id(key)
        data = await self._stored(scripts, job_id, key)
        now = self._now()
        for name in _FORGOTTEN:
            data.pop(name, None)
        data |= {"status": "queued", "queued": int(now * 1000), "scheduled": 0}
        note = timeline_entry(now, "requeued", 0, 0, f"by hand, was {view.state}")
        answer = await scripts.requeue(job_id, encode(data), note, priority=view.priority)
        if answer == -2:
            raise JobNotFound(f"queue {queue} no longer holds job {key}")
        if answer != 1:
            raise IllegalTransition(f"job {key} changed meanwhile; look at it again")
        return await self.inspector.job(queue, key)

    async def cancel(self, queue: str, key: str, reason: str = "cancelled") -> JobView:
        """Cancels a job: at once where it waits; where it runs its daemon is asked to.

        Raises JobNotFound, and IllegalTransition for a job that is over.
        """
        scripts = self.inspector.queue(queue)
        job_id, now = scripts.keys.job_id(key), self._now()
        data = await self._stored(scripts, job_id, key)
        waiting = ended_document(data, "aborted", reason, now)
        running = encode({**data, "status": "aborting", "error": reason})
        answer = await scripts.cancel(job_id, waiting, running, timeline_entry(now, "cancelled", 0, 0, reason))
        view = await self.inspector.job(queue, key)
        if answer == "gone":
            raise IllegalTransition(
                f"job {key} is {view.state}; only waiting, delayed and active jobs are cancelled"
            )
        return view

    async def promote(self, queue: str, key: str) -> JobView:
        """Makes a delayed job due now. Raises JobNotFound, and IllegalTransition for one that is not delayed."""
        scripts = self.inspector.queue(queue)
        view = await self.inspector.job(queue, key)
        if not await scripts.promote(scripts.keys.job_id(key)):
            raise IllegalTransition(f"job {key} is {view.state}; only delayed jobs are promoted")
        return await self.inspector.job(queue, key)

    async def delete(self, queue: str, key: str) -> None:
        """Deletes a job. Raises JobNotFound, and IllegalTransition for one that runs."""
        scripts = self.inspector.queue(queue)
        answer = await scripts.delete(scripts.keys.job_id(key))
        if answer == 0:
            raise IllegalTransition(f"job {key} is active; cancel it first")
        if answer == -1:
            raise JobNotFound(f"queue {queue} holds no job with the key {key!r}")

    async def matching(self, queue: str, state: State, search: str | None, limit: int = 1000) -> list[str]:
        """The keys of up to `limit` jobs in a state, for actions on many."""
        found: list[str] = []
        cursor: str | None = None
        while len(found) < limit:
            page = await self.inspector.jobs(queue, state, search, cursor, limit - len(found))
            found += [view.key for view in page.jobs]
            cursor = page.cursor
            if cursor is None:
                break
        return found

    async def finalise_abort(self, queue: str, job_id: str) -> bool:
        """Ends a job that a plain SAQ client aborted and left in no structure; False when it needs no ending."""
        scripts = self.inspector.queue(queue)
        [found] = await scripts.inspect([job_id])
        live = found.lease is not None or found.due is not None or found.place is not None
        if found.document is None or live:
            return False
        try:
            data = decode(found.document)
        except Unreadable:
            return False
        status, now = data.get("status"), self._now()
        if status not in ("aborting", "aborted"):
            return False
        document = b"" if status == "aborted" else ended_document(data, "aborted", data.get("error"), now)
        note = timeline_entry(now, "cancelled", 0, 0, "by a SAQ client")
        return await scripts.finalise_abort(job_id, found.document, document, note)

    async def _stored(self, scripts: QueueScripts, job_id: str, key: str) -> dict[str, Any]:
        document = await self.store.command("GET", job_id)
        if document is None:
            raise JobNotFound(f"queue {scripts.keys.name} holds no job with the key {key!r}")
        try:
            return decode(document)
        except Unreadable as error:
            raise IllegalTransition(f"the stored job {key} {error}; delete it") from None

    def _require_memory(self) -> None:
        """Raises StoreFull where the store's memory is too short for new jobs."""
        if (self.store.memory_ratio or 0.0) >= ADMISSION_RATIO:
            raise StoreFull(f"the store's memory is {self.store.memory_ratio:.0%} full; no new jobs are taken")

    async def _documents_in_turns(
        self, scripts: QueueScripts, jobs: Sequence[NewJob], made: Sequence[str] | None = None
    ) -> list[NewDocument]:
        """As `_documents`; megabytes are encoded in turn with other work."""
        documents, size = [], 0
        for document in self._documents(scripts, jobs, made):
            documents.append(document)
            size += len(document.document)
            if size > TURN_BYTES:
                size = 0
                await asyncio.sleep(0)
        return documents

    def _documents(
        self, scripts: QueueScripts, jobs: Sequence[NewJob], made: Sequence[str] | None = None
    ) -> Iterator[NewDocument]:
        """The jobs as the store takes them; raises for the first that it would not take.

        Those without a key of their own get that of their place in `made`, or one that is drawn by chance.
        """
        now, name, prefix = self._now(), scripts.keys.name, scripts.keys.job_prefix
        now_ms, unique_s = int(now * 1000), scripts.settings.unique_for_seconds
        for new, fresh in zip(jobs, made or _fresh_keys(now_ms, len(jobs)), strict=True):
            key = fresh if new.key is None else _checked_key(new.key)
            data: dict[str, Any] = {"function": new.job, "kwargs": new.payload, "queue": name, "key": key}
            document = NewDocument(prefix + key, b"")
            if new.unique_for is not None or (new.key is not None and (unique_s or new.again)):
                _set_unique(document, new, unique_s)
            if new.priority or new.delay is not None or new.at is not None:
                _check_times(new)
                due = new.at if new.at is not None else now + new.delay if new.delay else 0.0
                data["scheduled"] = round(due, 3)
                document.delay_ms = round(new.delay * 1000) if new.delay else -1
                document.due_ms = round(new.at * 1000) if new.at is not None else -1
                document.priority = new.priority
            data["queued"] = now_ms
            data["status"] = "queued"
            document.document = encode_payload(data)
            yield document


async def _fingerprint(jobs: Sequence[NewJob], many: bool) -> bytes:
    """The fingerprint of a request's jobs, made of megabytes in turn with other work."""
    whole, size = Fingerprint(many=many), 0
    for new in jobs:
        size += whole.add(new)
        if size > TURN_BYTES:
            size = 0
            await asyncio.sleep(0)
    return whole.digest()


def _fresh_keys(now_ms: int, number: int) -> list[str]:
    """Keys of 48 bits of time and 80 drawn by chance.

    They begin with the time, so that jobs which are added and ended together stand together in the store's sorted
    sets: among a million it finds them there in its cache.
    """
    drawn = os.urandom(10 * number).hex()  # at once: asking the system for each would take as long as all the rest
    time_ = f"{now_ms:012x}"
    return [time_ + drawn[at : at + 20] for at in range(0, len(drawn), 20)]


def _checked_key(key: str) -> str:
    if not KEY_PATTERN.fullmatch(key):
        raise RequestError(f"{key!r} is not a job key: 1 to 200 letters, digits and . _ : @ + -")
    return key


def _set_unique(document: NewDocument, new: NewJob, of_queue_s: float) -> None:
    span = of_queue_s if new.unique_for is None else new.unique_for
    if not 0 <= span <= LONGEST_UNIQUE_FOR_S:
        raise RequestError("unique_for is between 0 and 365 days")
    if new.key is not None:  # a key that is made up is known to nobody who could repeat it
        document.unique_ms = round(span * 1000)
        document.again = new.again


def _check_times(new: NewJob) -> None:
    if not 0 <= new.priority <= MAX_PRIORITY:
        raise RequestError(f"priority {new.priority} is not between 1 (first) and {MAX_PRIORITY}, or 0 for none")
    if new.delay is not None and new.at is not None:
        raise RequestError("a job takes delay or at, not both")
    # Compared so that NaN is refused too.
    if not 0 <= (new.delay or 0) <= LONGEST_S:
        raise RequestError("delay is between 0 and ten years")
    if not 0 <= (new.at or 0) < END_OF_TIME:
        raise RequestError(f"{new.at} is not a time between 1970 and 9999")
