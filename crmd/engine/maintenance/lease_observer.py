"""Which daemons are dead: those that did not renew their leases while we observed for a whole lease."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from crmd.engine.maintenance.heartbeat import LEASE_S

LONGEST_GAP_S = 2.0
"""Between two looks at most this long counts: what kept us from looking may have kept others from renewing."""
EXPIRED_AT_ONCE = 100
"""Daemons found dead with one look; the next finds the others."""
UNLISTED = ""
"""The entry of a daemon that is not in the list."""


@dataclass(slots=True)
class _Watched:
    entry: str
    since: float
    """When the entry was first seen as it is, on the observer's clock."""


class LeaseObserver:
    """Watches the list of daemons once a second.

    The entries are compared with themselves, not with the store's clock, which may be set while we watch. An entry
    that stayed as it is for a whole lease is a dead daemon's. A break in our own connection, and a renewal of ours
    that failed, begin the watch again: nobody may have been able to renew.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._daemons: dict[str, _Watched] = {}
        self._connection = 0.0
        self._watched_s = 0.0
        self._asked_at: float | None = None

    def ask(self, connected_since: float) -> None:
        """A look at the list is about to be sent, on the connection that was made then."""
        now = self._monotonic()
        if connected_since != self._connection:
            self.restart()
            self._connection = connected_since
        if self._asked_at is not None:
            self._watched_s += min(now - self._asked_at, LONGEST_GAP_S)
        self._asked_at = now

    def listed(self, entries: Mapping[str, str]) -> None:
        """What the look brought: each daemon's entry.

        Leaving the list is not a sign of life: who is gone from it keeps its time.
        """
        if self._asked_at is None:
            return  # the watch was started again while the look was under way
        seen_at = self._watched_s + self._monotonic() - self._asked_at
        for instance_id, watched in self._daemons.items():
            if instance_id not in entries:
                watched.entry = UNLISTED
        for instance_id, entry in entries.items():
            known = self._daemons.get(instance_id)
            if known is None or known.entry != entry:
                self._daemons[instance_id] = _Watched(entry, seen_at)

    def found_unlisted(self, instance_ids: Iterable[str]) -> None:
        """Daemons that hold leases and are not in the list."""
        for instance_id in instance_ids:
            self._daemons.setdefault(instance_id, _Watched(UNLISTED, self._watched_s))

    def dead(self) -> dict[str, str]:
        """Daemons whose entry has not changed for a whole lease, and the entry."""
        last = self._watched_s - LEASE_S
        found = ((instance_id, one.entry) for instance_id, one in self._daemons.items() if one.since <= last)
        return dict(islice(found, EXPIRED_AT_ONCE))

    def forget(self, instance_ids: Iterable[str]) -> None:
        """Stops watching daemons that hold no leases. One that is listed is met again with the next look."""
        for instance_id in instance_ids:
            self._daemons.pop(instance_id, None)

    def restart(self) -> None:
        """Everybody gets a whole lease from now on."""
        self._daemons.clear()
        self._asked_at = None
