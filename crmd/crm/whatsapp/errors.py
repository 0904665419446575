"""The error codes of the WhatsApp Cloud API, and what crmd does about each: data, read by the message handler."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from crmd.crm.outbound.adaptive_rate import MINUTE_WAIT, SERVICE_WAIT, Wait


class ErrorClass(StrEnum):
    """What kind of end an error code means for the job."""

    RETRY = "R"
    """Try again; costs an attempt."""
    PARK = "P"
    """The scope waits; costs no attempt."""
    DEFER = "P then X"
    """One more attempt after a long time, then none."""
    PERMANENT = "X"
    """The job fails."""
    SUPPRESS = "X+"
    """The job fails, and so would all others to this recipient."""
    PAUSE = "A"
    """The scope stops until a person has dealt with the cause."""


class Scope(StrEnum):
    """What an error holds for, beyond the one job."""

    JOB = "job"
    PAIR = "number and recipient"
    RECIPIENT = "recipient"
    TEMPLATE = "template"
    FLOW = "flow"
    NUMBER = "phone number"
    RATE = "rate of the phone number"
    ACCOUNT = "account"
    COUNTRY = "account and country"
    APP = "app"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One error code and its policy."""

    code: int
    meaning: str
    kind: ErrorClass
    scope: Scope
    advice: str = ""
    """What a person can do."""
    last: int | None = None
    """The last code of a range that begins at `code`."""
    wait: Wait | None = None
    """How long to wait; None is the queue's backoff."""
    max_attempts: int | None = None
    """Attempts in all that this error allows the job; None is the queue's number."""
    if_transient: bool = False
    """`max_attempts` holds only where the answer says `is_transient`; else the job fails."""
    not_in_us: bool = False
    """No further attempt for recipients in the United States."""
    alert_after_seconds: float | None = None
    """Logged as an error once it has lasted this long."""


R, P, X, XPLUS, A = (
    ErrorClass.RETRY,
    ErrorClass.PARK,
    ErrorClass.PERMANENT,
    ErrorClass.SUPPRESS,
    ErrorClass.PAUSE,
)

USER_STOPPED_MARKETING = "131050"
"""Of an answer or a status: the recipient wants no marketing from this business."""
THROUGHPUT_REACHED = 130429

HOUR_SECONDS = 3600.0
PAIR_WAIT = Wait(1, 4, 4.0**5)  # Meta: 4^X seconds, X from 0
# Of the one message: the number's rate is halved, which lets all others go on.
THROUGHPUT_WAIT = Wait(1, 1, 1)
# A template or flow is tried again now and then, as only Meta's answer tells that a person has freed it.
SUBJECT_WAIT = Wait(HOUR_SECONDS, 1, HOUR_SECONDS)
DAY_WAIT = Wait(24 * HOUR_SECONDS, 2, 48 * HOUR_SECONDS)

_NEW_TOKEN = "put a valid token into whatsapp.token"  # noqa: S105 - advice, not a secret
_PERMISSION = "give the token's app the permission whatsapp_business_messaging for this account"
_REGISTER = "register and verify the phone number again, or change whatsapp.phone_number_id"
_PAYLOAD = "correct the payload"
_PARAMETERS = "send the parameters that the template asks for"
_PIN = "read the details for the wait; only an operator can set the two-step PIN"

