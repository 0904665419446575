"""Python's garbage collector, tuned for a process that makes many short-lived objects."""

from __future__ import annotations

import gc

YOUNG = 10_000
"""So many more objects made than freed, and the youngest are looked at, for 5 ms. A job frees its own."""
MIDDLE = 5
"""Looks at the youngest, and all that survived them are looked at, for 20 ms at most."""
OLD = 100
"""Looks at those, and everything is looked at that was made since the start."""


def tune_collector() -> None:
    """Collects seldom, and never what lives as long as the process. To be called once everything is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
