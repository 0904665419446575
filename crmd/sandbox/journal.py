"""What arrived at the stand-ins: the last entries of each kind, and whoever watches them arrive."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

MAX_TEXT = 4000
"""Characters kept of one text."""
WATCHER_BACKLOG = 500
"""Changes that a slow watcher may lag behind; then it is told to read everything again."""


class Kind(StrEnum):
    """What an entry is about."""

    MESSAGE = "message"
    """Taken or refused by the Cloud API."""
    INBOUND = "inbound"
    """From a user, sent to the callback."""
    MAIL = "mail"
    WEBHOOK = "webhook"
    AI = "ai"
    NOTICE = "notice"
    """A notification to people."""


@dataclass(slots=True)
class Entry:
    """One arrival; `fields` may change later, as statuses follow."""

    id: int
    kind: Kind
    at: float
    """Epoch seconds."""
    fields: dict[str, Any]

    def json(self) -> dict[str, Any]:
        """As the page gets it."""
        return {"id": self.id, "kind": self.kind, "at": self.at, **self.fields}


class Journal:
    """Keeps `keep` entries of each kind, and counts all that ever came."""

    def __init__(self, keep: int = 1000, clock: Callable[[], float] = time.time) -> None:
        self.totals: Counter[str] = Counter()
        self._clock = clock
        self._ids = itertools.count(1)
        self._entries: dict[Kind, deque[Entry]] = {kind: deque(maxlen=keep) for kind in Kind}
        self._watchers: set[asyncio.Queue[dict[str, Any]]] = set()

    def add(self, kind: Kind, **fields: Any) -> Entry:
        """Notes an arrival."""
        entry = Entry(next(self._ids), kind, self._clock(), fields)
        self._entries[kind].append(entry)
        self.totals[kind] += 1
        self._tell({"entry": entry.json(), "totals": dict(self.totals)})
        return entry

    def change(self, entry: Entry, **fields: Any) -> None:
        """Notes what became of an arrival."""
        entry.fields.update(fields)
        self._tell({"entry": entry.json(), "totals": dict(self.totals)})

    def entries(self, kind: Kind) -> list[Entry]:
        """What is kept of a kind, oldest first."""
        return list(self._entries[kind])

    def snapshot(self) -> dict[str, Any]:
        """Everything that is kept."""
        entries = [entry.json() for kept in self._entries.values() for entry in kept]
        return {"entries": entries, "totals": dict(self.totals)}

    def clear(self) -> None:
        """Forgets everything."""
        for kept in self._entries.values():
            kept.clear()
        self.totals.clear()
        self._tell({"reload": True})

    def touch(self) -> None:
        """Tells all watchers that something beside the journal changed."""
        self._tell({})

    def end(self) -> None:
        """Tells all watchers that nothing follows."""
        self._tell({"end": True})

    @contextmanager
    def watch(self) -> Iterator[asyncio.Queue[dict[str, Any]]]:
        """Changes as they come."""
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(WATCHER_BACKLOG)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    def _tell(self, change: dict[str, Any]) -> None:
        for queue in self._watchers:
            if queue.full():
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait({"reload": True})
            queue.put_nowait(change)


def excerpt(value: Any) -> str:
    """A text, cut to what is kept."""
    text = str(value)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"
