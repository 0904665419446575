"""Recognises jobs in Bull's form, and shows how to write them for crmd."""

from __future__ import annotations

from typing import Any

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


ADVICE = (
    "this is Bull's form; here a job is {job, payload, delay, at, priority, key, unique_for}. Attempts, backoff, "
    "timeout and what is kept are the queue's settings"
)
