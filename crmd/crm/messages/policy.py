"""How a job ends when WhatsApp did not accept the message: the error table turned into an outcome."""

from __future__ import annotations

import random

from crmd.crm.messages.payloads import SendMessage
from crmd.crm.outbound.adaptive_rate import MINUTE_WAIT, AdaptiveRate, Wait
from crmd.crm.outbound.http import NotSent
from crmd.crm.whatsapp.client import Foreign, Refused, Unclear
from crmd.crm.whatsapp.errors import SUBJECT_WAIT, ErrorClass, ErrorRow, Scope
from crmd.errors import JobSignal, OutcomeUnknown, PauseQueue, Permanent, RateLimited, Retry, Snooze
from crmd.jobs import JobContext

UNKNOWN_CODE_ATTEMPTS = 3
"""In all, of a job that gets an error which crmd does not know and WhatsApp calls transient."""

# HTTP statuses that speak of the one request, where something else than WhatsApp gives them.
_REQUEST_REFUSED = frozenset({400, 413, 422})

# Area codes of country code 1 outside the United States and its territories: Canada and the Caribbean.
# A code missing here only costs the job its second attempt after a marketing cap.
# fmt: off
_OTHER_AREAS = frozenset({
    204, 226, 236, 242, 246, 249, 250, 257, 263, 264, 268, 284, 289, 306, 343, 345, 354, 365, 367, 368, 382,
    403, 416, 418, 428, 431, 437, 438, 441, 450, 468, 473, 474, 506, 514, 519, 548, 579, 581, 584, 587, 600,
    604, 613, 639, 647, 649, 658, 664, 672, 683, 705, 709, 721, 742, 753, 758, 767, 778, 780, 782, 784, 807,
    809, 819, 825, 829, 849, 867, 868, 869, 873, 876, 879, 902, 905, 942,
})
# fmt: on

Failure = Refused | NotSent | Unclear | Foreign


def signal_for(failure: Failure, ctx: JobContext, message: SendMessage, rate: AdaptiveRate) -> JobSignal:
    """What the handler has to raise; remembers in `rate` what the failure means for later messages."""
    if isinstance(failure, Refused):
        return _not_before(failure.retry_after_seconds, _Refusal(failure, ctx, message, rate).signal())
    if isinstance(failure, Foreign):
        return _not_before(failure.retry_after_seconds, _foreign(failure, ctx, rate))
    stop_seconds = rate.failed()
    if isinstance(failure, Unclear):
        return OutcomeUnknown(
            f"WhatsApp may have taken the message: {failure.reason}; look for its status, or ask"
        )
    if failure.forbidden:
        return PauseQueue(f"whatsapp.base_url cannot be reached: {failure.reason}; correct it, {_resume(ctx)}")
    reason = f"WhatsApp was not reached, nothing was sent: {failure.reason}"
    return RateLimited(reason, after=stop_seconds) if stop_seconds else Retry(reason)


