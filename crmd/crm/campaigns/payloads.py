"""The payload of `run_campaign`."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_validator

from crmd.crm.contacts.filters import ContactFilter
from crmd.crm.contacts.phones import check_region
from crmd.crm.payload import NotBlank, Payload, checked_by, invalid
from crmd.crm.templating import templates
from crmd.crm.templating.errors import TemplateError
from crmd.crm.whatsapp.content import Template, Text
from crmd.engine.durations import Rate, parse_duration

MAX_INLINE = 1_000
MAX_CANARY = 10_000
MAX_VARIABLES = 100
MAX_WAIT_SECONDS = 7 * 86_400.0


def _check_wait(text: str) -> None:
    seconds = parse_duration(text)
    if seconds is None or not 0 < seconds <= MAX_WAIT_SECONDS:
        raise ValueError(f'{text!r} is not between "1ms" and "7d"')


class InlineRecipient(Payload):
    """A recipient that the payload itself names."""

    phone: Annotated[NotBlank, Field(max_length=64, description="Phone number; see `default_region`.")]
    variables: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=100)], JsonValue],
        Field(max_length=MAX_VARIABLES, description="The recipient's own values; they override the contact's."),
    ] = Field(default_factory=dict)


class Audience(Payload):
    """Whom a campaign goes to: exactly one of the three."""

    filter: Annotated[
        ContactFilter | None,
        Field(description="Contacts by tags, attributes and dates; `{}` is all of them."),
    ] = None
    file: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="Id of an uploaded CSV, XLSX or JSON Lines file with a phone column; its other columns "
            "are variables.",
        ),
    ] = None
    recipients: Annotated[
        list[InlineRecipient] | None,
        Field(min_length=1, max_length=MAX_INLINE, description="Up to 1,000 recipients in the payload itself."),
    ] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum(given is not None for given in (self.filter, self.file, self.recipients)) != 1:
            raise invalid("give exactly one of filter, file and recipients")
        return self


class Content(Payload):
    """What is sent: a template or a text, with variables such as `{{ name }}`."""

    model_config = ConfigDict(ignored_types=(cached_property,))

    text: Annotated[
        Text | None,
        Field(description="A text; WhatsApp delivers it only within 24 hours of the contact's last message."),
    ] = None
    template: Annotated[
        Template | None,
        Field(description="An approved template; its components' parameters may contain variables."),
    ] = None

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        if (self.text is None) == (self.template is None):
            raise invalid("give exactly one of text and template")
        for where, text in templates.texts_in(self.message):
            try:
                templates.check(text)
            except TemplateError as error:
                raise invalid(f"{where}: {error}") from None
        return self

    @cached_property
    def message(self) -> dict[str, Any]:
        """The fields of `send_message` that are the content, variables not filled in."""
        if self.template is not None:
            return {"type": "template", "template": self.template.model_dump(mode="json", exclude_none=True)}
        return {"type": "text", "text": self.text.model_dump(mode="json", exclude_none=True) if self.text else {}}

    @property
    def variables(self) -> frozenset[str]:
        """The names of all variables that occur."""
        return frozenset().union(*(templates.names(text) for _, text in templates.texts_in(self.message)))


class Canary(Payload):
    """Sends to the first few, and to the others only if those go well."""

    count: Annotated[int, Field(ge=1, le=MAX_CANARY, description="How many to send first.")]
    max_failure_share: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            allow_inf_nan=False,
            description="The campaign stops when a larger share of these fails: 0.1 is a tenth.",
        ),
    ]
    wait: Annotated[
        str,
        checked_by(_check_wait),
        Field(description="How long to wait for their delivery, such as `10m`; then what is known counts."),
    ] = "10m"

    @property
    def wait_seconds(self) -> float:
        """`wait` in seconds."""
        return parse_duration(self.wait) or 0.0


class RunCampaign(Payload):
    """One message to many contacts, each of whom gets it once."""

    CHECK_IN_THREAD = True  # its templates are compiled

    name: Annotated[
        NotBlank,
        Field(
            max_length=200,
            description="Unique: a second job with the same name and definition continues the campaign.",
        ),
    ]
    audience: Annotated[Audience, Field(description="Who it goes to.")]
    content: Annotated[Content, Field(description="What is sent.")]
    category: Annotated[
        Literal["marketing", "utility"],
        Field(
            description="What it is for. Marketing is not sent to people who have stopped marketing in WhatsApp."
        ),
    ] = "marketing"
    default_region: Annotated[
        Annotated[str, checked_by(check_region)] | None,
        Field(description="Country of numbers without a country code, such as `DE`; without it they are skipped."),
    ] = None
    canary: Annotated[Canary | None, Field(description="Sends to a few first, before the others.")] = None
    rate: Annotated[
        Annotated[str, checked_by(Rate.parse)] | None,
        Field(description="Limits this campaign's messages, such as `100/min`, within the queue's own limit."),
    ] = None
    message_priority: Annotated[
        int, Field(ge=0, le=10, description="Priority of its messages: 1 (first) to 10; 0 is the normal lane.")
    ] = 0

    @property
    def definition(self) -> dict[str, Any]:
        """What has to be equal in a second job of the same name."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def seconds_each(self) -> float:
        """How far apart its messages start."""
        if self.rate is None:
            return 0.0
        rate = Rate.parse(self.rate)
        return rate.period_seconds / rate.count
