"""How long a server asks us to wait."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from crmd.crm.outbound.http import Answer

MAX_RETRY_AFTER_SECONDS = 3600.0


def retry_after_seconds(answer: Answer, now: float) -> float | None:
    """What `Retry-After` asks for, in seconds or as a date; at most MAX_RETRY_AFTER_SECONDS, None without it.

    `now` is epoch seconds.
    """
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return min(float(text[:9]), MAX_RETRY_AFTER_SECONDS)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(at.timestamp() - now, 0.0), MAX_RETRY_AFTER_SECONDS)
