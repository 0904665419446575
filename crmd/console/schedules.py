"""Schedules over HTTP: list, run now, pause, resume."""

from __future__ import annotations

from aiohttp import web

from crmd.engine.admin.schedules import Schedules
from crmd.engine.store.bounded import READ_SECONDS, bounded
from crmd.http import schema
from crmd.http.auth import current_principal
from crmd.http.routes import Access, Route

_ANSWERS = "crmd.console.answers"

_BODY_ERRORS = (404, 408, 413, 415, 422, 503)


class ScheduleApi:
    """Answers under `/api/v1/schedules`."""

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    def routes(self) -> list[Route]:
        """The routes of this group."""
        one, operate = "/api/v1/schedules/{name}", Access.OPERATE
        return [
            Route(
                *("GET", "/api/v1/schedules", self.list, Access.READ, "All schedules: next and last runs"),
                answers={200: f"{_ANSWERS}:SchedulesAnswer"},
                errors=(503,),
                for_any_queue=True,
            ),
            Route(
                *("POST", f"{one}/run", self.run, operate, "Adds the schedule's job now"),
                answers={201: f"{_ANSWERS}:ScheduledJobAnswer"},
                errors=(*_BODY_ERRORS, 507),
            ),
            Route(
                *("POST", f"{one}/pause", self.pause, operate, "Pauses a schedule on all daemons"),
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:ScheduleAnswer"},
                errors=_BODY_ERRORS,
            ),
            Route(
                *("POST", f"{one}/resume", self.resume, operate, "Resumes a schedule"),
                answers={200: f"{_ANSWERS}:ScheduleAnswer"},
                errors=_BODY_ERRORS,
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All schedules of queues that the caller may see."""
        principal, views = current_principal(), await bounded(self._schedules.all(), READ_SECONDS)
        return web.json_response(
            {"schedules": [view.to_json() for view in views if principal.may_see(view.queue)]}
        )

    async def run(self, request: web.Request) -> web.Response:
        """Adds the schedule's job now, in addition to its regular runs."""
        name = request.match_info["name"]
        added = await bounded(self._schedules.run(name), READ_SECONDS)
        body = {"schedule": name, "queue": self._schedules.settings(name).queue, "key": added.key}
        return web.json_response(body, status=201)

    async def pause(self, request: web.Request) -> web.Response:
        """Pauses a schedule on all daemons."""
        name = request.match_info["name"]
        body = await schema.body(request, schema.ReasonBody)
        pause = self._schedules.pause(name, by=current_principal().name, reason=body.reason)
        await bounded(pause, READ_SECONDS)
        return await self._answer(name)

    async def resume(self, request: web.Request) -> web.Response:
        """Resumes a schedule on all daemons."""
        name = request.match_info["name"]
        await bounded(self._schedules.resume(name), READ_SECONDS)
        return await self._answer(name)

    async def _answer(self, name: str) -> web.Response:
        view = await bounded(self._schedules.get(name), READ_SECONDS)
        return web.json_response(view.to_json())
