"""How a job ends when the mail server did not take the mail."""

from __future__ import annotations

import random

from crmd.crm.email.smtp_outcomes import NotTaken, Refused, Unclear, Unusable
from crmd.crm.outbound.adaptive_rate import Pace, Wait
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, Retry
from crmd.jobs import JobContext

LATER_WAIT = Wait(60, 2, 1800)
"""After a 4xx answer: servers that have unknown senders come again (greylisting) mean minutes, not seconds."""


Failure = Refused | Unusable | NotTaken | Unclear


def ending(outcome: Failure, ctx: JobContext, pace: Pace) -> JobSignal:
    """What the handler has to raise; notes in `pace` whether the server works."""
    if isinstance(outcome, Refused):
        pace.answered()
        if not outcome.passing:
            return Permanent(str(outcome), code=str(outcome.code))
        return Retry(str(outcome), after=_spread(LATER_WAIT.nth(ctx.attempt - 1)))
    if isinstance(outcome, Unusable):
        return PauseQueue(f"{outcome.reason}; correct [smtp], then: crmd resume {ctx.queue}")
    return _lost(outcome, pace)


def _lost(outcome: NotTaken | Unclear, pace: Pace) -> JobSignal:
    stop_seconds = pace.failed()
    if isinstance(outcome, Unclear):
        # A second copy, with the same Message-ID, is recognised; a mail that never came is not.
        return Retry(f"the mail may have been taken, its answer was lost: {outcome.reason}; it is sent once more")
    reason = f"the mail was not sent: {outcome.reason}"
    return RateLimited(reason, after=stop_seconds) if stop_seconds else Retry(reason)


def _spread(seconds: float) -> float:
    """With equal jitter, so that many mails do not come back at once."""
    return seconds / 2 + random.uniform(0, seconds / 2)
