"""Bulk actions on the jobs that match a filter: retry, cancel, clean. Each call acts on a bounded batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
from functools import partial
from typing import Any

from aiohttp import web

from crmd.console.queue_bodies import FilterBody
from crmd.console.served_queues import ServedQueues
from crmd.engine.admin.control import Control
from crmd.engine.admin.queue_health import QueueHealth
from crmd.engine.admin.views import State, not_by_filter
from crmd.engine.durations import Rate
from crmd.engine.store.bounded import ACTION_SECONDS, bounded
from crmd.errors import RequestError
from crmd.http import schema
from crmd.http.long_requests import LongRequests
from crmd.http.problems import HttpProblem
from crmd.http.routes import Access, Route

_ANSWERS = "crmd.console.answers"

BATCH_JOBS = 1_000
"""The most jobs that one call acts on."""
AT_ONCE = 50
CALL_SECONDS = 20.0
"""A call ends after this, whatever is left: a slow rate could take hours."""
SAMPLES = 10

Act = Callable[[str, str], Awaitable[object]]


class BulkApi:
    """Answers `POST /api/v1/queues/{queue}/{retry,cancel,clean}`."""

    def __init__(self, queues: ServedQueues, control: Control, health: QueueHealth, long: LongRequests) -> None:
        self._queues = queues
        self._control = control
        self._health = health
        self._long = long

    def routes(self) -> list[Route]:
        """The routes of this group."""
        return [
            self._route("retry", self.retry, "Retries failed or cancelled jobs by filter"),
            self._route("cancel", self.cancel, "Cancels waiting, delayed or active jobs by filter"),
            self._route("clean", self.clean, "Deletes jobs that are not active, by filter"),
        ]

    async def retry(self, request: web.Request) -> web.Response:
        """Retries failed or cancelled jobs; never unknown ones, whose effect may have happened."""
        act = partial(self._control.retry, by_name=False)
        return await self._run(request, act, "retried", {State.FAILED, State.CANCELLED})

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancels waiting jobs at once, and asks running ones to end."""
        states = {State.WAITING, State.DELAYED, State.ACTIVE}
        return await self._run(request, self._control.cancel, "cancelled", states)

    async def clean(self, request: web.Request) -> web.Response:
        """Deletes jobs that are not running."""
        return await self._run(request, self._control.delete, "deleted", set(State) - {State.ACTIVE})

    def _route(self, verb: str, handler: Any, summary: str) -> Route:
        return Route(
            *("POST", f"/api/v1/queues/{{queue}}/{verb}", handler, Access.OPERATE, summary),
            body=FilterBody,
            answers={200: f"{_ANSWERS}:BulkAnswer"},
            errors=(404, 408, 413, 415, 422, 503),
        )

    async def _run(self, request: web.Request, act: Act, done_to: str, states: Collection[State]) -> web.Response:
        queue = self._queues.named(request)
        wanted = await schema.body(request, FilterBody)
        if wanted.state not in states:
            raise HttpProblem(422, not_by_filter(wanted.state, done_to, states))
        found = self._control.matching(queue, wanted.state, wanted.search, BATCH_JOBS + 1)
        keys = await bounded(found, ACTION_SECONDS)
        batch = keys[:BATCH_JOBS]
        done = skipped = 0
        if not wanted.dry_run:
            with self._long.place() if wanted.rate else nullcontext():
                done, skipped = await self._act(act, queue, batch, wanted.rate)
            self._health.forget()
        acted_on = len(batch) if wanted.dry_run else done + skipped
        answer = {
            "state": wanted.state,
            "matched": len(batch),
            "done": done,
            "skipped": skipped,
            "more": len(keys) > acted_on,
            "dry_run": wanted.dry_run,
            "samples": batch[:SAMPLES],
        }
        return web.json_response(answer)

    async def _act(self, act: Act, queue: str, keys: list[str], rate: Rate | None) -> tuple[int, int]:
        """Acts on the keys until none is left or the time is up; returns how many were done and skipped."""
        size = 1 if rate else AT_ONCE
        interval = rate.period_seconds / rate.count if rate else 0.0
        ends_at = time.monotonic() + CALL_SECONDS
        done = skipped = 0
        for start in range(0, len(keys), size):
            if start and (time.monotonic() + interval > ends_at or await self._long.closes_within(interval)):
                break
            part = keys[start : start + size]
            results = await bounded(asyncio.gather(*(_try(act, queue, key) for key in part)), ACTION_SECONDS)
            done += sum(results)
            skipped += len(part) - sum(results)
        return done, skipped


async def _try(act: Act, queue: str, key: str) -> bool:
    """Acts on one job; False if its state no longer allows it."""
    try:
        await act(queue, key)
    except RequestError:
        return False
    return True
