"""SAQ's web page under `/admin/queues`, fed with crmd's data: all queues and states, pause and resume."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from aiohttp import web

from crmd.console.health import counts_json, limit_json
from crmd.console.queue_bodies import JobsQuery
from crmd.console.served_queues import ServedQueues
from crmd.console.static import StaticFiles
from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.queue_health import QueueHealth, QueueObservation
from crmd.engine.admin.views import DaemonInfo, JobView, State
from crmd.engine.store.bounded import READ_SECONDS, bounded
from crmd.http import schema
from crmd.http.auth import current_principal
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route
from crmd.telemetry.redact import redact_repr, redact_start

ROOT = "/admin/queues"

MAX_LISTS = 2
"""Lists that are built at the same time: masking takes CPU time, and large jobs tens of MiB. Others wait."""
MAX_SHOWN_CHARS = 20_000
"""Of one payload, result or error: the page reloads every two seconds."""
MAX_LISTED_CHARS = 2_000
"""The same for each job of a list."""
MAX_PAGE_CHARS = 300_000
"""Of all payloads, results and errors of a list: masking them takes up to 0.3 s, in a thread."""


class QueuePages:
    """Answers under `/admin/queues`; below `/api` in the form that SAQ's script expects."""

    def __init__(
        self, queues: ServedQueues, inspector: Inspector, control: Control, health: QueueHealth, prefix: str
    ) -> None:
        self._queues = queues
        self._inspector = inspector
        self._control = control
        self._health = health
        self._static = StaticFiles()
        self._prefix = prefix
        self._lists = asyncio.Semaphore(MAX_LISTS)

    def routes(self) -> list[Route]:
        """The routes of this group, none of which is in the OpenAPI document."""
        read, operate = Access.READ, Access.OPERATE
        queue, job = f"{ROOT}/api/queues/{{queue}}", f"{ROOT}/api/queues/{{queue}}/jobs/{{key}}"
        return [
            *(Route("GET", path, self.page, read) for path in (ROOT, f"{ROOT}/")),
            Route("GET", f"{ROOT}/queues/{{queue}}", self.page, read),
            Route("GET", f"{ROOT}/queues/{{queue}}/jobs/{{key}}", self.page, read),
            Route("GET", "/api/docs", self.docs, read, for_any_queue=True),
            Route("GET", f"{ROOT}/static/{{file}}", self._static.file, read),
            Route("GET", f"{ROOT}/api/queues", self.queues, read),
            Route("GET", queue, self.queue, read),
            Route("POST", f"{queue}/pause", self.pause, operate),
            Route("POST", f"{queue}/resume", self.resume, operate),
            Route("GET", job, self.job, read),
            Route("POST", f"{job}/retry", self.retry, operate),
            Route("POST", f"{job}/abort", self.abort, operate),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """The page; its address determines the view."""
        return self._static.page("queues.html", {"root": self._prefix + ROOT})

    async def docs(self, request: web.Request) -> web.Response:
        """The OpenAPI document as a page."""
        return self._static.page("docs.html", {"prefix": self._prefix})

    async def queues(self, request: web.Request) -> web.Response:
        """All queues."""
        seen, daemons = await self._health.observations(), await self._health.daemons()
        queues = [_queue(one, daemons) for one in seen.values()]
        return web.json_response({"queues": queues})

    async def queue(self, request: web.Request) -> web.Response:
        """One queue with a page of its jobs."""
        name = self._queues.named(request)
        asked = schema.query(request, JobsQuery)
        seen, daemons = await self._health.observations(), await self._health.daemons()
        async with self._lists:
            listing = self._inspector.jobs(name, asked.state, asked.search, asked.cursor, asked.limit)
            try:
                page = await bounded(listing, READ_SECONDS)
            except ValueError as error:
                raise HttpProblem(422, str(error)) from None
            jobs = await asyncio.to_thread(_jobs, page.jobs)
        queue = _queue(seen[name], daemons)
        held = self._queues.held(name) or self._queues.degraded().get(name)
        return web.json_response({"queue": {**queue, "held": held, "jobs": jobs, "cursor": page.cursor}})

    async def job(self, request: web.Request) -> web.Response:
        """One job."""
        looking = self._inspector.job(self._queues.named(request), request.match_info["key"])
        view = await bounded(looking, READ_SECONDS)
        return web.json_response({"job": await asyncio.to_thread(_job, view, MAX_SHOWN_CHARS)})

    async def retry(self, request: web.Request) -> web.Response:
        """Queues a job again; 409 if its state does not allow it."""
        action = self._control.retry(self._queues.named(request), request.match_info["key"])
        return await self._done(action)

    async def abort(self, request: web.Request) -> web.Response:
        """Cancels a job; 409 if it is finished."""
        queue, by = self._queues.named(request), current_principal().name
        return await self._done(self._control.cancel(queue, request.match_info["key"], f"aborted by {by}"))

    async def pause(self, request: web.Request) -> web.Response:
        """Pauses a queue."""
        queue, by = self._queues.named(request), current_principal().name
        return await self._done(self._control.pause(queue, by=by))

    async def resume(self, request: web.Request) -> web.Response:
        """Resumes a queue."""
        return await self._done(self._control.resume(self._queues.named(request)))

    async def _done(self, action: Any) -> web.Response:
        await bounded(action, READ_SECONDS)
        self._health.forget()
        return web.json_response({})


def _queue(seen: QueueObservation, daemons: Iterable[DaemonInfo]) -> dict[str, Any]:
    """A queue under SAQ's names, with ours beside them."""
    counts, totals = seen.counts, seen.totals
    stats = {"complete": totals.completed, "retried": totals.retried, "failed": totals.failed}
    return {
        "name": counts.name,
        "queued": counts.waiting,
        "active": counts.active,
        "scheduled": counts.delayed,
        "workers": {
            f"{daemon.host}:{daemon.pid}": {"stats": {**stats, "uptime": _uptime_ms(daemon)}}
            for daemon in daemons
            if counts.name in daemon.queues
        },
        "counts": counts_json(counts),
        "paused": counts.paused,
        "pause": counts.pause.to_json() if counts.pause else None,
        "limit": limit_json(counts),
    }


def _jobs(views: Sequence[JobView]) -> list[dict[str, Any]]:
    chars = min(MAX_LISTED_CHARS, MAX_PAGE_CHARS // (3 * max(len(views), 1)))
    return [_job(view, chars) for view in views]


def _job(view: JobView, chars: int) -> dict[str, Any]:
    """A job under SAQ's names; its key is percent-encoded, as SAQ's script does not do that in addresses."""
    return {
        "key": quote(view.key, safe=":@+"),
        "queue": view.queue,
        "function": view.job,
        "kwargs": redact_repr(view.payload, chars),
        "status": view.state,
        "queued": _ms(view.enqueued_at),
        "started": _ms(view.started_at),
        "completed": _ms(view.finished_at),
        # SAQ's script treats 0 as unknown and animates the bar.
        "progress": 1.0 if view.state is State.COMPLETED else view.progress or 1e-9,
        "attempts": view.attempt,
        "result": None if view.result is None else redact_repr(view.result, chars),
        "error": None if view.error is None else redact_start(view.error, chars),
    }


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


def _uptime_ms(daemon: DaemonInfo) -> int:
    return max(0, round(daemon.seen_at - daemon.started_at)) * 1000
