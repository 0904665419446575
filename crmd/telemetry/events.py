"""Code emits events; only subscribers log or count them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from crmd.telemetry.throttle import Throttle

Subscriber = Callable[[str, Mapping[str, Any]], None]

_log = logging.getLogger(__name__)


class Events:
    """A bus inside one process. Subscribers are called at once, in the order they came."""

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Calls `subscriber(name, fields)` for each event from now on; returns what ends that."""
        self._subscribers = (*self._subscribers, subscriber)

        def unsubscribe() -> None:
            self._subscribers = tuple(kept for kept in self._subscribers if kept is not subscriber)

        return unsubscribe

    def emit(self, name: str, /, **fields: Any) -> None:
        """Says that something happened; never raises."""
        for subscriber in self._subscribers:
            try:
                subscriber(name, fields)
            except Exception:
                _log.exception("a subscriber failed on the event %s", name)


LEVELS: Mapping[str, int] = {
    "job.failed": logging.WARNING,
    "job.unknown": logging.ERROR,
    "job.lost": logging.WARNING,
    "job.poisoned": logging.ERROR,
    "job.quarantined": logging.ERROR,
    "job.slot_leaked": logging.ERROR,
    "job.stale": logging.WARNING,
    "job.retried": logging.INFO,
    "job.cancelled": logging.INFO,
    "job.given_back": logging.INFO,
    "job.rate_limited": logging.INFO,
    "queue.paused": logging.WARNING,
    "queue.resumed": logging.INFO,
    "queue.limited": logging.INFO,
    "queue.degraded": logging.ERROR,
    "queue.foreign_worker": logging.WARNING,
    "schedule.skipped": logging.INFO,
    "schedule.paused": logging.WARNING,
    "schedule.resumed": logging.INFO,
    "store.connected": logging.INFO,
    "store.loading": logging.INFO,
    "store.lost": logging.ERROR,
    "store.back": logging.WARNING,
    "store.writes_refused": logging.ERROR,
    "store.writes_taken": logging.WARNING,
    "store.clock_set": logging.WARNING,
    "store.exited": logging.ERROR,
    "store.restarted": logging.WARNING,
    "store.restart_failed": logging.ERROR,
    "store.orphan_ended": logging.WARNING,
    "store.tail_cut": logging.ERROR,
}
"""Level of an event's log line; all others are debug."""

BURST = 10
"""Lines of one cause that are shown before it is held to one a second."""


def log_subscriber(logger: logging.Logger | None = None, *, throttle: Throttle | None = None) -> Subscriber:
    """A subscriber that writes events as log lines, at most one a second for each cause.

    An event of many `jobs`, each its key, name, attempt and seconds, is a line for each of them.
    """
    logger = logger or logging.getLogger("crmd.events")
    throttle = throttle or Throttle(1.0, burst=BURST)

    def write(name: str, fields: Mapping[str, Any]) -> None:
        level = LEVELS.get(name, logging.DEBUG)
        if not logger.isEnabledFor(level):
            return
        if "jobs" in fields:
            for key, job, attempt, seconds in fields["jobs"]:
                write(
                    name,
                    {"queue": fields["queue"], "job": job, "key": key, "attempt": attempt, "seconds": seconds},
                )
            return
        suppressed = throttle.allow((name, fields.get("queue"), fields.get("job")))
        if suppressed is None:
            return
        shown = dict(fields, suppressed=suppressed) if suppressed else dict(fields)
        logger.log(level, name, extra={"fields": shown})

    return write
