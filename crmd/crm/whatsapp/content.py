"""The content of WhatsApp messages, in the Cloud API's own shapes and within its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from crmd.crm.payload import Link, NotBlank, Payload, invalid

MessageId = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^\S+$")]
Caption = Annotated[NotBlank, Field(max_length=1024)]


class Text(Payload):
    """A text message."""

    body: Annotated[NotBlank, Field(max_length=4096, description="The text.")]
    preview_url: Annotated[bool | None, Field(description="Shows a preview of the first link in it.")] = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, data: Any) -> Any:
        return {"body": data} if isinstance(data, str) else data


class Media(Payload):
    """A file, by the id of an upload or by a link that WhatsApp fetches."""

    id: Annotated[
        Annotated[str, Field(min_length=1, max_length=256)] | None,
        Field(description="Id of a file that was uploaded to WhatsApp."),
    ] = None
    link: Annotated[Link | None, Field(description="Where WhatsApp fetches the file: https:// or http://.")] = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.id is None) == (self.link is None):
            raise invalid("give exactly one of id and link")
        return self


class Captioned(Media):
    """An image or a video."""

    caption: Annotated[Caption | None, Field(description="The text below it.")] = None


class Document(Captioned):
    """A document."""

    filename: Annotated[
        Annotated[NotBlank, Field(max_length=240)] | None,
        Field(description="What the recipient sees as its name."),
    ] = None


def _no_boolean(value: object) -> object:
    if isinstance(value, bool):
        raise invalid("must be a number, not true or false")
    return value


class Location(Payload):
    """A point on the map."""

    latitude: Annotated[
        float,
        Field(ge=-90, le=90, allow_inf_nan=False, description="Degrees to the north."),
        BeforeValidator(_no_boolean),
    ]
    longitude: Annotated[
        float,
        Field(ge=-180, le=180, allow_inf_nan=False, description="Degrees to the east."),
        BeforeValidator(_no_boolean),
    ]
    name: Annotated[str | None, Field(max_length=1000, description="What the place is called.")] = None
    address: Annotated[str | None, Field(max_length=1000, description="Shown below the name; needs `name`.")] = (
        None
    )

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.address and not self.name:
            raise invalid("an address is shown only below a name: give name too")
        return self


class Reaction(Payload):
    """An emoji on an earlier message; an empty one removes it."""

    message_id: Annotated[MessageId, Field(description="WhatsApp's id of the message to react to.")]
    emoji: Annotated[str, Field(max_length=32, description="One emoji; an empty text removes it.")]


class Context(Payload):
    """The message that this one replies to."""

    message_id: Annotated[MessageId, Field(description="WhatsApp's id of that message.")]


class Language(Payload):
    """A template's language, such as `en_US`."""

    code: Annotated[
        str, Field(pattern=r"^[a-z]{2,3}(?:_[A-Za-z]{2,4})?$", description="Language, or language and country.")
    ]
    policy: Annotated[Literal["deterministic"] | None, Field(description="The only policy that the API has.")] = (
        None
    )


class Parameter(Payload):
    """One value for a template's placeholder; besides `type` it has the API's own fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[
        Literal[
            "text",
            "currency",
            "date_time",
            "image",
            "document",
            "video",
            "location",
            "payload",
            "coupon_code",
            "limited_time_offer",
            "product",
            "action",
        ],
        Field(description="What kind of value; the value itself is in the field of that name."),
    ]
    parameter_name: Annotated[
        str | None, Field(description="The placeholder's name, where the template names them.")
    ] = None

    @model_validator(mode="after")
    def _has_value(self) -> Self:
        value = (self.model_extra or {}).get(self.type)
        if value is None or value == "":
            raise invalid(f"a parameter of type {self.type} needs the field {self.type}, not empty")
        return self


class Component(Payload):
    """One part of a template that takes parameters."""

    type: Annotated[
        Literal["header", "body", "button", "carousel", "limited_time_offer"],
        Field(description="Which part it is."),
    ]
    sub_type: Annotated[
        Literal["quick_reply", "url", "copy_code", "flow", "catalog", "mpm", "voice_call"] | None,
        Field(description="What a button does; for buttons only, and required there."),
    ] = None
    index: Annotated[
        int | None, Field(ge=0, le=9, description="Which button, from 0; for buttons only, and required there.")
    ] = None
    parameters: Annotated[
        list[Parameter] | None, Field(max_length=100, description="The values, in the placeholders' order.")
    ] = None
    cards: Annotated[
        list[dict[str, Any]] | None,
        Field(
            min_length=1,
            max_length=10,
            description="For a carousel only: its cards, as in the API.",
        ),
    ] = None

    @model_validator(mode="after")
    def _fits_type(self) -> Self:
        is_button = self.type == "button"
        if is_button and (self.sub_type is None or self.index is None):
            raise invalid("a button component needs sub_type and index")
        if not is_button and (self.sub_type is not None or self.index is not None):
            raise invalid(f"sub_type and index belong to button components, not to {self.type}")
        if (self.type == "carousel") != (self.cards is not None):
            raise invalid("a carousel component, and no other, has cards")
        return self


class Template(Payload):
    """An approved template with its parameters."""

    name: Annotated[
        str,
        Field(max_length=512, pattern=r"^[a-z0-9_]+$", description="Its name, as WhatsApp approved it."),
    ]
    language: Annotated[Language, Field(description="The translation to send, as an object or just its code.")]
    components: Annotated[
        list[Component] | None, Field(max_length=20, description="The parts that take values.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _short_language(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("language"), str):
            return {**data, "language": {"code": data["language"]}}
        return data
