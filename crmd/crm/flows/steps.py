"""The steps that a flow may have, as they are written in its definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, JsonValue, ValidationError, model_validator

from crmd.crm.contacts import repository as contacts
from crmd.crm.flows.conditions import Condition
from crmd.crm.payload import NotBlank, Payload, checked_by, invalid
from crmd.crm.webhooks.jobs import DeliverWebhook
from crmd.crm.whatsapp.content import Captioned, Document, Location, Media, Template, Text
from crmd.crm.whatsapp.interactive import Interactive
from crmd.engine.durations import format_duration, parse_duration
from crmd.errors import mistakes_in

STEP_PATTERN = r"^[a-z0-9_-]{1,64}$"
SHORTEST_WAIT_SECONDS = 0.1
LONGEST_WAIT_SECONDS = 365 * 86_400.0
MAX_CASES = 50
CONTENTS = ("text", "template", "interactive", "image", "document", "video", "audio", "location")
RESERVED_NAMES = frozenset({"phone", "name", "email", "tags", "reply"})
"""Variables of templates that no attribute and nothing saved can be named like."""
DEFAULT_EVENT = "flow.step"


def seconds_of(duration: str) -> float:
    """Seconds of a duration that was checked."""
    return parse_duration(duration) or 0.0


def _or_plain(schema: dict[str, Any]) -> None:
    """A text may be written as a string, too."""
    schema["anyOf"].insert(0, {"type": "string"})


def _check_duration(text: str) -> None:
    seconds = parse_duration(text)
    if seconds is None or not SHORTEST_WAIT_SECONDS <= seconds <= LONGEST_WAIT_SECONDS:
        shortest, longest = format_duration(SHORTEST_WAIT_SECONDS), format_duration(LONGEST_WAIT_SECONDS)
        raise ValueError(f'"{text}" is not between {shortest} and {longest}')


def _check_free_name(name: str) -> None:
    if name in RESERVED_NAMES:
        raise ValueError(f"{name} is taken; {', '.join(sorted(RESERVED_NAMES))} mean something else")


StepId = Annotated[str, Field(pattern=STEP_PATTERN)]
Duration = Annotated[str, checked_by(_check_duration)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"), checked_by(_check_free_name)]
AttributeName = Annotated[str, checked_by(contacts.check_attribute_name), checked_by(_check_free_name)]
Tag = Annotated[str, checked_by(contacts.check_tag)]


class _Step(Payload):
    """What each step has."""

    id: Annotated[StepId, Field(description="Its name in this flow.")]


class _Passed(_Step):
    """A step after which the flow goes on."""

    next: Annotated[
        StepId | None, Field(description="The step that follows; left out, the one below, after the last none.")
    ] = None


class Send(_Passed):
    """Sends a message: exactly one content, as in `send_message`; all texts in it may have variables."""

    type: Literal["send"]
    text: Text | None = Field(None, json_schema_extra=_or_plain)
    template: Template | None = None
    interactive: Interactive | None = None
    image: Captioned | None = None
    document: Document | None = None
    video: Captioned | None = None
    audio: Media | None = None
    location: Location | None = None
    category: Literal["marketing", "utility", "authentication", "service"] | None = None

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        given = [name for name in CONTENTS if getattr(self, name) is not None]
        if len(given) != 1:
            said = f"has {' and '.join(given)}" if given else "has none"
            raise invalid(f"needs exactly one of {', '.join(CONTENTS)}; it {said}")
        return self

    def content(self) -> dict[str, Any]:
        """The content's field and what is in it, before its variables are filled in."""
        return self.model_dump(mode="json", include=set(CONTENTS), exclude_none=True)


class Wait(_Passed):
    """Waits; nothing is held meanwhile."""

    type: Literal["wait"]
    duration: Annotated[Duration, Field(description='How long: "30s", "10m", "2h", "1d".')]


class WaitForReply(_Step):
    """Waits for the contact's next message, or for the time to run out."""

    type: Literal["wait_for_reply"]
    timeout: Annotated[Duration, Field(description='How long: "30s", "10m", "2h", "1d".')]
    on_reply: Annotated[
        StepId | None, Field(description="The step after a reply; left out, the one below, after the last none.")
    ] = None
    on_timeout: Annotated[StepId, Field(description="The step after the time has run out.")]
    save_as: Annotated[
        VariableName | None, Field(description="Keeps the reply under this name for later texts and conditions.")
    ] = None


