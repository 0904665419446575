"""Reads the jobs of a request, and validates all of them before any is stored."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import ValidationError

from crmd.console.queue_bodies import JobBody, ManyBody
from crmd.engine.admin.requests import RequestKey, check_request_key
from crmd.engine.admin.views import NewJob
from crmd.engine.codec import encode_payload
from crmd.errors import InvalidPayload, JobTooLarge, RequestError, UnknownJob
from crmd.http import schema
from crmd.http.auth import current_principal
from crmd.http.bodies import body_time_slice
from crmd.http.problems import HttpProblem
from crmd.jobs import Catalog

IDEMPOTENCY_KEY = "Idempotency-Key"


@dataclass(slots=True)
class _Mistakes:
    """The mistakes of each bad job, by index."""

    found: list[dict[str, Any]] = field(default_factory=list)
    too_large: bool = True
    """Whether all mistakes are about sizes."""

    def add(self, index: int, errors: Sequence[Any], *, too_large: bool = False, **extra: Any) -> None:
        self.found.append({"index": index, "errors": list(errors), **extra})
        self.too_large = self.too_large and too_large


async def read_jobs(
    request: web.Request, catalog: Catalog, queue: str, checks: Executor
) -> tuple[list[NewJob], bool]:
    """The jobs of a request, and whether it asked for many. `checks` runs what takes long to check.

    Raises HttpProblem 422 or 413 that names each bad index.
    """
    data = await schema.json_body(request)
    many = isinstance(data, dict) and "jobs" in data
    items = schema.checked(data, ManyBody, "body").jobs if many else [data]
    mistakes = _Mistakes()
    jobs = []
    if not catalog.is_loaded(queue):  # of a queue that other daemons run: with all that its jobs import
        await asyncio.to_thread(catalog.load, queue)
    time_slice = body_time_slice(request)
    for index, item in enumerate(items):
        read = partial(_read, index, item, catalog, queue, mistakes)
        takes_long = _takes_long(item, catalog, queue)
        jobs.append(await asyncio.get_running_loop().run_in_executor(checks, read) if takes_long else read())
        if time_slice.over:
            await time_slice.give_way()
    if mistakes.found:
        raise _problem(mistakes, many)
    return [job for job in jobs if job is not None], many


def request_key(request: web.Request) -> RequestKey | None:
    """The request's `Idempotency-Key`, scoped to its principal; raises HttpProblem 422."""
    values = request.headers.getall(IDEMPOTENCY_KEY, [])
    if not values:
        return None
    if len(values) > 1:
        raise HttpProblem(422, f"{IDEMPOTENCY_KEY} is given {len(values)} times; give it once")
    try:
        return RequestKey(current_principal().owner, check_request_key(values[0].strip()))
    except RequestError as error:
        raise HttpProblem(422, f"{IDEMPOTENCY_KEY}: {error}") from None


def _takes_long(item: Any, catalog: Catalog, queue: str) -> bool:
    name = item.get("job") if isinstance(item, dict) else None
    spec = catalog.find(queue, name) if isinstance(name, str) else None
    return spec is not None and spec.check_in_thread


def _read(index: int, item: Any, catalog: Catalog, queue: str, mistakes: _Mistakes) -> NewJob | None:
    if is_bull(item):
        mistakes.add(index, [_mistake("", BULL_ADVICE)], example=in_our_names(item))
        return None
    try:
        new = JobBody.model_validate(item).to_new()
        catalog.get(queue, new.job).validate(new.payload)
        encode_payload({"function": new.job, "kwargs": new.payload})
    except ValidationError as error:
        mistakes.add(index, schema.mistakes_of(error))
    except UnknownJob as error:
        mistakes.add(index, [_mistake("job", str(error))])
    except InvalidPayload as error:
        mistakes.add(index, [_in_payload(entry) for entry in error.errors] or [_mistake("payload", str(error))])
    except JobTooLarge as error:
        mistakes.add(index, [_mistake("payload", str(error))], too_large=True)
    else:
        return new
    return None


def _problem(mistakes: _Mistakes, many: bool) -> HttpProblem:
    status = 413 if mistakes.too_large else 422
    first = mistakes.found[0]
    text = "; ".join(_in_words(mistake) for mistake in first["errors"])
    if not many:
        return HttpProblem(status, text, **{name: value for name, value in first.items() if name != "index"})
    count = len(mistakes.found)
    detail = f"{count} of the jobs cannot be added, and none was; the first, at index {first['index']}: {text}"
    return HttpProblem(status, detail, errors=mistakes.found)


def _mistake(name: str, reason: str) -> dict[str, str]:
    return {"field": name, "reason": reason}


def _in_payload(entry: dict[str, object]) -> dict[str, str]:
    name = f"payload.{entry['field']}" if entry.get("field") else "payload"
    return _mistake(name, str(entry.get("reason", "")))


def _in_words(mistake: dict[str, str]) -> str:
    return f"{mistake['field']}: {mistake['reason']}" if mistake["field"] else mistake["reason"]


# Jobs in Bull's form


_BULL_NAMES = frozenset({"name", "data", "opts"})


def is_bull(item: Any) -> bool:
    """Whether a job has Bull's form, `{name, data, opts}`."""
    return isinstance(item, dict) and "job" not in item and bool(_BULL_NAMES & item.keys())


def in_our_names(item: dict[str, Any]) -> dict[str, Any]:
    """The same job in crmd's form; milliseconds become durations with a unit."""
    options = item.get("opts")
    options = options if isinstance(options, dict) else {}
    ours: dict[str, Any] = {"job": item.get("name", "NAME"), "payload": item.get("data", {})}
    if isinstance(options.get("delay"), int | float):
        ours["delay"] = f"{options['delay']:g}ms"
    if isinstance(options.get("priority"), int):
        ours["priority"] = min(options["priority"], 10)
    if options.get("jobId") is not None:
        ours["key"] = str(options["jobId"])
    return ours


BULL_ADVICE = (
    "this is Bull's form; here a job is {job, payload, delay, at, priority, key, unique_for}. Attempts, backoff, "
    "timeout and what is kept are the queue's settings"
)
