"""What an inbound message says, whatever its type: the text that people wrote or chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Content = Mapping[str, Any]


def text_of(message: Content) -> str | None:
    """The text of a message as Meta's webhook has it; None for a type without one, or that nobody described."""
    kind = message.get("type")
    content = message.get(kind) if isinstance(kind, str) else None
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None or not isinstance(content, Mapping):
        return None
    text = reader(content)
    return text if isinstance(text, str) and text else None


def _member(name: str) -> Callable[[Content], Any]:
    return lambda content: content.get(name)


def _new_text(content: Content) -> Any:
    """What an edited message says now."""
    message = content.get("message")
    return text_of(message) if isinstance(message, Mapping) and message.get("type") != "edit" else None


def _chosen(content: Content) -> Any:
    """What was pressed: a button, a row of a list, or the end of a flow."""
    kind = content.get("type")
    reply = content.get(kind) if isinstance(kind, str) else None
    if not isinstance(reply, Mapping):
        return None
    return reply.get("title") or reply.get("body") or reply.get("name")


_READERS: Mapping[str, Callable[[Content], Any]] = {
    "text": _member("body"),
    "button": _member("text"),
    "interactive": _chosen,
    "reaction": _member("emoji"),
    "edit": _new_text,
    "image": _member("caption"),
    "video": _member("caption"),
    "document": lambda content: content.get("caption") or content.get("filename"),
    "location": lambda content: content.get("name") or content.get("address"),
}
