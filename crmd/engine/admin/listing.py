"""Pages of jobs by state."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from crmd.engine.admin.view import view_of
from crmd.engine.admin.views import JobPage, JobView, State
from crmd.engine.settings import QueueSettings
from crmd.engine.store.replies import Inspected, text
from crmd.engine.store.scripts import QueueScripts

MAX_PAGE = 1_000
MAX_PAGE_BYTES = 2 * 1024 * 1024
"""Of the JSON of the jobs of a page, unless its first is larger; decoded, they may take twenty times as much."""
SCAN_BATCH = 100
FIRST_BATCH = 25
BATCH_BYTES = 2 * 1024 * 1024
"""What one batch may fetch, as far as those before it tell."""
SCAN_MAX = 5_000
SCAN_MAX_BYTES = 16 * 1024 * 1024
"""A search looks at this many jobs a call, then answers with a cursor to go on from."""
INLINE_BYTES = 64 * 1024
"""More is decoded in a thread."""
PARKED_KEYS_MAX = 1_000

ORDER: tuple[State, ...] = (
    State.ACTIVE,
    State.WAITING,
    State.DELAYED,
    State.FAILED,
    State.COMPLETED,
    State.CANCELLED,
)


class Listing:
    """Walks one queue's jobs. A cursor is `<state>:<offset>`."""

    def __init__(self, scripts: QueueScripts, settings: QueueSettings) -> None:
        self._scripts = scripts
        self._settings = settings

    async def page(self, state: State | None, search: str | None, cursor: str | None, limit: int) -> JobPage:
        """Up to `limit` jobs in the state, or in all; raises ValueError for a bad cursor.

        A page of large jobs ends earlier, with a cursor.
        """
        page = _Page(self._scripts.keys.job_prefix, self._settings, state, search, min(max(limit, 1), MAX_PAGE))
        async for batch in self._walk(state, cursor, page.limit):
            small = sum(len(item.document or b"") for _, item in batch) <= INLINE_BYTES
            behind = page.fill(batch) if small else await asyncio.to_thread(page.fill, batch)
            if behind is not None:
                return JobPage(page.jobs, behind, page.size)
        return JobPage(page.jobs, None, page.size)

    async def _walk(
        self, state: State | None, cursor: str | None, limit: int
    ) -> AsyncIterator[list[tuple[str, Inspected]]]:
        """Batches of jobs, each with its position; few at a time where they are large."""
        states: list[State] = list(ORDER) if state is None else [State.FAILED if state is State.UNKNOWN else state]
        offset = 0
        if cursor:
            name, _, number = cursor.partition(":")
            if not number.isdigit() or name not in states:
                raise ValueError(f"{cursor!r} is not a cursor that this list gave out")
            states = states[states.index(State(name)) :]
            offset = int(number)
        count = min(FIRST_BATCH, limit + 1)
        for current in states:
            while ids := await self._ids(current, offset, count):
                found = await self._scripts.inspect(ids)
                yield [(f"{current}:{offset + index}", item) for index, item in enumerate(found)]
                offset += len(ids)
                size = sum(len(item.document or b"") for item in found)
                count = min(SCAN_BATCH, max(1, BATCH_BYTES * len(found) // max(size, 1)))
            offset = 0

    async def _ids(self, state: State, offset: int, count: int) -> list[str]:
        k, command = self._scripts.keys, self._scripts.store.command
        last = offset + count - 1
        if state is State.WAITING:
            return await self._waiting(offset, count)
        if state is State.ACTIVE:
            return sorted(await self._scripts.leases())[offset : last + 1]
        if state is State.DELAYED:
            reply = await command("ZRANGEBYSCORE", k.incomplete, "(0", "+inf", "LIMIT", offset, count)
        else:
            index = {State.COMPLETED: k.completed, State.FAILED: k.failed, State.CANCELLED: k.cancelled}[state]
            reply = await command("ZREVRANGE", index, offset, last)
        return [text(job_id) for job_id in reply]

    async def _waiting(self, offset: int, count: int) -> list[str]:
        """The lanes one behind the other: suspects, priority, normal, then what is parked behind a limit."""
        k, command = self._scripts.keys, self._scripts.store.command
        lanes: list[tuple[str, str]] = [("L", k.suspects), ("Z", k.priority), ("L", k.queued)]
        names = await command("ZRANGE", k.parked, 0, PARKED_KEYS_MAX - 1)
        lanes += [("L", k.parked_prefix + text(name)) for name in names]
        ids: list[str] = []
        for kind, lane in lanes:
            size = await command("LLEN" if kind == "L" else "ZCARD", lane)
            if offset < size and len(ids) < count:
                verb = "LRANGE" if kind == "L" else "ZRANGE"
                reply = await command(verb, lane, offset, offset + count - len(ids) - 1)
                ids += [text(job_id) for job_id in reply]
                offset = 0
            else:
                offset = max(0, offset - size)
        return ids


class _Page:
    """A page that fills, and what belongs on it."""

    def __init__(
        self, prefix: str, settings: QueueSettings, state: State | None, search: str | None, limit: int
    ) -> None:
        self.limit = limit
        self.jobs: list[JobView] = []
        self.size = 0
        self._prefix = prefix
        self._settings = settings
        self._state = state
        self._needle = search.lower() if search else None
        self._scanned = self._scanned_bytes = 0

    def fill(self, batch: Sequence[tuple[str, Inspected]]) -> str | None:
        """Adds those of the batch that belong on it; where it goes on, once it is full."""
        for position, item in batch:
            size = len(item.document or b"")
            self._scanned, self._scanned_bytes = self._scanned + 1, self._scanned_bytes + size
            if (view := self._wanted(item)) is not None:
                if len(self.jobs) == self.limit or (self.jobs and self.size + size > MAX_PAGE_BYTES):
                    return position
                self.jobs.append(view)
                self.size += size
            if self._scanned > SCAN_MAX or self._scanned_bytes > SCAN_MAX_BYTES:
                state, _, offset = position.partition(":")
                return f"{state}:{int(offset) + 1}"
        return None

    def _wanted(self, item: Inspected) -> JobView | None:
        view = view_of(item, self._settings) if item.job_id.startswith(self._prefix) else None
        if view is None or (self._state is not None and view.state is not self._state):
            return None
        return view if self._needle is None or _holds(view, self._needle) else None


def _holds(view: JobView, needle: str) -> bool:
    return any(needle in str(part).lower() for part in (view.key, view.job, view.payload, view.error))
