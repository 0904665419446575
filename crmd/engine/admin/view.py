"""Builds a job's view from what the store holds of it."""

from __future__ import annotations

from typing import Any

from crmd.engine.admin.views import JobView, State, TimelineEntry
from crmd.engine.codec import Unreadable, attempts_allowed, attempts_so_far, decode, loads
from crmd.engine.durations import END_OF_TIME
from crmd.engine.settings import QueueSettings
from crmd.engine.store.replies import Inspected

_BY_STATUS = {
    "complete": State.COMPLETED,
    "failed": State.FAILED,
    "aborted": State.CANCELLED,
    "aborting": State.CANCELLED,
}


def view_of(found: Inspected, settings: QueueSettings) -> JobView | None:
    """The job as the outside sees it; None when there is none."""
    if found.document is None:
        return None
    try:
        data = decode(found.document)
    except Unreadable as error:
        data = {"error": f"the stored job {error}"}
    state = state_of(found, data)
    counted = attempts_so_far(data)
    return JobView(
        queue=settings.name,
        job=str(data.get("function", "")),
        key=found.job_id.split(":", 3)[3],
        state=state,
        payload=data.get("kwargs") or {},
        result=data.get("result"),
        error=_text(data.get("error")),
        progress=_share(data.get("progress")),
        attempt=counted + 1 if state is State.ACTIVE else counted,
        attempts=attempts_allowed(data, settings),
        delivery=found.crash_count + 1 if state is State.ACTIVE else found.crash_count,
        priority=found.priority,
        enqueued_at=_seconds(data.get("queued")),
        started_at=_seconds(data.get("started")),
        finished_at=_seconds(data.get("completed")) if state.finished else None,
        run_at=found.due or None,
        timeline=[_entry(raw) for raw in found.log],
    )


def state_of(found: Inspected, data: dict[str, Any]) -> State:
    """Where the job stands. The structures say it; its JSON may lag behind them."""
    if found.lease is not None:
        return State.ACTIVE
    if found.due is not None:
        return State.DELAYED if found.due > 0 else State.WAITING
    if found.place is not None:
        return State(found.place)
    return _BY_STATUS.get(str(data.get("status")), State.WAITING)


def present_state(found: Inspected) -> State | None:
    """Where the job stands; None when there is none."""
    if found.document is None:
        return None
    try:
        return state_of(found, decode(found.document))
    except Unreadable:
        return state_of(found, {})


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)


def _share(value: Any) -> float:
    return float(min(max(0, value), 1)) if isinstance(value, int | float) else 0.0  # in this order NaN is 0


def _seconds(milliseconds: Any) -> float | None:
    known = isinstance(milliseconds, int | float) and 0 < milliseconds < END_OF_TIME * 1000
    return milliseconds / 1000 if known else None


def _entry(raw: bytes) -> TimelineEntry:
    fields = loads(raw)
    return TimelineEntry(
        at=fields["at"],
        event=fields["event"],
        attempt=fields.get("attempt") or 0,
        delivery=fields.get("delivery") or 0,
        detail=fields.get("detail"),
    )
