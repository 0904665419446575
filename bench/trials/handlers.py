"""The handler of `crmd run` in a benchmark."""

from __future__ import annotations

from typing import Any

from bench.trials.peer import RESULT, Payload
from crmd import job


@job("bench")
async def work(_context: Any, _payload: Payload) -> dict[str, Any]:
    """Does nothing and returns the same as its peers."""
    return RESULT
