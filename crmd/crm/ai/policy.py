"""How a job ends when an AI service gave no answer."""

from __future__ import annotations

import random

from crmd.crm.ai.answers import Refused, Unclear
from crmd.crm.outbound.adaptive_rate import MINUTE_WAIT, AdaptiveRate
from crmd.crm.outbound.http import NotSent
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, Retry
from crmd.jobs import JobContext

Failure = Refused | Unclear | NotSent

_LIMIT = "limit of the AI service"
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "insufficient_credits"})
_PASSING = frozenset({408, 409, 425})
# Refusals of the one request, whoever words them.
_OF_REQUEST = frozenset({400, 413, 422})


def signal_for(failure: Failure, ctx: JobContext, rate: AdaptiveRate) -> JobSignal:
    """What the handler has to raise; notes in `rate` whether the service works."""
    if isinstance(failure, Refused):
        return _refused(failure, ctx, rate)
    if isinstance(failure, NotSent) and failure.forbidden:
        return PauseQueue(f"ai.base_url cannot be reached: {failure.reason}; correct it, {_resume(ctx)}")
    return _failed(f"no answer from the AI service: {failure.reason}", rate)


def _refused(refused: Refused, ctx: JobContext, rate: AdaptiveRate) -> JobSignal:
    said, status = str(refused), refused.status
    if status >= 500 or status in _PASSING:
        return _failed(said, rate, refused.retry_after_seconds)
    rate.answered()
    if status in (401, 403):
        return PauseQueue(f"{said}; check ai.key, {_resume(ctx)}")
    if status == 402 or (status == 429 and refused.code in _NO_CREDIT):
        return PauseQueue(f"{said}; see to the account's credit, {_resume(ctx)}")
    if status == 429:
        after = refused.retry_after_seconds
        return RateLimited(said, after=rate.park(_LIMIT, MINUTE_WAIT).seconds if after is None else after)
    if refused.is_of_api or status in _OF_REQUEST:
        return Permanent(said, code=refused.code or f"http_{status}")
    return PauseQueue(f"{said}; check ai.base_url and what stands before it, {_resume(ctx)}")


def _failed(reason: str, rate: AdaptiveRate, retry_after_seconds: float | None = None) -> JobSignal:
    stop_seconds = rate.failed()
    if stop_seconds:
        return RateLimited(reason, after=max(stop_seconds, retry_after_seconds or 0.0))
    # Never earlier than asked for, and a little apart, as many jobs may have been told the same.
    after = retry_after_seconds and retry_after_seconds * random.uniform(1.0, 1.1)
    return Retry(reason, after=after or None)


def _resume(ctx: JobContext) -> str:
    return f"then: crmd resume {ctx.queue}"
