"""Writes `docs/reference/whatsapp-errors.md` from the error table."""

from __future__ import annotations

from collections.abc import Iterator

from crmd.crm.messages.policy import UNKNOWN_CODE_ATTEMPTS
from crmd.crm.outbound.adaptive_rate import BREAKER_FAILURES, MINUTE_WAIT, SERVICE_WAIT, Wait
from crmd.crm.whatsapp.errors import ROWS, SUBJECT_WAIT, ErrorClass, ErrorRow, Scope
from crmd.engine.durations import format_duration

_HEAD = f"""\
# WhatsApp error codes

What `send_message` does about each error of the WhatsApp Cloud API. The error's **code** decides, never the HTTP
status, which varies for the same code. Each failure is logged with the code, the subcode, the details and the
`fbtrace_id` that Meta's support asks for.

| class | meaning |
|---|---|
| R | Retried; costs an attempt. |
| P | The scope waits; costs no attempt. |
| P then X | One more attempt after a long time, then the job fails. |
| X | The job fails at once. |
| X+ | The job fails at once, and so would others to the same recipient (or country). |
| A | The scope stops until a person has dealt with the cause; costs no attempt. |

Each daemon keeps track of growing waits by itself, and forgets them when it restarts; what slows or pauses a queue
applies to all daemons. A growing wait is short again once as much time as its maximum has passed since it ended,
or, for the pair limit, after the next success. No wait is shorter than an answer's `Retry-After`.

## Without an error code

| what happened | the job |
|---|---|
| no connection: name not found, refused, TLS failed | R: nothing was sent; retried with the queue's backoff |
| no answer, connection lost, or HTTP 5xx or 408 without an error code | ends as unknown: it may have been sent |
| HTTP 200 without a message id, or an answer that breaks off | ends as unknown |
| HTTP 400, 413 or 422 that is not WhatsApp's (a proxy's) | X |
| HTTP 429 that is not WhatsApp's | P: the queue waits {{minute}} |
| any other HTTP status that is not WhatsApp's | A: the queue pauses; `whatsapp.base_url` points elsewhere |
| {BREAKER_FAILURES} failures in a row: no connection, no answer, service errors | P: the queue waits {{service}} |

WhatsApp does not recognise a repeated message, so a job whose answer was lost is never repeated automatically. Its
key goes with the message as `biz_opaque_callback_data`, and comes back in the status webhooks, which [settle the
job](../queues/message.md#unknown); if none comes, a person does.

## Codes

| code | meaning | class | scope | what crmd does | what you can do |
|---|---|---|---|---|---|
"""

_FOOT = f"""\
| any other | unknown to crmd | X | job | the job fails; where the answer has `is_transient`, retried, \
{UNKNOWN_CODE_ATTEMPTS} attempts in all; logged as an error | look the code up |
"""


def page() -> str:
    """The page as Markdown."""
    head = _HEAD.format(minute=_growth(MINUTE_WAIT), service=_growth(SERVICE_WAIT))
    return head + "".join(f"{line}\n" for line in _lines()) + _FOOT


def _lines() -> Iterator[str]:
    for row in ROWS:
        code = f"{row.code} to {row.last}" if row.last else str(row.code)
        yield f"| {code} | {row.meaning} | {row.kind} | {row.scope} | {_policy(row)} | {row.advice} |"


def _policy(row: ErrorRow) -> str:
    match row.kind:
        case ErrorClass.RETRY:
            when = f"after {_growth(row.wait)}" if row.wait else "with the queue's backoff"
            return f"retried {when}{_attempts(row)}"
        case ErrorClass.PARK:
            return _park(row)
        case ErrorClass.DEFER:
            return f"one more attempt, {_spread(row)} later; none for numbers in the US"
        case ErrorClass.PAUSE if row.scope in (Scope.TEMPLATE, Scope.FLOW):
            every = format_duration(SUBJECT_WAIT.first_seconds)
            return f"messages with this {row.scope} wait, retried every {every}"
        case ErrorClass.PAUSE:
            return "the queue pauses"
        case ErrorClass.PERMANENT | ErrorClass.SUPPRESS:
            return _failure(row)


def _park(row: ErrorRow) -> str:
    if row.scope is Scope.RATE:
        return f"the rate at which messages leave is halved, and recovers; this message waits {_growth(row.wait)}"
    who = {Scope.PAIR: "this recipient waits", Scope.TEMPLATE: "messages with this template wait"}
    alert = row.alert_after_seconds
    told = f"; logged as an error after {format_duration(alert)}" if alert else ""
    return f"{who.get(row.scope, 'the queue waits')} {_growth(row.wait)}{told}"


def _failure(row: ErrorRow) -> str:
    if row.if_transient:
        return f"the job fails; where the answer has `is_transient`, retried{_attempts(row)}"
    return f"retried{_attempts(row)}" if row.max_attempts else "the job fails"


def _attempts(row: ErrorRow) -> str:
    return f", {row.max_attempts} attempts in all" if row.max_attempts else ""


def _growth(wait: Wait | None) -> str:
    if wait is None:
        return ""
    first, longest = format_duration(wait.first_seconds), format_duration(wait.max_seconds)
    return first if first == longest else f"{first}, then {wait.factor:g} times as long each time, up to {longest}"


def _spread(row: ErrorRow) -> str:
    if row.wait is None:
        return ""
    return f"{row.wait.first_seconds / 3600:g} to {row.wait.max_seconds / 3600:g} hours"
