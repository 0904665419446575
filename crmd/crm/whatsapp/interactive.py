"""Interactive WhatsApp messages: reply buttons, lists, link buttons, location requests and flows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from crmd.crm.payload import Link, NotBlank, Payload, invalid
from crmd.crm.whatsapp.content import Media

MAX_ROWS = 10
ButtonText = Annotated[NotBlank, Field(max_length=20)]


class Header(Payload):
    """What appears above the body: a text or a file."""

    type: Annotated[Literal["text", "image", "video", "document"], Field(description="Which of the four it is.")]
    text: Annotated[Annotated[NotBlank, Field(max_length=60)] | None, Field(description="A text.")] = None
    image: Annotated[Media | None, Field(description="An image.")] = None
    video: Annotated[Media | None, Field(description="A video.")] = None
    document: Annotated[Media | None, Field(description="A document.")] = None

    @model_validator(mode="after")
    def _matches_type(self) -> Self:
        given = [name for name in ("text", "image", "video", "document") if getattr(self, name) is not None]
        if given != [self.type]:
            raise invalid(f"a header of type {self.type} needs the field {self.type}, and no other content")
        return self


class Body(Payload):
    """The main text."""

    text: Annotated[NotBlank, Field(max_length=1024, description="The text.")]


class LongBody(Payload):
    """The main text of a list message."""

    text: Annotated[NotBlank, Field(max_length=4096, description="The text.")]


class Footer(Payload):
    """The small print at the bottom."""

    text: Annotated[NotBlank, Field(max_length=60, description="The text.")]


class _Framed(Payload):
    header: Annotated[Header | None, Field(description="What appears above the text.")] = None
    footer: Annotated[Footer | None, Field(description="Small print below it.")] = None


class Reply(Payload):
    """A reply button's label, and the id that pressing it sends back."""

    id: Annotated[NotBlank, Field(max_length=256, description="What comes back when the button is pressed.")]
    title: Annotated[ButtonText, Field(description="The button's label.")]


class Button(Payload):
    """A reply button."""

    type: Annotated[Literal["reply"], Field(description="The only kind.")] = "reply"
    reply: Annotated[Reply, Field(description="Its label and what it sends back.")]


class ButtonAction(Payload):
    """One to three reply buttons."""

    buttons: Annotated[
        list[Button], Field(min_length=1, max_length=3, description="One to three, with different ids and titles.")
    ]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        _check_distinct("button id", (button.reply.id for button in self.buttons))
        _check_distinct("button title", (button.reply.title for button in self.buttons))
        return self


class ButtonMessage(_Framed):
    """A message with reply buttons."""

    type: Annotated[Literal["button"], Field(description="What kind of message.")]
    body: Annotated[Body, Field(description="The main text.")]
    action: Annotated[ButtonAction, Field(description="The buttons.")]


class Row(Payload):
    """One choice of a list."""

    id: Annotated[NotBlank, Field(max_length=200, description="What comes back when the row is chosen.")]
    title: Annotated[NotBlank, Field(max_length=24, description="The row's label.")]
    description: Annotated[str | None, Field(max_length=72, description="Small print below the label.")] = None


class Section(Payload):
    """A group of choices."""

    title: Annotated[
        Annotated[NotBlank, Field(max_length=24)] | None,
        Field(description="Shown above its rows; needed if there are several sections."),
    ] = None
    rows: Annotated[
        list[Row],
        Field(min_length=1, max_length=MAX_ROWS, description="The choices; at most 10 in all sections together."),
    ]


class ListAction(Payload):
    """The sections of a list, with ten rows in all at most."""

    button: Annotated[ButtonText, Field(description="The label of the button that opens the list.")]
    sections: Annotated[list[Section], Field(min_length=1, max_length=10, description="The groups of choices.")]

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

    type: Annotated[Literal["list"], Field(description="What kind of message.")]
    body: Annotated[LongBody, Field(description="The main text.")]
    action: Annotated[ListAction, Field(description="The choices.")]

    @model_validator(mode="after")
    def _text_header(self) -> Self:
        if self.header is not None and self.header.type != "text":
            raise invalid("the header of a list message must be a text")
        return self


class UrlParameters(Payload):
    """A link and its button's label."""

    display_text: Annotated[ButtonText, Field(description="The button's label.")]
    url: Annotated[Link, Field(description="What it opens: https:// or http://.")]


class UrlAction(Payload):
    """A button that opens a link."""

    name: Annotated[Literal["cta_url"], Field(description="Fixed by the API.")] = "cta_url"
    parameters: Annotated[UrlParameters, Field(description="The link.")]


class UrlMessage(_Framed):
    """A message with a link button."""

    type: Annotated[Literal["cta_url"], Field(description="What kind of message.")]
    body: Annotated[Body, Field(description="The main text.")]
    action: Annotated[UrlAction, Field(description="The link's button.")]


class LocationAction(Payload):
    """A button that sends the recipient's location."""

    name: Annotated[Literal["send_location"], Field(description="Fixed by the API.")] = "send_location"


class LocationRequest(Payload):
    """A message that asks for the recipient's location."""

    type: Annotated[Literal["location_request_message"], Field(description="What kind of message.")]
    body: Annotated[Body, Field(description="The main text.")]
    action: Annotated[LocationAction, Field(description="The button.")] = LocationAction()


class FlowAction(Payload):
    """A button that opens a flow; the parameters are those of the API."""

    name: Annotated[Literal["flow"], Field(description="Fixed by the API.")] = "flow"
    parameters: Annotated[
        dict[str, Any], Field(description="As in the API; `flow_id` or `flow_name` is required.")
    ]

    @model_validator(mode="after")
    def _names_flow(self) -> Self:
        if not (self.parameters.get("flow_id") or self.parameters.get("flow_name")):
            raise invalid("the parameters of a flow need flow_id or flow_name")
        return self


class FlowMessage(_Framed):
    """A message that opens a flow."""

    type: Annotated[Literal["flow"], Field(description="What kind of message.")]
    body: Annotated[Body, Field(description="The main text.")]
    action: Annotated[FlowAction, Field(description="The flow's button.")]

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
