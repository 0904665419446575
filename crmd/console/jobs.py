"""Jobs over HTTP: list, add, show, retry, cancel, promote, delete."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from urllib.parse import quote

from aiohttp import web

from crmd.console.job_requests import IDEMPOTENCY_KEY, read_jobs, request_key
from crmd.console.queue_bodies import MAX_WAIT_SECONDS, AddBody, JobsQuery, WaitQuery
from crmd.console.served_queues import ServedQueues
from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.listing import INLINE_BYTES
from crmd.engine.admin.queue_health import QueueHealth
from crmd.engine.admin.views import Added, JobPage, JobView
from crmd.engine.store.bounded import ACTION_SECONDS, READ_SECONDS, bounded
from crmd.errors import JobNotFound
from crmd.http import schema
from crmd.http.long_requests import LongRequests
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route, Success

_ANSWERS = "crmd.console.answers"

MAX_LISTS = 2
"""Lists that are built at the same time: a list of large jobs takes tens of MiB. Others wait."""

_JOBS = "/api/v1/queues/{queue}/jobs"
_ONE = f"{_JOBS}/{{key}}"
_ADDED = {
    200: Success(
        "Every key was taken; for one job, the existing job. With wait, its outcome.",
        f"{_ANSWERS}:JobsAddedAnswer",
    ),
    201: Success(
        "Added, now or by the request that this one repeats. With wait, the outcome of the job.",
        f"{_ANSWERS}:JobsAddedAnswer",
    ),
    202: Success("Added, and not over when the wait ran out: the job as it stands.", f"{_ANSWERS}:AddedJobAnswer"),
}
_IDEMPOTENCY_KEY = (
    "Names this request, 1 to 255 visible ASCII characters. Sent again by the same user or token, to the same "
    "queue and with the same body, it adds nothing and gets the first answer again, with each job's present "
    "state: for 24 hours, and as long as one of its jobs is not over."
)


class JobApi:
    """Answers under `/api/v1/queues/{queue}/jobs`."""

    def __init__(
        self,
        queues: ServedQueues,
        inspector: Inspector,
        control: Control,
        health: QueueHealth,
        long: LongRequests,
        prefix: str,
    ) -> None:
        self._queues = queues
        self._inspector = inspector
        self._control = control
        self._health = health
        self._long = long
        self._prefix = prefix
        self._lists = asyncio.Semaphore(MAX_LISTS)
        # One thread, job by job, so that requests take turns and the default executor stays free for others.
        self._checks = ThreadPoolExecutor(1, thread_name_prefix="checks")

    async def stop(self, _: web.Application) -> None:
        """Ends the validation thread; what waits for it is dropped."""
        self._checks.shutdown(wait=False, cancel_futures=True)

    def routes(self) -> list[Route]:
        """The routes of this group."""
        moved = (404, 409, 503)
        return [
            Route(
                *("GET", _JOBS, self.list, Access.READ, "A page of jobs"),
                query=JobsQuery,
                answers={200: f"{_ANSWERS}:JobsPageAnswer"},
                errors=(404, 422, 503),
            ),
            Route(
                *("POST", _JOBS, self.add, Access.ENQUEUE, "Adds one job, or up to 1,000"),
                body=AddBody,
                query=WaitQuery,
                headers={IDEMPOTENCY_KEY: _IDEMPOTENCY_KEY},
                answers=_ADDED,
                errors=(404, 408, 413, 415, 422, 503, 507),
            ),
            Route(
                *("GET", _ONE, self.get, Access.READ, "One job, or with wait its outcome"),
                query=WaitQuery,
                answers={200: f"{_ANSWERS}:JobAnswer"},
                errors=(404, 422, 503),
            ),
            Route(
                *(
                    "POST",
                    f"{_ONE}/retry",
                    self.retry,
                    Access.OPERATE,
                    "Retries a failed, cancelled or unknown job",
                ),
                answers={200: f"{_ANSWERS}:JobAnswer"},
                errors=moved,
            ),
            Route(
                *("POST", f"{_ONE}/cancel", self.cancel, Access.OPERATE, "Cancels a job"),
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:JobAnswer"},
                errors=(404, 408, 409, 413, 415, 422, 503),
            ),
            Route(
                *("POST", f"{_ONE}/promote", self.promote, Access.OPERATE, "Ends a job's delay"),
                answers={200: f"{_ANSWERS}:JobAnswer"},
                errors=moved,
            ),
            Route(
                *("DELETE", _ONE, self.delete, Access.OPERATE, "Deletes a job that is not running"),
                answers={204: Success("Deleted.")},
                errors=moved,
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """A page of jobs."""
        queue = self._queues.named(request)
        asked = schema.query(request, JobsQuery)
        async with self._lists:
            listing = self._inspector.jobs(queue, asked.state, asked.search, asked.cursor, asked.limit)
            try:
                page = await bounded(listing, READ_SECONDS)
            except ValueError as error:
                raise HttpProblem(422, str(error)) from None
            body = _page_json(page) if page.size <= INLINE_BYTES else await asyncio.to_thread(_page_json, page)
        return web.json_response(text=body)

    async def add(self, request: web.Request) -> web.Response:
        """Adds jobs; all are validated before any is stored."""
        wait = schema.query(request, WaitQuery).wait
        with self._long.place() if wait else nullcontext():
            return await self._add(request, wait)

    async def _add(self, request: web.Request, wait: float | None) -> web.Response:
        queue = self._queues.named(request)
        key = request_key(request)
        jobs, many = await read_jobs(request, self._queues.catalog, queue, self._checks)
        self._check_wait(wait, many)
        if key is None:
            added = await bounded(self._control.enqueue(queue, jobs), ACTION_SECONDS)
        else:
            added = await bounded(self._control.enqueue_request(queue, jobs, key, many=many), ACTION_SECONDS)
        self._health.forget()
        if many:
            status = 201 if any(one.created for one in added) else 200
            return web.json_response(
                {"jobs": [_added_json(one) for one in added]},
                status=status,
                headers={"Location": f"{self._prefix}/api/v1/queues/{queue}/jobs"},
            )
        return await self._answer_one(request, queue, added[0], wait)

    async def get(self, request: web.Request) -> web.Response:
        """One job; with `wait`, once it is finished or the wait expires."""
        queue, key = self._named(request)
        wait = schema.query(request, WaitQuery).wait
        self._check_wait(wait, many=False)
        with self._long.place() if wait else nullcontext():
            return _job(await self._outcome(request, queue, key, wait))

    async def retry(self, request: web.Request) -> web.Response:
        """Queues a failed, cancelled or unknown job again."""
        queue, key = self._named(request)
        return await self._act(self._control.retry(queue, key))

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancels a waiting job at once, and asks a running one to end."""
        queue, key = self._named(request)
        body = await schema.body(request, schema.ReasonBody)
        return await self._act(self._control.cancel(queue, key, body.reason or "cancelled"))

    async def promote(self, request: web.Request) -> web.Response:
        """Ends a job's delay."""
        queue, key = self._named(request)
        return await self._act(self._control.promote(queue, key))

    async def delete(self, request: web.Request) -> web.Response:
        """Deletes a job that is not running."""
        queue, key = self._named(request)
        await bounded(self._control.delete(queue, key), READ_SECONDS)
        self._health.forget()
        return web.Response(status=204)

    def _named(self, request: web.Request) -> tuple[str, str]:
        return self._queues.named(request), request.match_info["key"]

    async def _act(self, action: Awaitable[JobView]) -> web.Response:
        view = await bounded(action, READ_SECONDS)
        self._health.forget()
        return _job(view)

    def _check_wait(self, wait: float | None, many: bool) -> None:
        if wait is None:
            return
        if many:
            raise HttpProblem(422, "wait is for one job; look at many by their keys")
        if wait > MAX_WAIT_SECONDS:
            raise HttpProblem(422, "wait is at most 5m; look at the job by its key after that")

    async def _answer_one(
        self, request: web.Request, queue: str, added: Added, wait: float | None
    ) -> web.Response:
        status = 201 if added.created else 200
        headers = {"Location": f"{self._prefix}/api/v1/queues/{queue}/jobs/{quote(added.key, safe='')}"}
        if wait is None and added.created and not added.repeated:
            return web.json_response(_added_json(added), status=status, headers=headers)
        try:
            view = await self._outcome(request, queue, added.key, wait)
        except JobNotFound:  # finished, and trimmed since
            [state] = await bounded(self._inspector.states(queue, [added.key]), READ_SECONDS)
            return web.json_response({**_added_json(added), "state": state}, status=status, headers=headers)
        if wait is not None and not view.state.finished:
            status = 202
        body = {**view.to_json(), "created": added.created}
        return web.json_response(body, status=status, headers=headers)

    async def _outcome(self, request: web.Request, queue: str, key: str, wait: float | None) -> JobView:
        """The finished job, or its current state if the wait expires first."""
        if wait:
            try:
                view = await self._long.result(request, self._control.wait(queue, key, wait))
            except TimeoutError:
                view = None
            if view is not None:
                return view
        return await bounded(self._inspector.job(queue, key), READ_SECONDS)


def _job(view: JobView) -> web.Response:
    return web.json_response(view.to_json())


def _page_json(page: JobPage) -> str:
    # Job by job: encoding megabytes in one call would block all other threads.
    jobs = ", ".join(json.dumps(view.to_json()) for view in page.jobs)
    return f'{{"jobs": [{jobs}], "cursor": {json.dumps(page.cursor)}}}'


def _added_json(added: Added) -> dict[str, object]:
    answer: dict[str, object] = {"key": added.key, "created": added.created}
    return {**answer, "state": added.state} if added.repeated else answer
