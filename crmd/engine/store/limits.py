"""Limits as the scripts take them, and the names of their keys."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

from crmd.engine.durations import Rate
from crmd.engine.settings import QueueSettings

SAFETY_SHARE = 0.01
SAFETY_MAX_MS = 250
"""Limits count claims; on the way out the times vary. Windows are longer by this much."""
BURST_WINDOW_SHARE = 0.8
"""Share of one period after which a burst is over: its next start has to reach the outside inside the period."""
FREE_DEBT_SHARE = 0.1
"""Share of a burst that may be owed without a rest: quick replies to one person are a conversation, no burst."""
MAX_TEXT_BYTES = 128
"""Longer values of a limited field stand in keys by their hash."""


def rate_window(rate: Rate | None) -> tuple[int, int]:
    """A rolling limit as the scripts take it: starts, and period in ms with its safety margin; 0, 0 for none."""
    if rate is None:
        return 0, 0
    period_ms = rate.period_seconds * 1000
    return rate.count, round(_safe(period_ms))


def limits_json(settings: QueueSettings) -> str:
    """The keyed limits of a queue as _keyed_limits.lua takes them; empty without any."""
    limits = []
    for limit in settings.limits:
        period_ms = limit.period_seconds * 1000
        limits.append(
            {
                "by": limit.by,
                "id": _limit_id(limit.by, limit.rate),
                "period": _safe(period_ms),
                "window": period_ms * BURST_WINDOW_SHARE,
                "burst": limit.burst,
                "free_debt": math.floor(limit.burst * FREE_DEBT_SHARE),
            }
        )
    return json.dumps(limits) if limits else ""


def limit_keys(settings: QueueSettings, payload: Any) -> list[str]:
    """The limit keys of a payload, as _keyed_limits.lua names them; none where it has no field that is limited."""
    if not isinstance(payload, dict):
        return []
    texts = ((limit, _text(payload.get(limit.by))) for limit in settings.limits)
    return [f"{_limit_id(limit.by, limit.rate)}={text}" for limit, text in texts if text is not None]


def _safe(period_ms: float) -> float:
    return period_ms + min(period_ms * SAFETY_SHARE, SAFETY_MAX_MS)


def _limit_id(by: str, rate: Rate) -> str:
    return f"{by}@{rate}"


def _text(value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        text = value if isinstance(value, str) else f"{float(value):.17g}"
        raw = text.encode()
    except (OverflowError, UnicodeEncodeError):
        return None  # a number or a text that the store's JSON reader does not take either
    return text if len(raw) <= MAX_TEXT_BYTES else hashlib.sha1(raw, usedforsecurity=False).hexdigest()