ROWS: tuple[ErrorRow, ...] = (
    ErrorRow(0, "token invalid or expired", A, Scope.TOKEN, _NEW_TOKEN),
    ErrorRow(1, "invalid request or server error", R, Scope.JOB, max_attempts=3),
    ErrorRow(2, "service down", R, Scope.SERVICE, wait=SERVICE_WAIT),
    ErrorRow(3, "permission missing", A, Scope.APP, _PERMISSION),
    ErrorRow(4, "app call-rate limit", P, Scope.APP, wait=MINUTE_WAIT),
    ErrorRow(10, "permission missing or removed", A, Scope.APP, _PERMISSION),
    ErrorRow(33, "number deleted", A, Scope.NUMBER, _REGISTER),
    ErrorRow(100, "invalid parameter", X, Scope.JOB, _PAYLOAD),
    ErrorRow(190, "token invalid or expired", A, Scope.TOKEN, _NEW_TOKEN),
    ErrorRow(200, "permission missing or removed", A, Scope.APP, _PERMISSION, last=299),
    ErrorRow(
        368, "account restricted for policy", A, Scope.ACCOUNT, "follow Meta's notice in the account quality page"
    ),
    ErrorRow(80007, "account rate limit", P, Scope.ACCOUNT, wait=MINUTE_WAIT),
    ErrorRow(130403, "this business blocked the user", XPLUS, Scope.RECIPIENT, "unblock the user first"),
    ErrorRow(THROUGHPUT_REACHED, "throughput of the number reached", P, Scope.RATE, wait=THROUGHPUT_WAIT),
    ErrorRow(130472, "withheld as part of an experiment", X, Scope.JOB),
    ErrorRow(130497, "restricted from messaging this country", XPLUS, Scope.COUNTRY, "leave that country out"),
    ErrorRow(131000, "unknown error", R, Scope.JOB, max_attempts=3),
    ErrorRow(131005, "permission missing or removed", A, Scope.TOKEN, _PERMISSION),
    ErrorRow(131008, "parameter missing", X, Scope.JOB, _PAYLOAD),
    ErrorRow(131009, "parameter value not valid", X, Scope.JOB, _PAYLOAD),
    ErrorRow(131016, "service overloaded", R, Scope.SERVICE, wait=SERVICE_WAIT),
    ErrorRow(131021, "sender equals recipient", X, Scope.JOB, _PAYLOAD),
    ErrorRow(131026, "undeliverable", XPLUS, Scope.RECIPIENT, "reach the recipient by another channel"),
    ErrorRow(131030, "recipient not on the test number's list", X, Scope.JOB, "add the recipient to that list"),
    ErrorRow(131031, "account locked", A, Scope.ACCOUNT, "ask the health status API, and unlock the account"),
    ErrorRow(131037, "display name not approved", A, Scope.NUMBER, "have the display name approved"),
    ErrorRow(131042, "payment problem", A, Scope.ACCOUNT, "set the account's payment right"),
    ErrorRow(131045, "number not registered", A, Scope.NUMBER, _REGISTER),
    ErrorRow(131047, "more than 24 h since the recipient's last message", X, Scope.JOB, "send a template instead"),
    ErrorRow(
        131048, "spam restriction on the number", A, Scope.NUMBER, "check the number's quality, stop marketing"
    ),
    ErrorRow(
        131049,
        "marketing cap of the recipient",
        ErrorClass.DEFER,
        Scope.RECIPIENT,
        "send this recipient less marketing",
        wait=DAY_WAIT,
        max_attempts=2,
        not_in_us=True,
    ),
    ErrorRow(131050, "user stopped marketing", XPLUS, Scope.RECIPIENT, "take the recipient off marketing"),
    ErrorRow(131051, "message type not supported", X, Scope.JOB, _PAYLOAD),
    ErrorRow(131052, "inbound media could not be downloaded", X, Scope.JOB),
    ErrorRow(
        131053,
        "media could not be fetched",
        X,
        Scope.JOB,
        "check that the link answers",
        max_attempts=2,
        if_transient=True,
    ),
    ErrorRow(131055, "method not allowed", X, Scope.JOB, _PAYLOAD),
    ErrorRow(131056, "pair limit", P, Scope.PAIR, wait=PAIR_WAIT),
    ErrorRow(
        131057,
        "maintenance or throughput upgrade",
        P,
        Scope.NUMBER,
        wait=Wait(60, 1, 60),
        alert_after_seconds=300,
    ),
    ErrorRow(131063, "marketing templates disabled", A, Scope.ACCOUNT, "enable them, or leave marketing out"),
    ErrorRow(131064, "limit through template misclassification", A, Scope.ACCOUNT, "wait for Meta to lift it"),
    ErrorRow(132000, "number of template parameters wrong", X, Scope.JOB, _PARAMETERS),
    ErrorRow(132001, "template missing or not approved", X, Scope.TEMPLATE, "have it approved in that language"),
    ErrorRow(132005, "template text too long", X, Scope.JOB, _PARAMETERS),
    ErrorRow(132007, "template violates policy", X, Scope.TEMPLATE, "change the template"),
    ErrorRow(132012, "format of template parameters wrong", X, Scope.JOB, _PARAMETERS),
    ErrorRow(132015, "template paused for quality", A, Scope.TEMPLATE, "edit the template, or lift its pause"),
    ErrorRow(132016, "template disabled for good", X, Scope.TEMPLATE, "make a new template"),
    ErrorRow(132018, "template parameters not valid", X, Scope.JOB, _PARAMETERS),
    ErrorRow(132068, "flow blocked", A, Scope.FLOW, "correct the flow"),
    ErrorRow(132069, "flow throttled", A, Scope.FLOW, "correct the flow; 10 an hour pass"),
    ErrorRow(133004, "server temporarily away", R, Scope.SERVICE, wait=SERVICE_WAIT),
    ErrorRow(133005, "two-step PIN wrong", X, Scope.NUMBER, _PIN),
    ErrorRow(133006, "number not verified", A, Scope.NUMBER, _REGISTER),
    ErrorRow(133008, "two-step PIN wrong too often", X, Scope.NUMBER, _PIN),
    ErrorRow(133009, "two-step PIN entered too fast", X, Scope.NUMBER, _PIN),
    ErrorRow(133010, "number not registered", A, Scope.NUMBER, _REGISTER),
    ErrorRow(133015, "number just deleted", R, Scope.NUMBER, wait=Wait(300, 1, 300), max_attempts=2),
    ErrorRow(133016, "too many registrations", A, Scope.NUMBER, "wait 72 hours, then register once"),
    ErrorRow(134011, "payments terms not accepted", A, Scope.ACCOUNT, "accept the payments terms"),
    ErrorRow(134101, "template still syncing", P, Scope.TEMPLATE, wait=Wait(600, 1, 600)),
    ErrorRow(135000, "unknown error with the parameters", X, Scope.JOB, _PAYLOAD, max_attempts=2),
)


def find_row(code: int) -> ErrorRow | None:
    """The row of a code, ranges included; None for a code nobody described. Never guessed by neighbours."""
    for row in ROWS:
        if row.code <= code <= (row.last or row.code):
            return row
    return None
