"""When a failed attempt is retried."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from crmd.engine.settings import Backoff

LONGEST_WAIT_S = 86_400.0 * 30
"""Bounds what a foreign job or an outside service may ask for."""


def backoff_seconds(backoff: Backoff, attempt: int, draw: Callable[[], float] = random.random) -> float:
    """Seconds to wait after the given attempt, from 1: exponential with equal jitter, capped.

    Half of the wait is certain, so that retries never come at once; half is drawn, so that they spread.
    """
    exponent = min(attempt - 1, 62)
    full = min(backoff.max_seconds, backoff.base_seconds * 2.0**exponent)
    return full / 2 + draw() * full / 2


def retry_delay(
    data: Mapping[str, Any],
    backoff: Backoff,
    attempt: int,
    after: float | None,
    draw: Callable[[], float] = random.random,
) -> float:
    """Seconds until the next attempt: as the error asked, else as the job says, else the queue's backoff."""
    if after is not None:
        return min(max(0.0, after), LONGEST_WAIT_S)  # in this order NaN is 0
    if "retry_delay" not in data and "retry_backoff" not in data:
        return backoff_seconds(backoff, attempt, draw)
    base = _number(data.get("retry_delay"))
    growth = data.get("retry_backoff")
    if growth is None or growth is False:
        return min(base, LONGEST_WAIT_S)
    cap = LONGEST_WAIT_S if growth is True else min(_number(growth), LONGEST_WAIT_S)
    return backoff_seconds(Backoff(base, cap), attempt, draw)


def _number(value: Any) -> float:
    return float(min(max(0, value), LONGEST_WAIT_S)) if isinstance(value, int | float) else 0.0
