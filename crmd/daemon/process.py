"""What the process uses of the machine: memory that is given back, garbage collections, open files."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
from pathlib import Path

SPARE_BYTES = 32 * 1024 * 1024
"""Left to the heap, which takes it again soon: giving back 100 MiB holds the process for some 10 ms."""


class Heap:
    """The C library's heap. What is free below its last live block stays resident until it is trimmed."""

    def __init__(self) -> None:
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc
        if self._trim:
            self._trim(0)  # what the start has left free
        self._kept_bytes = _resident_bytes() if self._trim else 0
        """The least that was resident since the last trimming."""

    async def trim(self) -> None:
        """Gives back what is free, once SPARE_BYTES more are resident than after the last time."""
        if self._trim is None:
            return
        resident = _resident_bytes()
        if resident - self._kept_bytes > SPARE_BYTES:
            await asyncio.to_thread(self._trim, 0)
            self._kept_bytes = _resident_bytes()
        else:
            self._kept_bytes = min(self._kept_bytes, resident)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# Python's garbage collector, tuned for a process that makes many short-lived objects


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


# How many files and sockets the process may open


WANTED_FILES = 4096
"""A thousand HTTP connections, and what handlers open. The usual soft limit of 1,024 is there for select()."""


def raise_file_limit() -> None:
    """Raises the soft limit to WANTED_FILES, or as far as the hard limit allows; never lowers it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
