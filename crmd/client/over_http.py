"""The client over HTTP, for applications that cannot reach the store."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import aiohttp

from crmd.client.repeating import in_parts, repeated
from crmd.engine.admin.requests import check_request_key
from crmd.engine.admin.views import Added, JobView, NewJob, State, instant
from crmd.errors import (
    CrmdError,
    IllegalTransition,
    InvalidPayload,
    JobNotFound,
    JobTooLarge,
    RequestError,
    StoreFull,
    StoreUnavailable,
)

TIMEOUT_S = 10.0
WAIT_STEP_S = 30.0
"""One request waits this long at most; a longer wait takes several."""

_ERRORS: dict[int, type[CrmdError]] = {
    404: JobNotFound,
    409: IllegalTransition,
    413: JobTooLarge,
    422: InvalidPayload,
    503: StoreUnavailable,
    507: StoreFull,
}


class HttpBackend:
    """Talks to a daemon's API with a bearer token."""

    def __init__(self, url: str, token: str | None) -> None:
        self._base = url.rstrip("/") + "/api/v1/queues"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Opens the session; the first request connects."""
        self._session = aiohttp.ClientSession(headers=self._headers)

    async def stop(self) -> None:
        """Closes the session."""
        if self._session:
            await self._session.close()
            self._session = None

    async def enqueue(self, queue: str, jobs: list[NewJob], idempotency_key: str | None) -> list[Added]:
        """Adds jobs, 1,000 in a request; a request is repeated if its answer is lost."""
        added: list[Added] = []
        whole = secrets.token_hex(16) if idempotency_key is None else check_request_key(idempotency_key)
        for part, key in in_parts(jobs, whole):
            headers = {"Idempotency-Key": key}
            body = {"jobs": [_body(new) for new in part]}
            ask = partial(self._ask, "POST", f"/{quote(queue, safe='')}/jobs", json=body, headers=headers)
            answer = await repeated(ask)
            added += [_added(item) for item in answer["jobs"]]
        return added

    async def job(self, queue: str, key: str) -> JobView:
        """One job."""
        return JobView.from_json(await self._ask("GET", _path(queue, key)))

    async def wait(self, queue: str, key: str, timeout: float | None) -> JobView:
        """One job once it is over; asks again until then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = WAIT_STEP_S if deadline is None else min(WAIT_STEP_S, deadline - time.monotonic())
            if left <= 0:
                raise TimeoutError(f"job {key} is not over after {timeout:g} s")
            wait = f"{max(1, round(left * 1000))}ms"
            view = JobView.from_json(await self._ask("GET", f"{_path(queue, key)}?wait={wait}", longest=left))
            if view.state.finished:
                return view

    async def cancel(self, queue: str, key: str) -> JobView:
        """Cancels one job."""
        return JobView.from_json(await self._ask("POST", f"{_path(queue, key)}/cancel"))

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        longest: float = 0.0,
    ) -> Any:
        if self._session is None:
            raise RuntimeError("use the client in a with block")
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S + longest)
        try:
            asking = self._session.request(method, self._base + path, json=json, headers=headers, timeout=timeout)
            async with asking as response:
                data = await response.json(content_type=None)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            reason = str(error) or type(error).__name__  # a timeout has no text
            raise StoreUnavailable(f"{method} {self._base + path}: {reason}") from error
        if response.status >= 400:
            detail = data.get("detail") or data.get("title") or response.reason
            raise _ERRORS.get(response.status, RequestError)(f"{method} {path}: {response.status}: {detail}")
        return data


def _path(queue: str, key: str) -> str:
    return f"/{quote(queue, safe='')}/jobs/{quote(key, safe='')}"


def _added(item: Mapping[str, Any]) -> Added:
    state = item.get("state")
    return Added(item["key"], item["created"], None if state is None else State(state), "state" in item)


def _body(new: NewJob) -> dict[str, Any]:
    body = {
        "job": new.job,
        "payload": new.payload,
        "key": new.key,
        "delay": f"{round(new.delay * 1000)}ms" if new.delay is not None else None,
        "at": instant(new.at),
        "priority": new.priority or None,
        "unique_for": f"{round(new.unique_for * 1000)}ms" if new.unique_for is not None else None,
    }
    return {name: value for name, value in body.items() if value is not None}
