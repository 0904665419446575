"""The payload of `send_email`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, model_validator

from crmd.config.mailbox import read_mailbox
from crmd.crm.email.attachment_folder import check_path
from crmd.crm.outbound.downloads import OptionalFileId, OptionalFileUrl
from crmd.crm.payload import NotBlank, Payload, checked_by, invalid
from crmd.crm.templating import templates
from crmd.formatting import is_clean

MAX_RECIPIENTS = 100
"""Of to, cc and bcc together: what servers take at once (RFC 5321)."""
MAX_ATTACHMENTS = 20
MAX_HEADERS = 20
MAX_SUBJECT_CHARS = 500
_FREE_HEADER = re.compile(
    r"x-[a-z0-9-]+|list-[a-z-]+|in-reply-to|references|importance|priority|precedence|feedback-id|auto-submitted"
)
_FREE_HEADERS_TEXT = (
    "X-…, List-…, In-Reply-To, References, Importance, Priority, Precedence, Feedback-ID and Auto-Submitted"
)
_FILE_SOURCES = ("file", "path", "url")


def _check_header_name(name: str) -> str:
    if not _FREE_HEADER.fullmatch(name.lower()):
        raise invalid(f"the header {name} cannot be set; {_FREE_HEADERS_TEXT} can")
    return name


def _check_one_line(text: str) -> str:
    if len(text.splitlines()) > 1 or not is_clean(text):
        raise invalid("must be one line without control characters")
    return text


def _check_path(text: str) -> str:
    try:
        check_path(text)
    except ValueError as error:
        raise invalid(str(error)) from None
    return text


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Address = Annotated[str, Field(max_length=500), checked_by(read_mailbox)]
Addresses = Annotated[list[Address], BeforeValidator(_as_list)]
HeaderName = Annotated[str, Field(max_length=64), AfterValidator(_check_header_name)]
HeaderValue = Annotated[NotBlank, Field(max_length=900), AfterValidator(_check_one_line)]


class Attachment(Payload):
    """A file that goes with the email: exactly one of `file`, `path` and `url`."""

    file: OptionalFileId = None
    path: Annotated[
        str | None,
        Field(max_length=500, description="A path in the folder `attachments` of the state folder."),
    ] = None
    url: OptionalFileUrl = None
    name: Annotated[
        NotBlank | None,
        Field(
            max_length=200,
            pattern=r"^[^/\\]+$",
            description="The name that the recipient sees; by default the file's own.",
        ),
    ] = None
    media_type: Annotated[
        str | None,
        Field(
            pattern=r"^(application|audio|font|image|model|text|video)/[A-Za-z0-9.+-]{1,100}$",
            description="Such as `application/pdf`; by default derived from the name.",
        ),
    ] = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if len([name for name in _FILE_SOURCES if getattr(self, name) is not None]) != 1:
            raise invalid("needs exactly one of file, path and url")
        if self.path is not None:
            _check_path(self.path)
        if self.name is not None:
            _check_one_line(self.name)
        return self


class SendEmail(Payload):
    """One mail."""

    CHECK_IN_THREAD = True  # its templates are compiled

    to: Annotated[
        Addresses,
        Field(min_length=1, description='An address such as `"Ann <ann@example.com>"`, or a list of them.'),
    ]
    cc: Annotated[Addresses, Field(description="Further recipients, visible to all.")] = Field(
        default_factory=list
    )
    bcc: Annotated[Addresses, Field(description="Further recipients, visible to nobody.")] = Field(
        default_factory=list
    )
    sender: Annotated[Address | None, Field(description="The sender; by default `smtp.sender`.")] = None
    reply_to: Annotated[Addresses, Field(description="Addresses for replies.")] = Field(default_factory=list)
    subject: Annotated[
        NotBlank,
        Field(max_length=MAX_SUBJECT_CHARS, description="The subject, one line."),
        AfterValidator(_check_one_line),
    ]
    text: Annotated[NotBlank | None, Field(max_length=200_000, description="The plain-text body.")] = None
    html: Annotated[
        NotBlank | None,
        Field(max_length=200_000, description="The HTML body. At least one of `text` and `html` is required."),
    ] = None
    variables: Annotated[
        dict[str, JsonValue] | None,
        Field(
            description="Makes `subject`, `text` and `html` templates: `Hello {{ name }}`. "
            "What goes into `html` is escaped."
        ),
    ] = None
    attachments: Annotated[
        list[Attachment],
        Field(
            max_length=MAX_ATTACHMENTS, description="Files: each `file`, `path` or `url`, `name`, `media_type`."
        ),
    ] = Field(default_factory=list)
    headers: Annotated[
        dict[HeaderName, HeaderValue],
        Field(max_length=MAX_HEADERS, description=f"Further headers: {_FREE_HEADERS_TEXT}."),
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.text is None and self.html is None:
            raise invalid("needs text, html or both")
        if len(self.recipients) > MAX_RECIPIENTS:
            raise invalid(f"has {len(self.recipients)} recipients; at most {MAX_RECIPIENTS} go in one mail")
        for name in ("subject", "text", "html") if self.variables is not None else ():
            try:
                templates.check(getattr(self, name) or "")
            except ValueError as error:
                raise invalid(f"{name}: {error}") from None
        return self

    @property
    def recipients(self) -> tuple[str, ...]:
        """The plain addresses of to, cc and bcc, each once."""
        every = (*self.to, *self.cc, *self.bcc)
        return tuple(dict.fromkeys(read_mailbox(text).address for text in every))
