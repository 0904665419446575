"""From a campaign's recipient to the message that it gets, or to the reason why it gets none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from crmd.crm.campaigns.payloads import Content
from crmd.crm.campaigns.recipients import Recipient, once_of
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.templating import templates
from crmd.crm.templating.errors import TemplateError
from crmd.errors import mistakes_in

OPTED_OUT = "the contact has opted out"
MARKETING_STOPPED = "the contact has stopped marketing messages"
REPEATED = "another number of the same person is a recipient"


@dataclass(slots=True)
class Filled:
    """What became of a page of recipients."""

    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Payloads of `send_message`, by the recipient's id."""
    skipped: dict[int, str] = field(default_factory=dict)
    """Why there is none, by the recipient's id. Texts of few kinds, without personal data."""


def fill(
    campaign_id: int, content: Content, recipients: Sequence[Recipient], category: str = "marketing"
) -> Filled:
    """Fills the content in for each recipient: some 50 µs each, so that a page of them belongs in a thread."""
    filled = Filled()
    for recipient in recipients:
        reason = _unwanted(recipient, category)
        if reason:
            filled.skipped[recipient.id] = reason
            continue
        try:
            filled.messages[recipient.id] = _message(campaign_id, content, recipient, category)
        except TemplateError as error:
            filled.skipped[recipient.id] = str(error)
        except ValidationError as error:
            filled.skipped[recipient.id] = _reason(error)
    return filled


def _unwanted(recipient: Recipient, category: str) -> str | None:
    person = recipient.person
    if person is not None and person.opted_out:
        return OPTED_OUT
    if person is not None and category == "marketing" and person.stopped_marketing:
        return MARKETING_STOPPED
    return REPEATED if recipient.repeats else None


def _message(campaign_id: int, content: Content, recipient: Recipient, category: str) -> dict[str, Any]:
    message = {
        **_filled(content.message, _variables(recipient)),
        "to": recipient.phone,
        "once": once_of(campaign_id, recipient.id),
        "campaign": campaign_id,
    }
    if category != "marketing":  # what a campaign's message is by itself: daemons of 0.1.0 do not know the field
        message["category"] = category
    SendMessage.model_validate(message)
    return message


def _variables(recipient: Recipient) -> dict[str, Any]:
    """The contact's, and above them the recipient's own."""
    contact = recipient.contact
    known = templates.contact_variables(contact, recipient.tags) if contact else {}
    own = {name: value for name, value in recipient.variables.items() if value is not None}
    return {**known, **own, "phone": recipient.phone}


def _filled(value: Any, variables: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return templates.render(value, variables)
    if isinstance(value, dict):
        return {name: _filled(item, variables) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, variables) for item in value]
    return value


def _reason(error: ValidationError) -> str:
    first = mistakes_in(error)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
