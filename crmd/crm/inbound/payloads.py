"""Reads Meta's webhook: statuses, messages, and what crmd has no use for. Unknown fields are not mistakes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, cast, get_args

from pydantic import Field

from crmd.crm.contacts.phones import is_wa_id
from crmd.crm.contacts.repository import MAX_NAME
from crmd.crm.messages.statuses import StatusUpdate, WebhookStatus
from crmd.crm.payload import Payload

_ITEMS: Mapping[str, Sequence[str]] = {
    "messages": ("statuses", "messages"),
    "user_preferences": ("user_preferences",),
}
"""The fields of Meta's webhook that are read, and the lists in their values."""
_STATUSES = frozenset(get_args(WebhookStatus))
_NOT_FROM_PEOPLE = frozenset({"system"})
"""Types of messages that WhatsApp itself writes, such as that a number changed."""
_WRITTEN = frozenset(
    {
        "text",
        "button",
        "interactive",
        "image",
        "video",
        "audio",
        "document",
        "sticker",
        "location",
        "contacts",
        "order",
    }
)
"""Types of messages by which people say something. Others are reactions, edits, what was taken back, and what
WhatsApp could not show: nobody answers a question by them."""
_ABOUT_ANOTHER = frozenset({"reaction", "edit", "revoke"})
"""Types that are about an earlier message: they do not open WhatsApp's 24 hours of free-form messages."""
LATE_SECONDS = 24 * 3600.0
"""WhatsApp's service window: what was written longer ago can no longer be answered with free text."""
_MAX_LABEL = 64
_MAX_ID = 256


class WhatsAppEvent(Payload):
    """An event of Meta's webhook, as it came."""

    object: Annotated[
        str, Field(description="What the event is about; Meta sends `whatsapp_business_account`.")
    ] = "whatsapp_business_account"
    entry: Annotated[
        list[Any], Field(description="Meta's entries, each with `changes`: a `field` and its `value`.")
    ]


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message from a person."""

    wamid: str
    phone: str
    """E.164."""
    name: str | None
    """As its sender is called in WhatsApp."""
    type: str
    text: str | None
    at: datetime
    private: bool = True
    """Whether it was written to the business alone, not to a group."""
    said: tuple[str, ...] = ()
    """What may be an opt-out word: its text, or what was chosen and its id."""
    readable: bool = True
    """Whether WhatsApp could hand over what was written."""

    @property
    def opens_window(self) -> bool:
        """Whether free-form messages are allowed for 24 hours from then on."""
        return self.private and self.type not in _ABOUT_ANOTHER

    def is_answer(self, now: datetime) -> bool:
        """Whether flows may take it as something that a person just said to the business."""
        fresh = (now - self.at).total_seconds() <= LATE_SECONDS
        return self.private and self.readable and fresh and self.type in _WRITTEN


@dataclass(frozen=True, slots=True)
class MarketingChoice:
    """What a person chose by WhatsApp's own button."""

    phone: str
    """E.164."""
    wanted: bool
    """Whether the person wants marketing."""
    at: datetime


@dataclass(slots=True)
class Event:
    """What an event says to crmd."""

    statuses: list[StatusUpdate] = field(default_factory=list)
    messages: list[Inbound] = field(default_factory=list)
    choices: list[MarketingChoice] = field(default_factory=list)
    numberless: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    """Messages whose sender WhatsApp does not give by a phone number: their ids, and what they say."""
    ignored: Counter[str] = field(default_factory=Counter)
    """What crmd has no use for, by kind."""
    malformed: list[str] = field(default_factory=list)
    """What cannot be read, by place and reason."""


class _Malformed(ValueError):
    """Where, and what is wrong there."""


def read_event(payload: WhatsAppEvent, phone_number_id: str) -> Event:
    """Reads an event; with a `phone_number_id` what is about another number of the account is ignored."""
    event = Event()
    for place, change in _changes(payload, event):
        name = change.get("field")
        if not isinstance(name, str):
            event.malformed.append(f"{place}.field is not text")
            continue
        if name not in _ITEMS:
            event.ignored[_label("field", name)] += 1
            continue
        value = change.get("value")
        if not isinstance(value, dict):
            event.malformed.append(f"{place}.value is not an object")
            continue
        number = _object(value.get("metadata")).get("phone_number_id")
        if phone_number_id and number is not None and str(number) != phone_number_id:
            event.ignored["another number"] += 1
            continue
        _read_value(value, _ITEMS[name], f"{place}.value", event)
    return event


def _changes(payload: WhatsAppEvent, event: Event) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, entry in enumerate(payload.entry):
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list):
            event.malformed.append(f"entry.{number}.changes is not a list")
            continue
        for index, change in enumerate(changes):
            place = f"entry.{number}.changes.{index}"
            if isinstance(change, dict):
                yield place, change
            else:
                event.malformed.append(f"{place} is not an object")


