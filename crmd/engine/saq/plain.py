"""A running job as plain SAQ functions see it: SAQ's own object, and what `job.update()` writes back."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from saq.job import Job
from saq.queue.base import Queue

from crmd.engine.codec import encode_payload
from crmd.engine.worker.execution import Execution

FIELDS = frozenset(Job.__dataclass_fields__)
WRITABLE = ("progress", "meta", "timeout", "heartbeat", "retries", "ttl", "retry_delay", "retry_backoff")
"""The rest is the engine's: a handler cannot end, rename or requeue its job by writing to it."""


def plain_context(queue: Queue, shared: Mapping[str, Any], worker_id: str, execution: Execution) -> dict[str, Any]:
    """What a plain function gets as its first argument: the worker's context, its job and its queue."""
    return {**shared, "job": _job(queue, execution, worker_id), "queue": queue}


def _job(queue: Queue, execution: Execution, worker_id: str) -> Job:
    """The job as SAQ's worker shows it to a function: this attempt counted, the queue's settings filled in."""
    data = {name: value for name, value in execution.data.items() if name in FIELDS and name != "queue"}
    own = {
        "status": "active",
        "kwargs": dict(execution.kwargs),
        "attempts": execution.attempt,
        "started": execution.started_ms,
        "worker_id": worker_id,
        **_writable(execution),
    }
    return Job(**{**data, **own}, queue=queue)


def take_update(execution: Execution, job: Job) -> None:
    """Takes what a function changed in its job; raises InvalidPayload for what is not JSON."""
    known = _writable(execution)
    changed = {name: getattr(job, name) for name in WRITABLE if getattr(job, name) != known[name]}
    encode_payload(changed)
    execution.data.update(copy.deepcopy(changed))
    retries = changed.get("retries")
    execution.attempts = retries if isinstance(retries, int) and retries > 0 else execution.attempts


def with_changes(stored: dict[str, Any], job: Job) -> dict[str, Any]:
    """A stored job with the fields of SAQ's object, and all others as they were."""
    defaults = {name: field.default for name, field in Job.__dataclass_fields__.items()}
    values = {name: getattr(job, name) for name in FIELDS - {"queue", "kwargs"}}
    own = {name: value for name, value in values.items() if name in stored or value not in (defaults[name], {})}
    return {**stored, **own}


def _writable(execution: Execution) -> dict[str, Any]:
    data = execution.data
    return {
        "progress": data.get("progress", 0.0),
        "meta": copy.deepcopy(data.get("meta") or {}),
        "timeout": execution.timeout or 0,
        "heartbeat": data.get("heartbeat", 0),
        "retries": execution.attempts,
        "ttl": data.get("ttl", 600),
        "retry_delay": data.get("retry_delay", 0.0),
        "retry_backoff": data.get("retry_backoff", False),
    }
