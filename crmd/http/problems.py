"""Every error as `application/problem+json` (RFC 9457), with an id that the log has too."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware

from crmd import errors
from crmd.telemetry.throttle import Throttle

_log = logging.getLogger(__name__)

LOG_BURST = 20
"""Lines of one status before they are held to one a second: a scanner shall not fill the log."""

RETRY_AFTER_SECONDS = 1
"""What a client is told to wait when the store is unavailable."""

_STATUS_BY_ERROR: tuple[tuple[type[errors.CrmdError], int], ...] = (
    (errors.UnknownQueue, 404),
    (errors.UnknownSchedule, 404),
    (errors.JobNotFound, 404),
    (errors.UnknownFile, 404),
    (errors.UnknownCampaign, 404),
    (errors.FileTooLarge, 413),
    (errors.UploadQuotaReached, 429),
    (errors.IllegalTransition, 409),
    (errors.JobTooLarge, 413),
    (errors.RequestError, 422),
    (errors.StoreFull, 507),
    (errors.StoreError, 503),
    (errors.RecordsError, 503),
)


class HttpProblem(Exception):
    """Ends a request with an error. `extra` become members of the document.

    With `lingers` the connection closes itself, once its client had time to read a `Connection: close`.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        lingers: bool = False,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.lingers = lingers
        self.extra = extra


def problems() -> Middleware:
    """The middleware that turns whatever a handler raises into a problem document."""
    throttle = Throttle(1.0, burst=LOG_BURST)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as raised:
            if raised.status < 400:
                raise
            problem = _of_http(raised, request)
            # The request's match keeps this error where nothing is at the path, or it lacks the method.
            raised.__traceback__ = None
        except (asyncio.CancelledError, ConnectionError) as gone:
            # The body's stream keeps this error, and with it the frames that hold the request and the body.
            traceback.clear_frames(gone.__traceback__)
            raise
        except Exception as raised:
            problem = _of_error(raised)
        number = secrets.token_hex(8)
        _write(request, problem, number, throttle)
        # Its traceback holds this frame, and so the request's body, until the garbage collector finds the circle.
        problem.__traceback__ = problem.__cause__ = None
        return _response(request, problem, number)

    return middleware


def _of_error(raised: Exception) -> HttpProblem:
    if isinstance(raised, HttpProblem):
        return raised
    if isinstance(raised, (web.RequestPayloadError, HttpProcessingError)):
        return HttpProblem(400, f"the body cannot be read: {_one_line(raised)}", headers={"Connection": "close"})
    if isinstance(raised, errors.InvalidPayload):
        return HttpProblem(422, str(raised), errors=raised.errors)
    for kind, status in _STATUS_BY_ERROR:
        if isinstance(raised, kind):
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status == 503 else None
            return HttpProblem(status, str(raised), headers=headers)
    unexpected = HttpProblem(500, "an error inside crmd; the log has it under this id")
    unexpected.__cause__ = raised
    return unexpected


def _one_line(error: Exception) -> str:
    """What aiohttp says of a malformed body, without the status and the drawing of the place."""
    text = getattr(error, "message", "") or str(error).removeprefix("400, message:")
    return text.strip().partition("\n")[0]


def _of_http(raised: web.HTTPException, request: web.Request) -> HttpProblem:
    if raised.status == 404:
        return HttpProblem(404, f"nothing is at {request.path}")
    if raised.status == 405:
        allowed = raised.headers.get("Allow", "")
        detail = f"{request.method} is not allowed here; allowed: {allowed.replace(',', ', ')}"
        return HttpProblem(405, detail, headers={"Allow": allowed})
    return HttpProblem(raised.status, raised.text or raised.reason)


def _write(request: web.Request, problem: HttpProblem, number: str, throttle: Throttle) -> None:
    level = logging.ERROR if problem.status == 500 else logging.INFO
    suppressed = throttle.allow(problem.status)
    if suppressed is None or not _log.isEnabledFor(level):
        return
    fields = {
        "id": number,
        "status": problem.status,
        "method": request.method,
        "path": request.rel_url.raw_path,
        "detail": problem.detail,
    }
    if suppressed:
        fields["suppressed"] = suppressed
    _log.log(level, "http.problem", extra={"fields": fields}, exc_info=problem.__cause__)


def _response(request: web.Request, problem: HttpProblem, number: str) -> web.Response:
    title = HTTPStatus(problem.status).phrase
    document = {
        "type": "about:blank",
        "title": title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request.rel_url.raw_path,
        "id": number,
        # SAQ's page shows what it finds under this name.
        "error": problem.detail,
        **problem.extra,
    }
    response = web.Response(
        status=problem.status,
        body=json.dumps(document).encode(),
        content_type="application/problem+json",
        headers=problem.headers,
    )
    if problem.headers.get("Connection") == "close" and not problem.lingers:
        response.force_close()
    return response
