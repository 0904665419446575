"""Queues over HTTP: list, show, pause, resume, limit; and the daemons that serve them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web

from crmd.config.load import DEFAULT, first_below, queue_source
from crmd.console.health import counts_json, limit_json
from crmd.console.queue_bodies import LimitBody, PauseBody
from crmd.console.served_queues import ServedQueues
from crmd.engine.admin.control import Control
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.queue_health import QueueHealth
from crmd.engine.admin.views import QueueCounts
from crmd.engine.durations import format_duration
from crmd.engine.settings import QueueSettings
from crmd.engine.store.bounded import READ_SECONDS, bounded
from crmd.http import schema
from crmd.http.auth import current_principal
from crmd.http.routes import Access, Route

_ANSWERS = "crmd.console.answers"

_ERRORS = (404, 503)
_BODY_ERRORS = (404, 408, 413, 415, 422, 503)


class QueueApi:
    """Answers under `/api/v1/queues` and `/api/v1/workers`."""

    def __init__(self, queues: ServedQueues, inspector: Inspector, control: Control, health: QueueHealth) -> None:
        self._queues = queues
        self._inspector = inspector
        self._control = control
        self._health = health

    def routes(self) -> list[Route]:
        """The routes of this group."""
        one = "/api/v1/queues/{queue}"
        operate = Access.OPERATE
        return [
            Route(
                *("GET", "/api/v1/queues", self.list, Access.READ, "All queues"),
                answers={200: f"{_ANSWERS}:QueuesAnswer"},
                errors=(503,),
                for_any_queue=True,
            ),
            Route(
                *("GET", one, self.get, Access.READ, "One queue: state, settings, sources"),
                answers={200: f"{_ANSWERS}:QueueAnswer"},
                errors=_ERRORS,
            ),
            Route(
                *("POST", f"{one}/pause", self.pause, operate, "Pauses a queue on all daemons"),
                body=PauseBody,
                answers={200: f"{_ANSWERS}:QueueAnswer"},
                errors=_BODY_ERRORS,
            ),
            Route(
                *("POST", f"{one}/resume", self.resume, operate, "Resumes a queue"),
                body=schema.ReasonBody,
                answers={200: f"{_ANSWERS}:QueueAnswer"},
                errors=_BODY_ERRORS,
            ),
            Route(
                *("POST", f"{one}/limit", self.limit, operate, "Sets the rate, on all daemons"),
                body=LimitBody,
                answers={200: f"{_ANSWERS}:QueueAnswer"},
                errors=_BODY_ERRORS,
            ),
            Route(
                *("GET", f"{one}/quarantine", self.quarantine, Access.READ, "Entries that could not be read"),
                answers={200: f"{_ANSWERS}:QuarantineAnswer"},
                errors=_ERRORS,
            ),
            Route(
                *("GET", "/api/v1/workers", self.workers, Access.READ, "The live daemons"),
                answers={200: f"{_ANSWERS}:DaemonsAnswer"},
                errors=(503,),
            ),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All queues that the caller may see."""
        principal = current_principal()
        seen = await self._health.observations()
        names = [name for name in self._queues.settings if name in seen and principal.may_see(name)]
        queues = [queue_json(self._queues, name, seen[name].counts) for name in names]
        return web.json_response({"queues": queues})

    async def get(self, request: web.Request) -> web.Response:
        """One queue."""
        return await self._answer(self._queues.named(request))

    async def pause(self, request: web.Request) -> web.Response:
        """Pauses a queue on all daemons, for a time if the body says so."""
        queue = self._queues.named(request)
        body = await schema.body(request, PauseBody)
        by = current_principal().name
        pause = self._control.pause(queue, reason=body.reason, by=by, duration=body.duration)
        await bounded(pause, READ_SECONDS)
        return await self._answer(queue)

    async def resume(self, request: web.Request) -> web.Response:
        """Resumes a queue on all daemons."""
        queue = self._queues.named(request)
        await schema.body(request, schema.ReasonBody)
        await bounded(self._control.resume(queue), READ_SECONDS)
        return await self._answer(queue)

    async def limit(self, request: web.Request) -> web.Response:
        """Overrides a queue's rate on all daemons; null restores the configured one."""
        queue = self._queues.named(request)
        body = await schema.body(request, LimitBody)
        await bounded(self._control.limit(queue, body.rate, body.duration), READ_SECONDS)
        return await self._answer(queue)

    async def quarantine(self, request: web.Request) -> web.Response:
        """Entries that could not be parsed and were set aside, newest first."""
        found = await bounded(self._inspector.quarantined(self._queues.named(request)), READ_SECONDS)
        return web.json_response({"entries": [entry.to_json() for entry in found]})

    async def workers(self, request: web.Request) -> web.Response:
        """The live daemons."""
        return web.json_response({"workers": [daemon.to_json() for daemon in await self._health.daemons()]})

    async def _answer(self, queue: str) -> web.Response:
        """The queue as it is now."""
        self._health.forget()
        counts = await bounded(self._inspector.counts(queue), READ_SECONDS)
        return web.json_response(queue_json(self._queues, queue, counts))


# A queue as JSON: its state, and its settings with their sources


def queue_json(queues: ServedQueues, name: str, counts: QueueCounts) -> dict[str, Any]:
    """One queue: state, settings, sources."""
    return {
        "name": name,
        "jobs": queues.catalog.names(name),
        "paused": counts.paused,
        "pause": counts.pause.to_json() if counts.pause else None,
        "held": queues.held(name),
        "degraded": queues.degraded().get(name),
        "counts": counts_json(counts),
        "limit": limit_json(counts),
        "settings": {
            key: {"value": value, "source": _source_of(queues.sources, name, key)}
            for key, value in settings_json(queues.settings[name]).items()
        },
    }


def settings_json(settings: QueueSettings) -> dict[str, Any]:
    """A queue's settings under their keys, in the form of `config.toml`."""
    backoff = settings.backoff
    return {
        "concurrency": settings.concurrency,
        "attempts": settings.attempts,
        "backoff": {"base": format_duration(backoff.base_seconds), "max": format_duration(backoff.max_seconds)},
        "timeout": format_duration(settings.timeout_seconds),
        "keep_completed": settings.keep_completed,
        "keep_failed": settings.keep_failed,
        "keep_min": format_duration(settings.keep_min_seconds),
        "keep_age": format_duration(settings.keep_age_seconds),
        "unique_for": format_duration(settings.unique_for_seconds or None),
        "rate_limit": str(settings.rate_limit) if settings.rate_limit else None,
        "limits": [{"by": limit.by, "rate": str(limit.rate), "burst": limit.burst} for limit in settings.limits],
        "handlers": list(settings.handlers),
        "unknown_job_grace": format_duration(settings.unknown_job_grace_seconds),
        "stall_after": format_duration(settings.stall_after_seconds),
    }


def _source_of(origins: Mapping[str, str], queue: str, key: str) -> str:
    return queue_source(origins, queue, key) or first_below(origins, f"defaults.{key}") or DEFAULT
