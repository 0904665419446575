"""The error answers of the Cloud API as Meta documents them: HTTP status, title and details of each code."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"


@dataclass(frozen=True, slots=True)
class MetaError:
    """One documented code."""

    http_status: int
    title: str
    details: str = ""


_MANY = "Message failed to send because there were too many messages sent from this phone number"
ERRORS: dict[int, MetaError] = {
    0: MetaError(401, "AuthException", "We were unable to authenticate the app user."),
    1: MetaError(400, "API Unknown", "Invalid request or possible server error."),
    2: MetaError(503, "API Service", "Temporary due to downtime or due to being overloaded."),
    3: MetaError(500, "API Method", "Capability or permissions issue."),
    4: MetaError(429, "API Too Many Calls", "The app has reached its API call rate limit."),
    10: MetaError(403, "Permission Denied", "Permission is either not granted or has been removed."),
    33: MetaError(400, "Parameter value is not valid", "The business phone number has been deleted."),
    100: MetaError(
        400, "Invalid parameter", "The request included one or more unsupported or misspelled parameters."
    ),
    190: MetaError(401, "Access token has expired", "Your access token has expired."),
    200: MetaError(403, "API Permission", "Permission is either not granted or has been removed."),
    368: MetaError(
        403,
        "Temporarily blocked for policies violations",
        "The account has been restricted for violating a policy.",
    ),
    80007: MetaError(429, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."),
    130403: MetaError(400, "User blocked by business", "The business has blocked this user."),
    130429: MetaError(429, "Rate limit hit", f"{_MANY} in a short period of time"),
    130472: MetaError(
        400,
        "User's number is part of an experiment",
        "Failed to send message because this user's phone number is part of an experiment",
    ),
    130497: MetaError(
        403,
        "Business account is restricted from messaging users in this country.",
        "The account is restricted from messaging users in certain countries.",
    ),
    131000: MetaError(500, "Something went wrong", "Message failed to send due to an unknown error."),
    131005: MetaError(403, "Access denied", "Permission is either not granted or has been removed."),
    131008: MetaError(400, "Required parameter is missing"),
    131009: MetaError(400, "Parameter value is not valid"),
    131016: MetaError(500, "Service unavailable", "A service is temporarily unavailable."),
    131021: MetaError(400, "Recipient cannot be sender", "Sender and recipient phone number is the same."),
    131026: MetaError(400, "Message undeliverable", "Message Undeliverable."),
    131030: MetaError(
        400,
        "Recipient phone number not in allowed list",
        "Recipient phone number not in allowed list: Add recipient phone number to recipient list and try again.",
    ),
    131031: MetaError(403, "Business Account locked", "The account has been locked."),
    131037: MetaError(
        400,
        "WhatsApp provided number needs display name approval before message can be sent.",
        "The number does not have an approved display name.",
    ),
    131042: MetaError(
        400, "Business eligibility payment issue", "There were one or more errors related to your payment method."
    ),
    131045: MetaError(
        500, "Incorrect certificate", "Message failed to send due to a phone number registration error."
    ),
    131047: MetaError(
        400,
        "Re-engagement message",
        "Message failed to send because more than 24 hours have passed since the customer last replied to this "
        "number.",
    ),
    131048: MetaError(
        429,
        "Spam rate limit hit",
        "Message failed to send because there are restrictions on how many messages can be sent from this phone "
        "number. This may be because too many previous messages were blocked or flagged as spam.",
    ),
    131049: MetaError(
        400,
        "This message was not delivered to maintain healthy ecosystem engagement.",
        "In order to maintain a healthy ecosystem engagement, the message failed to be delivered.",
    ),
    131050: MetaError(
        400,
        "Unable to deliver the message. This recipient has chosen to stop receiving marketing messages on "
        "WhatsApp from your business",
        "The recipient has stopped marketing messages from this business.",
    ),
    131051: MetaError(400, "Unsupported message type", "Unsupported message type."),
    131052: MetaError(400, "Media download error", "Unable to download the media sent by the user."),
    131053: MetaError(400, "Media upload error", "Unable to upload the media used in the message."),
    131055: MetaError(400, "Method not allowed", "The method is not allowed for this message."),
    131056: MetaError(
        429,
        "(Business Account, Consumer Account) pair rate limit hit",
        f"{_MANY} to the same phone number in a short period of time.",
    ),
    131057: MetaError(500, "Account in maintenance mode", "Business Account is in maintenance mode"),
    131063: MetaError(400, "Marketing templates disabled", "Marketing templates cannot be sent by this API."),
    131064: MetaError(
        400, "Limit reached by misclassified templates", "The account is limited until it is lifted."
    ),
    132000: MetaError(
        400,
        "Template Param Count Mismatch",
        "The number of variable parameter values included in the request did not match the number of variable "
        "parameters defined in the template",
    ),
    132001: MetaError(404, "Template does not exist", "The template does not exist in the translation"),
    132005: MetaError(400, "Template Hydrated Text Too Long", "Translated text is too long."),
    132007: MetaError(
        400, "Template Format Character Policy Violated", "Template content violates a WhatsApp policy."
    ),
    132012: MetaError(
        400, "Template Parameter Format Mismatch", "Variable parameter values formatted incorrectly."
    ),
    132015: MetaError(400, "Template is Paused", "Template is paused due to low quality."),
    132016: MetaError(400, "Template is Disabled", "Template has been paused too many times and is now disabled."),
    132018: MetaError(
        400, "Template parameters invalid", "There was an issue with the parameters in your template."
    ),
    132068: MetaError(400, "Flow is in blocked state", "Flow is in blocked state."),
    132069: MetaError(
        400, "Flow is in throttled state", "Flow is in throttled state: 10 messages in the last hour."
    ),
    133004: MetaError(503, "Server Temporarily Unavailable", "Server is temporarily unavailable."),
    133005: MetaError(400, "Two step verification PIN Mismatch", "Two-step verification PIN incorrect."),
    133006: MetaError(400, "Phone number re-verification needed", "Phone number needs to be verified."),
    133008: MetaError(400, "Too Many two step verification PIN Guesses", "Too many two-step PIN guesses."),
    133009: MetaError(400, "Two step verification PIN Guessed Too Fast", "Two-step PIN was entered too quickly."),
    133010: MetaError(400, "Phone number Not Registered", "Phone number not registered on the platform."),
    133015: MetaError(
        400,
        "Please wait a few minutes before attempting to register this phone number",
        "The number was recently deleted, and deletion has not yet completed.",
    ),
    133016: MetaError(
        429,
        "Account register deregister rate limit exceeded",
        "There were too many attempts for this phone number.",
    ),
    134011: MetaError(400, "WhatsApp Payments terms of service not accepted", "The terms have not been accepted."),
    134101: MetaError(400, "Template is syncing", "The template is being synced; try again in ten minutes."),
    135000: MetaError(
        400, "Generic user error", "Message failed to send because of an unknown error with the request."
    ),
}
_UNDOCUMENTED = MetaError(400, "An unknown error occurred")


def error_of(code: int) -> MetaError:
    """What is documented of a code; undocumented ones are a plain 400."""
    return ERRORS.get(code, ERRORS[200] if 200 <= code <= 299 else _UNDOCUMENTED)


def error_body(code: int, details: str = "", *, subcode: int | None = None) -> dict[str, Any]:
    """The body of an error answer."""
    known = error_of(code)
    error: dict[str, Any] = {
        "message": f"(#{code}) {known.title}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": details or known.details or known.title},
        "fbtrace_id": f"A{secrets.token_urlsafe(16)}",
    }
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"error": error}


def status_error(code: int, details: str = "") -> dict[str, Any]:
    """The error inside a status webhook."""
    known = error_of(code)
    return {
        "code": code,
        "title": known.title,
        "message": known.title,
        "error_data": {"details": details or known.details or known.title},
        "href": HREF,
    }
