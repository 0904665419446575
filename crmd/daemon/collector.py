"""Python's garbage collector, tuned for a process that makes many short-lived objects."""

from __future__ import annotations

import gc

YOUNG = 20_000
"""So many more objects made than freed, and the youngest are looked at; a job frees its own twenty itself."""
MIDDLE = 20
OLD = 50


def tune_collector() -> None:
    """Collects seldom, and never what lives as long as the process. To be called once everything is loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
