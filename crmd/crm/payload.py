"""What the payloads of all shipped jobs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Payload(BaseModel):
    """A closed model: an unknown field is an error, not ignored."""

    CHECK_IN_THREAD: ClassVar[bool] = False
    """Whether to check one may take tens of milliseconds, too long for the event loop."""

    # Most daemons run few of the jobs: what checks a payload is built when the first of its kind comes.
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def invalid(message: str) -> PydanticCustomError:
    """An error of a validator whose message is shown as it is."""
    return PydanticCustomError("invalid", "{message}", {"message": message})


def checked_by(check: Callable[[str], object]) -> AfterValidator:
    """Refuses a text for which `check` raises ValueError; the error's message is shown as it is."""

    def validate(text: str) -> str:
        try:
            check(text)
        except ValueError as error:
            raise invalid(str(error)) from None
        return text

    return AfterValidator(validate)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise invalid("must not be blank")
    return text


NotBlank = Annotated[str, AfterValidator(_not_blank)]
Link = Annotated[str, Field(max_length=2048, pattern=r"^https?://[^\s/@]+(?:/\S*)?$")]
