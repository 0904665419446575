"""The content of WhatsApp messages, in the Cloud API's own shapes and within its limits."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from crmd.handlers.payload import Link, NotBlank, Payload, invalid

MessageId = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^\S+$")]
Caption = Annotated[NotBlank, Field(max_length=1024)]

# The field that holds the value of each type of template parameter.
_PARAMETER_FIELDS = {
    "text": "text",
    "currency": "currency",
    "date_time": "date_time",
    "image": "image",
    "document": "document",
    "video": "video",
    "location": "location",
    "payload": "payload",
    "coupon_code": "coupon_code",
    "limited_time_offer": "limited_time_offer",
    "product": "product",
    "action": "action",
}


class Text(Payload):
    """A text message."""

    body: Annotated[NotBlank, Field(max_length=4096)]
    preview_url: bool | None = None


class Media(Payload):
    """A file, by the id of an upload or by a link that WhatsApp fetches."""

    id: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    link: Link | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.id is None) == (self.link is None):
            raise invalid("give exactly one of id and link")
        return self


class Captioned(Media):
    """An image or a video."""

    caption: Caption | None = None


class Document(Captioned):
    """A document."""

    filename: Annotated[NotBlank, Field(max_length=240)] | None = None


class Location(Payload):
    """A point on the map."""

    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
    name: Annotated[str, Field(max_length=1000)] | None = None
    address: Annotated[str, Field(max_length=1000)] | None = None

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.address and not self.name:
            raise invalid("an address is shown only below a name: give name too")
        return self


class Reaction(Payload):
    """An emoji on an earlier message; an empty one takes it away."""

    message_id: MessageId
    emoji: Annotated[str, Field(max_length=32)]


class Context(Payload):
    """The message that this one answers."""

    message_id: MessageId


class Language(Payload):
    """A template's language, such as `en_US`."""

    code: Annotated[str, Field(pattern=r"^[a-z]{2,3}(?:_[A-Za-z]{2,4})?$")]
    policy: Literal["deterministic"] | None = None


class Parameter(Payload):
    """One value for a template's placeholder; beyond its type it has the API's own fields."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal[
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
    ]
    parameter_name: str | None = None

    @model_validator(mode="after")
    def _has_value(self) -> Self:
        field = _PARAMETER_FIELDS[self.type]
        value = (self.model_extra or {}).get(field)
        if value is None or value == "":
            raise invalid(f"a parameter of type {self.type} needs the field {field}, not empty")
        return self


class Component(Payload):
    """One part of a template that takes parameters."""

    type: Literal["header", "body", "button", "carousel", "limited_time_offer"]
    sub_type: Literal["quick_reply", "url", "copy_code", "flow", "catalog", "mpm", "voice_call"] | None = None
    index: Annotated[int, Field(ge=0, le=9)] | None = None
    parameters: Annotated[list[Parameter], Field(max_length=100)] | None = None
    cards: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=10)] | None = None

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

    name: Annotated[str, Field(max_length=512, pattern=r"^[a-z0-9_]+$")]
    language: Language
    components: Annotated[list[Component], Field(max_length=20)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_language(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("language"), str):
            return {**data, "language": {"code": data["language"]}}
        return data
