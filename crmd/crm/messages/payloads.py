"""The payload of `send_message`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from crmd.crm.payload import Payload, invalid
from crmd.crm.whatsapp.content import (
    Captioned,
    Context,
    Document,
    Location,
    Media,
    MessageId,
    Reaction,
    Template,
    Text,
)
from crmd.crm.whatsapp.interactive import FlowMessage, Interactive

MessageType = Literal[
    "text", "template", "image", "document", "audio", "video", "location", "interactive", "reaction"
]
TYPES: tuple[str, ...] = get_args(MessageType)


class SendMessage(Payload):
    """One WhatsApp message: the recipient, the type, and the content in the field of the type's name.

    `type` may be left out, and `text` may be a plain string.
    """

    to: Annotated[
        str,
        Field(
            pattern=r"^\+?[1-9][0-9]{6,14}$",
            description="The recipient's number in international form, digits only, with or without a plus.",
            examples=["+491511234567"],
        ),
    ]
    type: Annotated[
        MessageType, Field(description="The kind of message; by default that of the content given.")
    ] = "text"
    text: Annotated[
        Text | None,
        Field(description="`body` (at most 4,096 characters), `preview_url`; a string is the body."),
    ] = None
    template: Annotated[
        Template | None,
        Field(description='`name`, `language` (`{"code": "en_US"}`, or the code alone), `components`.'),
    ] = None
    image: Annotated[Captioned | None, Field(description="`id` or `link`, `caption`.")] = None
    document: Annotated[Document | None, Field(description="`id` or `link`, `caption`, `filename`.")] = None
    audio: Annotated[Media | None, Field(description="`id` or `link`.")] = None
    video: Annotated[Captioned | None, Field(description="`id` or `link`, `caption`.")] = None
    location: Annotated[Location | None, Field(description="`latitude`, `longitude`, `name`, `address`.")] = None
    interactive: Annotated[
        Interactive | None,
        Field(
            description="`type` is `button` (at most 3 buttons), `list` (at most 10 rows), `cta_url`, "
            "`location_request_message` or `flow`; then `body`, `action`, `header`, `footer`."
        ),
    ] = None
    reaction: Annotated[
        Reaction | None, Field(description="`message_id`, `emoji`; an empty emoji removes the reaction.")
    ] = None
    context: Annotated[
        Context | None, Field(description="`message_id` of the message that this one replies to.")
    ] = None
    once: Annotated[
        str | None,
        Field(
            pattern=r"^[\x21-\x7e]{1,200}$",
            description="Only one message with this value is ever sent, whatever happens to jobs and daemons; "
            "printable ASCII without spaces, at most 200.",
        ),
    ] = None
    campaign: Annotated[
        int | None, Field(ge=1, description="Id of the campaign that the message counts towards.")
    ] = None
    category: Annotated[
        Literal["marketing", "utility", "authentication", "service"] | None,
        Field(
            description="What the message is for. `marketing` is not sent to people who have stopped marketing. "
            "Left out, a campaign's message is marketing, and others are not."
        ),
    ] = None
    mark_read: Annotated[
        MessageId | None,
        Field(description="Id of an inbound message to mark as read before this one is sent."),
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        expanded = dict(data)
        given = [name for name in TYPES if expanded.get(name) is not None]
        if expanded.get("type") is None:
            if len(given) > 1:
                raise invalid(f"type is required where several contents are given, as {' and '.join(given)} are")
            expanded["type"] = given[0] if given else "text"
        return expanded

    @model_validator(mode="after")
    def _one_content(self) -> Self:
        given = [name for name in TYPES if getattr(self, name) is not None]
        if given != [self.type]:
            found = f"it has {', '.join(given)}" if given else "it has none"
            raise invalid(
                f"a message of type {self.type} needs the field {self.type} and no other content; {found}"
            )
        if self.type == "reaction" and self.context is not None:
            raise invalid("a reaction names its message in reaction.message_id; it has no context")
        return self

    @property
    def digits(self) -> str:
        """The recipient's number without the plus."""
        return self.to.removeprefix("+")

    @property
    def is_marketing(self) -> bool:
        """Whether it is marketing."""
        return self.category == "marketing" or (self.category is None and self.campaign is not None)

    @property
    def subject(self) -> str | None:
        """The template or flow that the message uses, which an error may be about."""
        if self.template is not None:
            return f"template {self.template.name} ({self.template.language.code})"
        if isinstance(self.interactive, FlowMessage):
            return f"flow {self.interactive.flow}"
        return None

    @property
    def summary(self) -> str | None:
        """What the message says, or the template's name: for the database."""
        content = getattr(self, self.type)
        body = getattr(content, "body", None)
        found = (
            body if isinstance(body, str) else getattr(body, "text", None),
            *(getattr(content, name, None) for name in ("name", "caption", "filename", "emoji")),
        )
        return next((text for text in found if text), None)

    def request(self) -> dict[str, Any]:
        """The message as the Cloud API takes it."""
        ours = {"once", "campaign", "category", "mark_read"}
        return {**self.model_dump(mode="json", exclude_none=True, exclude=ours), "to": self.digits}
