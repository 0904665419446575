"""Cuts a large event of Meta's webhook into smaller ones of the same shape: a job has 256 KiB at most."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

SMALL_BYTES = 80 * 1024
"""An event up to this is one job: JSON gets three times as long at most where all of it has to be escaped."""
PART_BYTES = 160 * 1024
"""Of a part's JSON, escaped: as long as it can get."""
RECENT_SECONDS = 10.0
"""Meta's timestamps are whole seconds, and a median webhook takes a quarter of one."""
_LISTS = ("messages", "statuses", "user_preferences")


def parts(event: dict[str, Any], raw_bytes: int) -> list[dict[str, Any]]:
    """The event, or several that say the same together. What one item says is never cut."""
    if raw_bytes <= SMALL_BYTES or not isinstance(event.get("entry"), list):
        return [event]
    found: list[dict[str, Any]] = []
    room = 0
    for entry, change in _changes(event["entry"]):
        size = _size(change)
        if size > room or not found:
            found.append({**event, "entry": []})
            room = PART_BYTES
        found[-1]["entry"].append(entry if change is None else {**entry, "changes": [change]})
        room -= size
    return found


def _changes(entries: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
    """Each change with its entry, cut where it is large. What has no changes comes as it is: the job tells."""
    for entry in entries:
        changes = entry.get("changes") if isinstance(entry, dict) else None
        if not isinstance(changes, list):
            yield entry, None
            continue
        for change in changes:
            for piece in _pieces(change):
                yield entry, piece


def _pieces(change: Any) -> Iterator[Any]:
    value = change.get("value") if isinstance(change, dict) else None
    if not isinstance(value, dict) or _size(change) <= PART_BYTES:
        yield change
        return
    rest = {name: content for name, content in value.items() if name not in (*_LISTS, "contacts")}
    for name in _LISTS:
        items = value.get(name)
        for some in _slices(items) if isinstance(items, list) else ():
            yield {**change, "value": {**rest, **_senders(value, name, some), name: some}}


def received(events: Sequence[dict[str, Any]], phone_number_id: str, now: float) -> int:
    """How many messages people wrote to the number within the last RECENT_SECONDS; `now` is epoch seconds.

    What Meta sends again later was counted for its rate when it was written.
    """
    count = 0
    for event in events:
        for entry in _objects(event.get("entry")):
            for change in _objects(entry.get("changes")):
                [value] = _objects([change.get("value")]) or [{}]
                [metadata] = _objects([value.get("metadata")]) or [{}]
                if metadata.get("phone_number_id") == phone_number_id:
                    count += sum(_is_recent(message, now) for message in _objects(value.get("messages")))
    return count


def _objects(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


def _is_recent(message: dict[str, Any], now: float) -> bool:
    written_at = message.get("timestamp")
    return isinstance(written_at, str) and written_at.isdecimal() and now - int(written_at[:20]) <= RECENT_SECONDS


def _slices(items: Sequence[Any]) -> Iterator[list[Any]]:
    some: list[Any] = []
    room = PART_BYTES // 2  # the rest of the change comes on top
    for item in items:
        size = _size(item)
        if some and size > room:
            yield some
            some, room = [], PART_BYTES // 2
        some.append(item)
        room -= size
    if some:
        yield some


def _senders(value: dict[str, Any], name: str, some: Sequence[Any]) -> dict[str, Any]:
    """What the event says of the people who wrote these messages."""
    contacts = value.get("contacts")
    if name != "messages" or not isinstance(contacts, list):
        return {}
    senders = {item.get("from") for item in some if isinstance(item, dict) and isinstance(item.get("from"), str)}
    return {"contacts": [one for one in contacts if isinstance(one, dict) and _is_of(one, senders)]}


def _is_of(contact: dict[str, Any], senders: set[Any]) -> bool:
    number = contact.get("wa_id")
    return isinstance(number, str) and number in senders


def _size(data: Any) -> int:
    return len(json.dumps(data))
