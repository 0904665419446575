"""The answers of a service that speaks OpenAI's protocol."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from crmd.crm.outbound.http import Answer, NotSent, json_object, retry_after_seconds

MAX_TEXT_BYTES = 150_000
"""Of one answer in UTF-8: it stands in the job's result, which may have 256 KiB of JSON."""
_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that an answer cost, as the service says; 0 where it does not."""

    input_tokens: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """The service gave a text."""

    text: str
    """At most MAX_TEXT_BYTES."""
    cut: bool
    """Whether there was more of it."""
    model: str | None
    """The model that answered, as the service names it."""
    finish_reason: str | None
    """`stop` where the model had come to its end; `length` where the limit of tokens cut it."""
    usage: Usage


@dataclass(frozen=True, slots=True)
class Refused:
    """The service answered with an error."""

    status: int
    code: str | None
    parameter: str | None
    message: str
    retry_after_seconds: float | None
    is_of_api: bool
    """Whether the error has the form of the API; else something else answered, such as a proxy."""

    def __str__(self) -> str:
        code = f" ({self.code})" if self.code else ""
        return f"the AI service answered {self.status}{code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Unclear:
    """The request may have been worked on, which costs tokens; no answer that can be used came."""

    reason: str


Outcome = Answered | Refused | NotSent | Unclear


def read_chat(answer: Answer) -> Outcome:
    """What an answer to a chat request says."""
    data = answer.json()
    if not 200 <= answer.status < 300:
        return _refused(answer, data)
    choices = data.get("choices")
    choice = json_object(choices[0]) if isinstance(choices, list) and choices else {}
    message = json_object(choice.get("message"))
    text = _text(message.get("content")) or _text(message.get("refusal"))
    if text is None and "message" not in choice:
        return _not_understood(answer)
    return Answered(
        *_bounded(text or ""),
        _word(data.get("model")),
        _word(choice.get("finish_reason")),
        _usage(data.get("usage")),
    )


def read_transcript(answer: Answer) -> Outcome:
    """What an answer to a recording says."""
    data = answer.json()
    if not 200 <= answer.status < 300:
        return _refused(answer, data)
    text = data.get("text")
    if not isinstance(text, str):
        return _not_understood(answer)
    return Answered(*_bounded(text), None, None, _usage(data.get("usage")))


def _bounded(text: str) -> tuple[str, bool]:
    encoded = text.strip().encode("utf-8", "replace")
    return encoded[:MAX_TEXT_BYTES].decode("utf-8", "ignore"), len(encoded) > MAX_TEXT_BYTES


def _refused(answer: Answer, data: dict[str, Any]) -> Refused:
    error = data.get("error")
    fields = json_object(error)
    # some services say only "error": "text", others "detail": "text"
    message = fields.get("message") or (error if isinstance(error, str) else None) or _word(data.get("detail"))
    code = fields.get("code") or fields.get("type")
    return Refused(
        answer.status,
        str(code)[:100] if code else None,
        _word(fields.get("param")),
        _line(str(message or answer.snippet())),
        retry_after_seconds(answer, time.time()),
        is_of_api=message is not None,
    )


def _not_understood(answer: Answer) -> Unclear:
    whole = "" if answer.complete else ", broken off"
    return Unclear(f"HTTP {answer.status} without an answer in it{whole}: {_line(answer.snippet())[:200]}")


def _usage(value: Any) -> Usage:
    found = json_object(value)
    given = found.get("prompt_tokens", found.get("input_tokens"))
    made = found.get("completion_tokens", found.get("output_tokens"))
    return Usage(_count(given), _count(made))


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else 0


def _text(content: Any) -> str | None:
    """A message's text, which some services give in parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(part["text"] for part in map(json_object, content) if isinstance(part.get("text"), str))
    return None


def _word(value: Any) -> str | None:
    return value[:200] if isinstance(value, str) and value else None


def _line(text: str) -> str:
    return " ".join(text.split())[:_MAX_REASON]
