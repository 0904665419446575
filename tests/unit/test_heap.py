"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes

import pytest

from crmd.daemon import heap
from crmd.daemon.heap import SPARE_BYTES, Heap

BLOCK_BYTES = 100_000


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="glibc alone can trim its heap")
async def test_what_is_free_below_a_live_block_is_given_back() -> None:
    ours = Heap()
    blocks, live = [], []
    for _ in range(2 * SPARE_BYTES // BLOCK_BYTES):
        blocks.append(b"x" * BLOCK_BYTES)
        live.append(bytearray(1_000))
    del blocks
    held = heap._resident_bytes()

    await ours.trim()

    assert held - heap._resident_bytes() > SPARE_BYTES
    assert live
