"""The payload of `send_message`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, model_validator

from crmd.handlers.payload import Payload, invalid
from crmd.handlers.whatsapp_content import Captioned, Context, Document, Location, Media, Reaction, Template, Text
from crmd.handlers.whatsapp_interactive import FlowMessage, Interactive

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
    type: MessageType
    text: Text | None = None
    template: Template | None = None
    image: Captioned | None = None
    document: Document | None = None
    audio: Media | None = None
    video: Captioned | None = None
    location: Location | None = None
    interactive: Interactive | None = None
    reaction: Reaction | None = None
    context: Context | None = None

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        expanded = dict(data)
        if isinstance(expanded.get("text"), str):
            expanded["text"] = {"body": expanded["text"]}
        given = [name for name in TYPES if expanded.get(name) is not None]
        if expanded.get("type") is None and len(given) <= 1:
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
    def subject(self) -> str | None:
        """The template or flow that the message uses, which an error may be about."""
        if self.template is not None:
            return f"template {self.template.name} ({self.template.language.code})"
        if isinstance(self.interactive, FlowMessage):
            return f"flow {self.interactive.flow}"
        return None

    def request(self) -> dict[str, Any]:
        """The message as the Cloud API takes it."""
        return {**self.model_dump(mode="json", exclude_none=True), "to": self.digits}
