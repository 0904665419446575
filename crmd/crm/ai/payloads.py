"""The payloads of `chat_reply` and `transcribe_audio`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from crmd.crm.outbound.downloads import OptionalFileId, OptionalFileUrl
from crmd.crm.payload import NotBlank, Payload, invalid
from crmd.crm.whatsapp.content import MessageId

MAX_MESSAGES = 200
MAX_PROMPT_CHARS = 100_000

OptionalModel = Annotated[
    Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,200}$")] | None,
    Field(description="The model's name; by default the configured one."),
]


class ChatMessage(Payload):
    """One message of a conversation."""

    role: Annotated[Literal["system", "developer", "user", "assistant"], Field(description="Who said it.")]
    content: Annotated[NotBlank, Field(max_length=MAX_PROMPT_CHARS, description="What was said.")]


class ReplyTo(Payload):
    """Who gets the answer as a WhatsApp message."""

    to: Annotated[
        str, Field(pattern=r"^\+?[1-9][0-9]{6,14}$", description="The recipient's number, as in send_message.")
    ]
    context: Annotated[MessageId | None, Field(description="Id of the message that the answer replies to.")] = None
    mark_read: Annotated[MessageId | None, Field(description="Id of the message to mark as read.")] = None
    once: Annotated[
        str | None,
        Field(
            pattern=r"^[\x21-\x7e]{1,200}$",
            description="Only one message with this value is ever sent; by default it is made from the job.",
        ),
    ] = None


class ChatReply(Payload):
    """A question to a language model: `prompt`, or a conversation in `messages`."""

    prompt: Annotated[
        NotBlank | None,
        Field(max_length=MAX_PROMPT_CHARS, description="What to ask, instead of `messages`."),
    ] = None
    messages: Annotated[
        list[ChatMessage] | None,
        Field(
            min_length=1,
            max_length=MAX_MESSAGES,
            description="The conversation, oldest first: each `role` (`user`, `assistant`, …) and `content`.",
        ),
    ] = None
    system: Annotated[
        NotBlank | None, Field(max_length=MAX_PROMPT_CHARS, description="How the model should answer; sent first.")
    ] = None
    model: OptionalModel = None
    temperature: Annotated[
        float | None, Field(ge=0, le=2, description="0 is the most predictable; by default the model's own.")
    ] = None
    max_tokens: Annotated[int | None, Field(ge=1, le=1_000_000, description="The longest answer, in tokens.")] = (
        None
    )
    reply_to: Annotated[
        ReplyTo | None,
        Field(description="Sends the answer as a WhatsApp message: `to`, `context`, `mark_read`, `once`."),
    ] = None

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise invalid("needs either prompt or messages")
        return self

    @property
    def conversation(self) -> list[dict[str, str]]:
        """The messages as the API takes them."""
        asked = self.messages or [ChatMessage(role="user", content=self.prompt or "")]
        system = [ChatMessage(role="system", content=self.system)] if self.system else []
        return [message.model_dump() for message in (*system, *asked)]


class TranscribeAudio(Payload):
    """A recording whose text is wanted: exactly one of `file` and `url`."""

    file: OptionalFileId = None
    url: OptionalFileUrl = None
    name: Annotated[
        NotBlank | None,
        Field(
            max_length=200,
            pattern=r"^[^/\\]+$",
            description="A file name whose extension is the format, such as `voice.ogg`; by default its own.",
        ),
    ] = None
    language: Annotated[
        str | None, Field(pattern=r"^[a-z]{2,3}$", description="ISO 639 code such as `de`; detected if absent.")
    ] = None
    prompt: Annotated[
        NotBlank | None, Field(max_length=2000, description="Words that are likely to occur, such as names.")
    ] = None
    model: OptionalModel = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise invalid("needs exactly one of file and url")
        return self
