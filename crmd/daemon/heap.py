"""Gives memory that large bodies, imports and lists have left free back to the system."""

from __future__ import annotations

import asyncio
import ctypes
import os
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
