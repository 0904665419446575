"""The HTTP API of a daemon of any version, as its first user."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from base64 import b64encode
from typing import Any

from tests.support.daemon import DaemonProcess

TIMEOUT_SECONDS = 60.0


class Api:
    """Calls one daemon with the password that its first start made."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return self._call("GET", path, None, {})

    def post(self, path: str, body: Any = None) -> Any:
        """The JSON of the answer to a POST of JSON."""
        data = None if body is None else json.dumps(body).encode()
        return self._call("POST", path, data, {"Content-Type": "application/json"})

    def upload(self, data: bytes, name: str) -> str:
        """Uploads a file; returns its id."""
        headers = {"Content-Type": "text/csv", "Content-Disposition": f'attachment; filename="{name}"'}
        return str(self._call("POST", "/api/v1/files", data, headers)["id"])

    def add(self, queue: str, job: str, key: str, payload: Any, **options: Any) -> None:
        """Adds one job."""
        body = {"job": job, "key": key, "payload": payload, **options}
        assert self.post(f"/api/v1/queues/{queue}/jobs", body)["created"]

    def job(self, queue: str, key: str) -> Any:
        """One job."""
        return self.get(f"/api/v1/queues/{queue}/jobs/{key}")

    def jobs(self, queue: str, state: str) -> dict[str, Any]:
        """The jobs of a queue that are in a state, by key."""
        found = self.get(f"/api/v1/queues/{queue}/jobs?state={state}&limit=100")["jobs"]
        return {job["key"]: job for job in found}

    def queue(self, name: str) -> Any:
        """One queue."""
        return self.get(f"/api/v1/queues/{name}")

    def _call(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> Any:
        password = (self._daemon.state / "password").read_text().strip()
        login = b64encode(f"admin:{password}".encode()).decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._daemon.port}{path}",
            data,
            {**headers, "Authorization": f"Basic {login}"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read().decode()}") from None
