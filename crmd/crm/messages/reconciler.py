"""Settles messages whose job ended without telling the database, and unknown jobs whose message is known now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from crmd.component import BackgroundTask
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.messages import queries as messages
from crmd.crm.messages.queries import Status
from crmd.crm.messages.tables import Message
from crmd.crm.messages.unknown_jobs import Settled, UnknownJobs
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.views import JobView, State
from crmd.errors import CrmdError, JobNotFound, UnknownQueue
from crmd.telemetry.events import Events
from crmd.telemetry.throttle import Throttle

SWEEP_EVERY_S = 60.0
OLD_AFTER_S = 60.0
"""A message without an outcome for this long is examined: most have theirs within a second."""
SETTLE_AFTER_S = 0.3
"""An ending is told a moment before it is in the store."""
LOOKS = 20
"""At a job that was told to be unknown and is not: somebody retried it."""
TRY_AGAIN_S = 5.0
"""After a look for which the store or the database is unavailable."""
BATCH = 100
"""Messages, and unknown jobs, that one pass looks at; the next pass looks at the next ones."""
NOTED_AT_MOST = 10_000
"""Jobs told to be unknown and not looked at yet; those beyond are found by the sweep."""
UNAVAILABLE_TOLD_EVERY_S = 300.0
QUEUE = "message"
"""Whose unknown jobs are looked through; those of other queues are looked at when they are told."""

_SENT = (Status.ACCEPTED, Status.SENT, Status.DELIVERED, Status.READ)
_LIVE = (State.WAITING, State.DELAYED, State.ACTIVE)
_log = logging.getLogger(__name__)


class MessageReconciler(BackgroundTask):
    """Holds messages against their jobs: one at once where its job is told to be unknown, others now and then."""

    def __init__(
        self, database: Database, inspector: Inspector, unknown_jobs: UnknownJobs, events: Events
    ) -> None:
        super().__init__("message reconciler")
        self._database = database
        self._inspector = inspector
        self._unknown_jobs = unknown_jobs
        self._events = events
        self._noted: dict[tuple[str, str], int] = {}
        """Queue and key of each job that was told to be unknown, and how often it was looked at."""
        self._wake = asyncio.Event()
        self._after_id = 0
        self._cursor: str | None = None
        self._log_throttle = Throttle(UNAVAILABLE_TOLD_EVERY_S)
        self._unsubscribe = _nothing

    async def start(self) -> None:
        """Begins; before jobs run, so that none is missed."""
        self._unsubscribe()
        self._unsubscribe = self._events.subscribe(self._note)
        await super().start()

    async def stop(self) -> None:
        """Ends."""
        self._unsubscribe()
        self._unsubscribe = _nothing
        await super().stop()

    async def run_once(self) -> int:
        """Looks at what was told, and at the next batch of what is in doubt; returns how many it settled.

        Raises StoreUnavailable and RecordsUnavailable.
        """
        settled = await self._look_at_noted()
        before = utc_now() - timedelta(seconds=OLD_AFTER_S)
        async with self._database.reading() as s:
            found = await messages.doubtful(s, before, self._after_id, BATCH)
        self._after_id = found[-1].id if len(found) == BATCH else 0
        for message in found:
            view = await self._job(message.job_queue or "", message.job_key or "")
            settled += await self._settle(message, view)
        return settled + await self._look_at_unknown_jobs()

    def _note(self, name: str, fields: Mapping[str, Any]) -> None:
        if name == "job.unknown" and len(self._noted) < NOTED_AT_MOST:
            self._noted[str(fields.get("queue")), str(fields.get("key"))] = 0
            self._wake.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        sweep_at = loop.time()
        while True:
            due = loop.time() >= sweep_at
            if due:
                sweep_at = loop.time() + SWEEP_EVERY_S
            done = await self._carefully(self.run_once() if due else self._look_at_noted())
            if not self._noted:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, sweep_at - loop.time())):
                        await self._wake.wait()
            self._wake.clear()
            if self._noted:
                await asyncio.sleep(SETTLE_AFTER_S if done else TRY_AGAIN_S)

    async def _carefully(self, look: Awaitable[int]) -> bool:
        """Whether the look could be had."""
        try:
            await look
        except CrmdError as error:
            if self._log_throttle.allow(type(error).__name__) is not None:
                _log.warning("messages in doubt are looked at later: %s", error)
            return False
        except Exception:
            _log.exception("the look at messages in doubt failed")
            return False
        return True

    async def _look_at_noted(self) -> int:
        settled = 0
        for (queue, key), looks in list(self._noted.items()):
            view = await self._job(queue, key)
            if view is not None and view.state in _LIVE and looks < LOOKS:
                self._noted[queue, key] = looks + 1  # told, and not in the store yet
                continue
            async with self._database.reading() as s:
                found = await messages.of_jobs(s, queue, [key])
            if found:
                settled += await self._settle(found[-1], view)
            self._noted.pop((queue, key), None)
        return settled

    async def _look_at_unknown_jobs(self) -> int:
        """Where a daemon ended between a message's status and the end of its job."""
        page = await self._inspector.jobs(QUEUE, State.UNKNOWN, None, self._cursor, BATCH)
        self._cursor = page.cursor
        if not page.jobs:
            return 0
        views = {view.key: view for view in page.jobs}
        async with self._database.reading() as s:
            found = await messages.of_jobs(s, QUEUE, list(views))
        return sum([await self._settle(message, views[message.job_key or ""]) for message in found])

    async def _job(self, queue: str, key: str) -> JobView | None:
        try:
            return await self._inspector.job(queue, key)
        except (JobNotFound, UnknownQueue):
            return None

    async def _settle(self, message: Message, view: JobView | None) -> int:
        """Brings a message and its job together; 1 where one of them told the other something."""
        if view is not None and not _is_job_of(view, message):
            view = None  # the key was used again: the message's own job is gone
        if message.status in (Status.SENDING, Status.RETRYING):
            return int(await self._settle_message(message, view))
        if view is None or view.state is not State.UNKNOWN or message.status == Status.UNKNOWN:
            return 0
        return int(await self._settle_job(message, view))

    async def _settle_message(self, message: Message, view: JobView | None) -> bool:
        """The job is over, or gone: what it says is true of the message as well."""
        if view is not None and view.state in _LIVE:
            return False
        sending, now = message.status == Status.SENDING, utc_now()
        wamid = _wamid(view)
        if view is not None and view.state is State.COMPLETED and not sending:
            return False  # held by its campaign, which queues it again
        async with self._database.transaction() as s:
            if wamid and sending:
                await messages.accepted(s, message.id, wamid, now)
                return True
            if view is not None and view.state in (State.FAILED, State.CANCELLED):
                error = view.error or f"its job was {view.state}"
                return await messages.failed(s, message.id, f"job_{view.state}", error, now)
            if sending:
                error = (view and view.error) or "its job is gone, and left no word of what became of it"
                return await messages.unknown(s, message.id, error, now)
            error = "it did not go out, and its job is gone"
            return await messages.failed(s, message.id, "job_gone", error, now)

    async def _settle_job(self, message: Message, view: JobView) -> bool:
        """The message is known: so is the outcome of its job."""
        sent = message.status in _SENT
        recipient = message.phone.removeprefix("+")
        result = {"message_id": message.wamid or "", "recipient": recipient, "status": message.status}
        return await self._unknown_jobs.settle(
            Settled(
                view.queue,
                view.key,
                message.job_enqueued_at or utc_now(),
                result=result if sent else None,
                error=None if sent else message.error or f"message {message.id} failed",
                by="the records",
            )
        )


def _is_job_of(view: JobView, message: Message) -> bool:
    at = datetime.fromtimestamp(view.enqueued_at or 0, UTC)
    return view.key == message.job_key and at == message.job_enqueued_at


def _wamid(view: JobView | None) -> str | None:
    """What `send_message` returned, where its job completed."""
    result = view.result if view is not None and view.state is State.COMPLETED else None
    found = result.get("message_id") if isinstance(result, dict) else None
    return found if isinstance(found, str) and found else None


def _nothing() -> None:
    """Before `start` there is nothing to end."""