def _read_value(value: dict[str, Any], kinds: Sequence[str], place: str, event: Event) -> None:
    names = {
        str(contact.get("wa_id")): _object(contact.get("profile")).get("name")
        for contact in map(_object, _list(value.get("contacts")))
    }
    if value.get("errors"):
        event.ignored["errors"] += 1
    for kind in kinds:
        items = value.get(kind)
        if items is not None and not isinstance(items, list):
            event.malformed.append(f"{place}.{kind} is not a list")
        for index, item in enumerate(_list(items)):
            try:
                if not isinstance(item, dict):
                    raise _Malformed(f"{place}.{kind}.{index} is not an object")
                if kind == "statuses":
                    _read_status(item, f"{place}.{kind}.{index}", event)
                elif kind == "messages":
                    _read_message(item, f"{place}.{kind}.{index}", names, event)
                else:
                    _read_choice(item, f"{place}.{kind}.{index}", event)
            except _Malformed as error:
                event.malformed.append(str(error))


def _read_status(item: dict[str, Any], place: str, event: Event) -> None:
    status = item.get("status")
    if not isinstance(status, str):
        raise _Malformed(f"{place}.status is not text")
    if status not in _STATUSES:
        event.ignored[_label("status", status)] += 1
        return
    error = _object(next(iter(_list(item.get("errors"))), None))
    code, callback = error.get("code"), item.get("biz_opaque_callback_data")
    event.statuses.append(
        StatusUpdate(
            wamid=_id(item, place),
            status=cast(WebhookStatus, status),
            at=_instant(item, place),
            job_key=callback if isinstance(callback, str) and callback else None,
            error_code=str(code)[:_MAX_LABEL] if isinstance(code, int | str) else None,
            error=_text(
                _object(error.get("error_data")).get("details") or error.get("message") or error.get("title")
            ),
            recipient=_phone(item.get("recipient_id")) if item.get("recipient_type") != "group" else None,
        )
    )


def _read_message(item: dict[str, Any], place: str, names: dict[str, Any], event: Event) -> None:
    kind = item.get("type")
    if not isinstance(kind, str | None):
        raise _Malformed(f"{place}.type is not text")
    if kind in _NOT_FROM_PEOPLE:
        event.ignored[_label("message", kind)] += 1
        return
    phone = _phone(item.get("from"))
    if phone is None:
        event.ignored["message without a phone number"] += 1
        if not item.get("group_id"):
            event.numberless.append((str(item.get("id"))[:_MAX_ID], words_of(item)))
        return
    name = names.get(phone[1:])
    event.messages.append(
        Inbound(
            wamid=_id(item, place),
            phone=phone,
            name=name.strip()[:MAX_NAME] or None if isinstance(name, str) else None,
            type=(kind or "unknown")[:_MAX_LABEL],
            text=text_of(item),
            at=_instant(item, place),
            said=words_of(item),
            private=not item.get("group_id"),
            readable=not item.get("errors"),
        )
    )


def _read_choice(item: dict[str, Any], place: str, event: Event) -> None:
    category, value = item.get("category"), item.get("value")
    if not isinstance(category, str) or not isinstance(value, str):
        raise _Malformed(f"{place} has a category or a value that is not text")
    if category != "marketing_messages" or value not in ("stop", "resume"):
        event.ignored[_label("preference", f"{category} {value}")] += 1
        return
    phone = _phone(item.get("wa_id"))
    if phone is None:
        event.ignored["preference without a phone number"] += 1
        return
    event.choices.append(MarketingChoice(phone, value == "resume", _instant(item, place)))


def _phone(wa_id: object) -> str | None:
    """A WhatsApp id as E.164, where it is a phone number."""
    return f"+{wa_id}" if isinstance(wa_id, str) and is_wa_id(wa_id) else None


def _id(item: dict[str, Any], place: str) -> str:
    found = item.get("id")
    if not isinstance(found, str) or not 0 < len(found) <= _MAX_ID:
        raise _Malformed(f"{place}.id is not an id")
    return found


def _instant(item: dict[str, Any], place: str) -> datetime:
    seconds = item.get("timestamp")
    try:
        if isinstance(seconds, bool) or not isinstance(seconds, str | int):
            raise ValueError
        return datetime.fromtimestamp(int(seconds), UTC)
    except (ValueError, OverflowError, OSError):
        raise _Malformed(f"{place}.timestamp is not a time in epoch seconds") from None


def _label(kind: str, name: object) -> str:
    return f"{kind} {name}"[:_MAX_LABEL]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# What an inbound message says, whatever its type: the text that people wrote or chose


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
