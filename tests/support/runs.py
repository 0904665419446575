"""Runs of jobs without a worker, for tests of what decides about them."""

from __future__ import annotations

from typing import Any

from crmd.engine.codec import encode
from crmd.engine.worker.execution import Run


def make_run(**fields: Any) -> Run:
    """A first attempt of three, on a job with an empty payload."""
    kwargs = fields.pop("kwargs", {})
    data = {"function": "work", "kwargs": kwargs, **fields.pop("data", {})}
    given: dict[str, Any] = {
        "worker": None,
        "job_id": "saq:job:q:k",
        "key": "k",
        "token": "d:1",
        "document": encode(data),
        "seen": data,
        "name": "work",
        "attempt": 1,
        "attempts": 3,
        "deaths": 0,
        "timeout": 60.0,
        "started_ms": 1_800_000_000_000,
        "started_at": 0.0,
    }
    return Run(**(given | fields))
