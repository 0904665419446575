"""How a job ends when the mail server did not take the mail."""

from __future__ import annotations

import random

from crmd.crm.email.smtp_outcomes import NotTaken, Refused, Unclear, Unusable
from crmd.crm.outbound.adaptive_rate import AdaptiveRate, Wait
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, Retry
from crmd.jobs import JobContext

LATER_WAIT = Wait(60, 2, 1800)
"""After a 4xx answer: servers that have unknown senders come again (greylisting) mean minutes, not seconds."""


Failure = Refused | Unusable | NotTaken | Unclear


def signal_for(outcome: Failure, ctx: JobContext, rate: AdaptiveRate) -> JobSignal:
    """What the handler has to raise; notes in `rate` whether the server works."""
    if isinstance(outcome, Refused):
        rate.answered()
        if not outcome.passing:
            return Permanent(str(outcome), code=str(outcome.code))
        return Retry(str(outcome), after=_spread(LATER_WAIT.nth(ctx.attempt - 1)))
    if isinstance(outcome, Unusable):
        return PauseQueue(f"{outcome.reason}; correct [smtp], then: crmd resume {ctx.queue}")
    return _not_answered(outcome, rate)


def _not_answered(outcome: NotTaken | Unclear, rate: AdaptiveRate) -> JobSignal:
    stop_seconds = rate.failed()
    if isinstance(outcome, Unclear):
        # A second copy, with the same Message-ID, is recognised; a mail that never came is not.
        return Retry(f"the mail may have been taken, its answer was lost: {outcome.reason}; it is sent once more")
    reason = f"the mail was not sent: {outcome.reason}"
    return RateLimited(reason, after=stop_seconds) if stop_seconds else Retry(reason)


def _spread(seconds: float) -> float:
    """With equal jitter, so that many mails do not come back at once."""
    return seconds / 2 + random.uniform(0, seconds / 2)
