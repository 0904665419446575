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


def words_of(message: Content) -> tuple[str, ...]:
    """By what a message may say that its sender wants no more of them: what was written, or chosen and its id."""
    kind = message.get("type")
    content = message.get(kind) if isinstance(kind, str) else None
    if not isinstance(content, Mapping):
        return ()
    said: tuple[Any, ...]
    match kind:
        case "text":
            said = (content.get("body"),)
        case "button":
            said = (content.get("text"), content.get("payload"))
        case "interactive":
            reply = _reply(content)
            said = (reply.get("title"), reply.get("id"))
        case "image" | "video" | "document":
            said = (content.get("caption"),)
        case "edit":
            changed = content.get("message")
            return words_of(changed) if isinstance(changed, Mapping) and changed.get("type") != "edit" else ()
        case _:
            return ()
    return tuple(text for text in said if isinstance(text, str))


def _member(name: str) -> Callable[[Content], Any]:
    return lambda content: content.get(name)


def _new_text(content: Content) -> Any:
    """What an edited message says now."""
    message = content.get("message")
    return text_of(message) if isinstance(message, Mapping) and message.get("type") != "edit" else None


def _chosen(content: Content) -> Any:
    """What was pressed: a button, a row of a list, or the end of a flow."""
    reply = _reply(content)
    return reply.get("title") or reply.get("body") or reply.get("name")


def _reply(content: Content) -> Content:
    kind = content.get("type")
    reply = content.get(kind) if isinstance(kind, str) else None
    return reply if isinstance(reply, Mapping) else {}


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
