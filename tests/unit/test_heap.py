"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from crmd.daemon.process import SPARE_BYTES

BLOCK_BYTES = 100_000
PROGRAM = """
import asyncio, sys
from crmd.daemon import process as heap

async def main(blocks, size):
    ours = heap.Heap()
    full, live = [], []
    for _ in range(blocks):
        full.append(b"x" * size)
        live.append(bytearray(1_000))
    del full
    held = heap._resident_bytes()
    await ours.trim()
    assert live
    print(held - heap._resident_bytes())

asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone can trim its heap")
def test_what_is_free_below_a_live_block_is_given_back() -> None:
    """In a process of its own: the heap of a long test run has room that nothing here made."""
    command = [sys.executable, "-c", PROGRAM, str(2 * SPARE_BYTES // BLOCK_BYTES), str(BLOCK_BYTES)]
    assert int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) > SPARE_BYTES
