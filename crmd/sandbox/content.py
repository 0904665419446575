"""Checks a message as the Cloud API does: what is missing or wrong, and which error code says so."""

from __future__ import annotations

import re
from typing import Any

MAX_TEXT = 4096
MAX_CALLBACK_DATA = 512
_TO = re.compile(r"\+?[0-9]{5,20}")
_TOP_KEYS = frozenset(
    {"messaging_product", "recipient_type", "to", "type", "context", "biz_opaque_callback_data", "ttl"}
)
_MEDIA = frozenset({"image", "document", "audio", "video", "sticker"})
_TYPES = _MEDIA | {"text", "template", "interactive", "location", "reaction", "contacts"}
_REQUIRED: dict[str, tuple[str, ...]] = {
    "text": ("body",),
    "template": ("name", "language"),
    "interactive": ("type", "action"),
    "location": ("latitude", "longitude"),
    "reaction": ("message_id",),
}


class Refusal(ValueError):
    """The message is not one."""

    def __init__(self, code: int, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


def check(message: dict[str, Any]) -> None:
    """Raises Refusal for what the API would not take."""
    _check_envelope(message)
    kind = message.get("type", "text")
    if kind not in _TYPES:
        raise Refusal(131051, f"Unsupported message type: {kind}")
    for key in message:
        if key not in _TOP_KEYS and key != kind:
            raise Refusal(100, f"Unexpected key {key!r}")
    content = message.get(kind)
    if kind == "contacts":
        if not isinstance(content, list) or not content:
            raise Refusal(131008, "Required parameter is missing: contacts")
        return
    if not isinstance(content, dict):
        raise Refusal(131008, f"Required parameter is missing: {kind}")
    _check_content(kind, content)


def summary(message: dict[str, Any]) -> str:
    """What a person would see of it, in a line or a few."""
    kind = str(message.get("type", "text"))
    content = message.get(kind)
    if not isinstance(content, dict):
        return kind
    if kind == "text":
        return str(content.get("body", ""))
    if kind == "template":
        values = [value for part in content.get("components") or [] for value in _values(part)]
        shown = f" · {', '.join(values)}" if values else ""
        return f"{content.get('name')} ({_language(content)}){shown}"
    if kind == "interactive":
        body = content.get("body")
        return str(body.get("text", kind)) if isinstance(body, dict) else kind
    if kind == "reaction":
        return str(content.get("emoji") or "reaction taken back")
    if kind == "location":
        return f"{content.get('latitude')}, {content.get('longitude')}"
    return str(content.get("caption") or content.get("filename") or content.get("link") or content.get("id"))


def _check_envelope(message: dict[str, Any]) -> None:
    if message.get("messaging_product") != "whatsapp":
        raise Refusal(100, "The parameter messaging_product is required.")
    if message.get("recipient_type", "individual") != "individual":
        raise Refusal(100, "Param recipient_type must be one of {INDIVIDUAL}")
    to = message.get("to")
    if not isinstance(to, str) or not to:
        raise Refusal(100, "The parameter to is required.")
    if not _TO.fullmatch(to):
        raise Refusal(131009, "Parameter value is not valid: to is not a phone number")
    data = message.get("biz_opaque_callback_data", "")
    if not isinstance(data, str) or len(data) > MAX_CALLBACK_DATA:
        raise Refusal(131009, f"biz_opaque_callback_data must be text of at most {MAX_CALLBACK_DATA} characters")
    context = message.get("context")
    if context is not None and not (isinstance(context, dict) and context.get("message_id")):
        raise Refusal(131009, "Parameter value is not valid: context needs message_id")


def _check_content(kind: str, content: dict[str, Any]) -> None:
    for name in _REQUIRED.get(kind, ()):
        if content.get(name) in (None, ""):
            raise Refusal(131008, f"Required parameter is missing: {kind}.{name}")
    if kind in _MEDIA and not (content.get("id") or content.get("link")):
        raise Refusal(131008, f"Required parameter is missing: {kind} needs id or link")
    if kind == "text" and not 0 < len(str(content["body"])) <= MAX_TEXT:
        raise Refusal(100, f"Param text['body'] must be at most {MAX_TEXT} characters long.")
    if kind == "template" and not (isinstance(content["language"], dict) and content["language"].get("code")):
        raise Refusal(131008, "Required parameter is missing: template.language.code")


def _language(template: dict[str, Any]) -> str:
    language = template.get("language")
    return str(language.get("code")) if isinstance(language, dict) else ""


def _values(component: Any) -> list[str]:
    parameters = component.get("parameters") if isinstance(component, dict) else None
    return [str(one["text"]) for one in parameters or [] if isinstance(one, dict) and "text" in one]
