"""Interactive WhatsApp messages: reply buttons, lists, link buttons, location requests and flows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from crmd.handlers.payload import Link, NotBlank, Payload, invalid
from crmd.handlers.whatsapp_content import Media

MAX_ROWS = 10
ButtonText = Annotated[NotBlank, Field(max_length=20)]


class Header(Payload):
    """What stands above the body: a text or a file."""

    type: Literal["text", "image", "video", "document"]
    text: Annotated[NotBlank, Field(max_length=60)] | None = None
    image: Media | None = None
    video: Media | None = None
    document: Media | None = None

    @model_validator(mode="after")
    def _matches_type(self) -> Self:
        given = [name for name in ("text", "image", "video", "document") if getattr(self, name) is not None]
        if given != [self.type]:
            raise invalid(f"a header of type {self.type} needs the field {self.type}, and no other content")
        return self


class Body(Payload):
    """The main text."""

    text: Annotated[NotBlank, Field(max_length=1024)]


class LongBody(Payload):
    """The main text of a list message."""

    text: Annotated[NotBlank, Field(max_length=4096)]


class Footer(Payload):
    """The small text below."""

    text: Annotated[NotBlank, Field(max_length=60)]


class _Framed(Payload):
    header: Header | None = None
    footer: Footer | None = None


class Reply(Payload):
    """What a reply button shows, and the id its press sends back."""

    id: Annotated[NotBlank, Field(max_length=256)]
    title: ButtonText


class Button(Payload):
    """A reply button."""

    type: Literal["reply"] = "reply"
    reply: Reply


class ButtonAction(Payload):
    """One to three reply buttons."""

    buttons: Annotated[list[Button], Field(min_length=1, max_length=3)]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _check_distinct("button id", (button.reply.id for button in self.buttons))
        _check_distinct("button title", (button.reply.title for button in self.buttons))
        return self


class ButtonMessage(_Framed):
    """A message with reply buttons."""

    type: Literal["button"]
    body: Body
    action: ButtonAction


class Row(Payload):
    """One choice of a list."""

    id: Annotated[NotBlank, Field(max_length=200)]
    title: Annotated[NotBlank, Field(max_length=24)]
    description: Annotated[str, Field(max_length=72)] | None = None


class Section(Payload):
    """A group of choices."""

    title: Annotated[NotBlank, Field(max_length=24)] | None = None
    rows: Annotated[list[Row], Field(min_length=1, max_length=MAX_ROWS)]


class ListAction(Payload):
    """The sections of a list; ten rows in all."""

    button: ButtonText
    sections: Annotated[list[Section], Field(min_length=1, max_length=10)]

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        count = sum(len(section.rows) for section in self.sections)
        if count > MAX_ROWS:
            raise invalid(f"a list has at most {MAX_ROWS} rows over all sections, this one has {count}")
        if len(self.sections) > 1 and not all(section.title for section in self.sections):
            raise invalid("with more than one section each needs a title")
        _check_distinct("row id", (row.id for section in self.sections for row in section.rows))
        return self


class ListMessage(_Framed):
    """A message with a list to choose from."""

    type: Literal["list"]
    body: LongBody
    action: ListAction

    @model_validator(mode="after")
    def _text_header(self) -> Self:
        if self.header is not None and self.header.type != "text":
            raise invalid("the header of a list message must be a text")
        return self


class UrlParameters(Payload):
    """A link and what its button shows."""

    display_text: ButtonText
    url: Link


class UrlAction(Payload):
    """A button that opens a link."""

    name: Literal["cta_url"] = "cta_url"
    parameters: UrlParameters


class UrlMessage(_Framed):
    """A message with a link button."""

    type: Literal["cta_url"]
    body: Body
    action: UrlAction


class LocationAction(Payload):
    """A button that sends the recipient's location."""

    name: Literal["send_location"] = "send_location"


class LocationRequest(Payload):
    """A message that asks for the recipient's location."""

    type: Literal["location_request_message"]
    body: Body
    action: LocationAction = LocationAction()


class FlowAction(Payload):
    """A button that opens a flow; the parameters are the API's own."""

    name: Literal["flow"] = "flow"
    parameters: dict[str, Any]

    @model_validator(mode="after")
    def _names_flow(self) -> Self:
        if not (self.parameters.get("flow_id") or self.parameters.get("flow_name")):
            raise invalid("the parameters of a flow need flow_id or flow_name")
        return self


class FlowMessage(_Framed):
    """A message that opens a flow."""

    type: Literal["flow"]
    body: Body
    action: FlowAction

    @property
    def flow(self) -> str:
        """The flow's id or name."""
        return str(self.action.parameters.get("flow_id") or self.action.parameters.get("flow_name"))


Interactive = Annotated[
    ButtonMessage | ListMessage | UrlMessage | LocationRequest | FlowMessage, Field(discriminator="type")
]


def _check_distinct(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise invalid(f"the {what} {value!r} stands twice")
        seen.add(value)
