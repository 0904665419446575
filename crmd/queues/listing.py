"""Pages of jobs by state."""

from __future__ import annotations

from collections.abc import AsyncIterator

from crmd.config.queue import QueueSettings
from crmd.queues.view import view_of
from crmd.queues.views import JobPage, JobView, State
from crmd.store.replies import text
from crmd.store.scripts import QueueScripts

MAX_PAGE = 1_000
SCAN_BATCH = 100
SCAN_MAX = 5_000
"""A search looks at so many jobs a call, then answers with a cursor to go on from."""
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
        """Up to `limit` jobs in the state, or in all; raises ValueError for a bad cursor."""
        limit = min(max(limit, 1), MAX_PAGE)
        jobs: list[JobView] = []
        scanned = 0
        async for position, view in self._walk(state, cursor):
            scanned += 1
            if view and (state is None or view.state is state) and _matches(view, search):
                if len(jobs) == limit:
                    return JobPage(jobs, position)
                jobs.append(view)
            if scanned > SCAN_MAX:
                return JobPage(jobs, position)
        return JobPage(jobs, None)

    async def _walk(self, state: State | None, cursor: str | None) -> AsyncIterator[tuple[str, JobView | None]]:
        states: list[State] = list(ORDER) if state is None else [State.FAILED if state is State.UNKNOWN else state]
        offset = 0
        if cursor:
            name, _, number = cursor.partition(":")
            if not number.isdigit() or name not in states:
                raise ValueError(f"{cursor!r} is not a cursor that this list gave out")
            states = states[states.index(State(name)) :]
            offset = int(number)
        for current in states:
            while ids := await self._ids(current, offset, SCAN_BATCH):
                found = await self._scripts.inspect(ids)
                for index, item in enumerate(found):
                    ours = item.job_id.startswith(self._scripts.keys.job_prefix)
                    yield f"{current}:{offset + index}", view_of(item, self._settings) if ours else None
                offset += len(ids)
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


def _matches(view: JobView, search: str | None) -> bool:
    if not search:
        return True
    needle = search.lower()
    return any(needle in str(part).lower() for part in (view.key, view.job, view.payload, view.error))