class Case(Condition):
    """One way out of a branch: taken where its condition, and each in `and`, holds."""

    and_: Annotated[list[Condition], Field(alias="and", max_length=20, description="Further conditions.")] = Field(
        default_factory=list
    )
    next: Annotated[StepId, Field(description="The step that follows.")]

    @property
    def conditions(self) -> list[Condition]:
        """All of them."""
        return [self, *self.and_]


class Branch(_Step):
    """Goes on with the first case that holds."""

    type: Literal["branch"]
    cases: Annotated[list[Case], Field(min_length=1, max_length=MAX_CASES, description="Looked at in order.")]
    else_: Annotated[StepId, Field(alias="else", description="The step that follows where no case holds.")]


class SetAttribute(_Passed):
    """Sets an attribute of the contact."""

    type: Literal["set_attribute"]
    name: Annotated[AttributeName, Field(description="The attribute.")]
    value: Annotated[
        Annotated[str, Field(max_length=4096)] | int | float | bool | None,
        Field(description="What it becomes; a text may have variables; null takes the attribute away."),
    ]


class AddTag(_Passed):
    """Gives the contact a tag."""

    type: Literal["add_tag"]
    tag: Annotated[Tag, Field(description="The tag.")]


class RemoveTag(_Passed):
    """Takes a tag from the contact."""

    type: Literal["remove_tag"]
    tag: Annotated[Tag, Field(description="The tag.")]


class Webhook(_Passed):
    """Posts an event, by a job in queue `webhook`."""

    type: Literal["webhook"]
    url: Annotated[str | None, Field(description="Where to; or name an endpoint.")] = None
    endpoint: Annotated[
        str | None, Field(pattern=r"^[a-z0-9_-]{1,64}$", description="An endpoint of `[webhook.endpoints]`.")
    ] = None
    event: Annotated[str, Field(description="What happened.")] = DEFAULT_EVENT
    data: Annotated[
        JsonValue,
        Field(description="Any JSON, texts in it may have variables; left out, the contact and the run."),
    ] = None

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if (self.url is None) == (self.endpoint is None):
            raise invalid("needs exactly one of url and endpoint")
        try:  # the job's own rules
            DeliverWebhook(url=self.url, endpoint=self.endpoint, event=self.event, data=self.data)
        except ValidationError as error:
            found = mistakes_in(error)
            raise invalid("; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)) from None
        return self


class Email(_Passed):
    """Sends a mail, by a job in queue `email`."""

    type: Literal["email"]
    to: Annotated[NotBlank, Field(max_length=500, description="Whom to; left out, the contact.")] = "{{ email }}"
    subject: Annotated[NotBlank, Field(max_length=500, description="May have variables, as the texts may.")]
    text: Annotated[NotBlank | None, Field(max_length=20_000, description="The text for plain readers.")] = None
    html: Annotated[
        NotBlank | None, Field(max_length=50_000, description="The same as HTML; what is filled in is escaped.")
    ] = None

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if self.text is None and self.html is None:
            raise invalid("needs text, html or both")
        return self


class AiReply(_Passed):
    """Lets a language model answer the contact, by a job in queue `ai`, which hands its answer to `message`."""

    type: Literal["ai_reply"]
    instructions: Annotated[
        NotBlank, Field(max_length=8000, description="What the model is told to be and to do; may have variables.")
    ]
    prompt: Annotated[
        NotBlank, Field(max_length=8000, description="What it answers; left out, the contact's last reply.")
    ] = "{{ reply|default('(no text)', true) }}"


class End(_Step):
    """Ends the run."""

    type: Literal["end"]


Passed = Send | Wait | SetAttribute | AddTag | RemoveTag | Webhook | Email | AiReply
AnyStep = Passed | WaitForReply | Branch | End
STEP_TYPES: Mapping[str, type[BaseModel]] = {
    "send": Send,
    "wait": Wait,
    "wait_for_reply": WaitForReply,
    "branch": Branch,
    "set_attribute": SetAttribute,
    "add_tag": AddTag,
    "remove_tag": RemoveTag,
    "webhook": Webhook,
    "email": Email,
    "ai_reply": AiReply,
    "end": End,
}