class _Refusal:
    """WhatsApp's own error, and all that its policy depends on."""

    def __init__(self, error: Refused, ctx: JobContext, message: SendMessage, rate: AdaptiveRate) -> None:
        self._error = error
        self._ctx = ctx
        self._message = message
        self._rate = rate

    def signal(self) -> JobSignal:
        row = self._error.row
        if row is None or row.scope is not Scope.SERVICE:
            self._rate.answered()
        if row is None:
            self._log(urgent=True)
            if self._error.transient:
                return Retry(f"{self._error}; WhatsApp says that it will pass", max_attempts=UNKNOWN_CODE_ATTEMPTS)
            return self._permanent()
        self._log(urgent=row.kind is ErrorClass.PAUSE)
        match row.kind:
            case ErrorClass.RETRY:
                return self._retry(row)
            case ErrorClass.PARK:
                return self._park(row)
            case ErrorClass.DEFER:
                return self._defer(row)
            case ErrorClass.PAUSE:
                return self._pause(row)
            case ErrorClass.PERMANENT | ErrorClass.SUPPRESS:
                return self._fail(row)

    def _retry(self, row: ErrorRow) -> JobSignal:
        if row.scope is Scope.SERVICE:
            stop_seconds = self._rate.failed()
            if stop_seconds:
                return RateLimited(str(self._error), after=stop_seconds)
        after = _spread(row.wait, self._ctx.attempt - 1) if row.wait else None
        return Retry(str(self._error), after=after, max_attempts=row.max_attempts)

    def _park(self, row: ErrorRow) -> JobSignal:
        if row.scope is Scope.RATE:
            wait = row.wait or MINUTE_WAIT
            after = random.uniform(wait.first_seconds, 2 * wait.first_seconds)
            return RateLimited(str(self._error), after=after, scope="key")
        name = self._name(row.scope)
        park = self._rate.park(name, row.wait or MINUTE_WAIT)
        lasted_seconds = park.until - park.first_at
        if row.alert_after_seconds and lasted_seconds > row.alert_after_seconds:
            self._ctx.log.error("%s has waited %.0f s for: %s", name, lasted_seconds, row.meaning)
        if row.scope is Scope.TEMPLATE:
            return Snooze(str(self._error), after=park.seconds)
        return RateLimited(
            str(self._error), after=park.seconds, scope="key" if row.scope is Scope.PAIR else "queue"
        )

    def _defer(self, row: ErrorRow) -> JobSignal:
        later = self._ctx.attempt < (row.max_attempts or 1)
        if row.wait is None or not later or (row.not_in_us and is_us_number(self._message.digits)):
            return self._permanent(row)
        # Snooze would leave no trace of the first refusal, and the job would come back for ever.
        after = random.uniform(row.wait.first_seconds, row.wait.max_seconds)
        return Retry(str(self._error), after=after, max_attempts=row.max_attempts)

    def _pause(self, row: ErrorRow) -> JobSignal:
        if row.scope in (Scope.TEMPLATE, Scope.FLOW):
            park = self._rate.park(self._name(row.scope), SUBJECT_WAIT)
            return Snooze(f"{self._error}; {row.advice}; until then its messages wait", after=park.seconds)
        return PauseQueue(f"{self._error}; {row.advice}, {_resume(self._ctx)}")

    def _fail(self, row: ErrorRow) -> JobSignal:
        if row.max_attempts and (self._error.transient or not row.if_transient):
            return Retry(str(self._error), max_attempts=row.max_attempts)
        return self._permanent(row)

    def _permanent(self, row: ErrorRow | None = None) -> Permanent:
        advice = f"; {row.advice}" if row and row.advice else ""
        return Permanent(f"{self._error}{advice}", code=str(self._error.code))

    def _name(self, scope: Scope) -> str:
        """The name under which the scope waits."""
        if scope is Scope.PAIR:
            return self._message.digits
        if scope in (Scope.TEMPLATE, Scope.FLOW):
            return self._message.subject or f"{scope} of job {self._ctx.key}"
        return f"{scope}, error {self._error.code}"

    def _log(self, *, urgent: bool) -> None:
        error = self._error
        log = self._ctx.log.error if urgent else self._ctx.log.warning
        fields = {
            "code": error.code,
            "subcode": error.subcode,
            "details": error.details,
            "fbtrace_id": error.trace_id,
            "http_status": error.http_status,
        }
        log("%s", error, extra={"fields": fields})


def is_us_number(digits: str) -> bool:
    """Whether a number is one of the United States or its territories, by its area code."""
    return digits.startswith("1") and int(digits[1:4]) not in _OTHER_AREAS


def _not_before(seconds: float | None, signal: JobSignal) -> JobSignal:
    """The signal with a wait of at least this long, if it has one; spread a little, as many are told the same."""
    if not seconds:
        return signal
    least = seconds * random.uniform(1.0, 1.1)
    if isinstance(signal, Retry) and signal.after is None:
        signal.at_least = least
    elif isinstance(signal, Retry | Snooze | RateLimited):
        signal.after = max(signal.after or 0.0, least)
    return signal


def _foreign(answer: Foreign, ctx: JobContext, rate: AdaptiveRate) -> JobSignal:
    reason = f"HTTP {answer.status} that is not WhatsApp's: {answer.snippet}"
    if answer.status in _REQUEST_REFUSED:
        return Permanent(reason, code=f"http_{answer.status}")
    if answer.status == 429:
        return RateLimited(reason, after=rate.park("HTTP 429", MINUTE_WAIT).seconds)
    return PauseQueue(f"{reason}; check whatsapp.base_url and what stands before it, {_resume(ctx)}")


def _resume(ctx: JobContext) -> str:
    return f"then: crmd resume {ctx.queue}"


def _spread(wait: Wait, count: int) -> float:
    """A growing wait with equal jitter, so that many jobs do not come back at once; a fixed one as it is."""
    seconds = wait.nth(count)
    return seconds / 2 + random.uniform(0, seconds / 2) if wait.factor > 1 else seconds
