"""schedule_claim: what changed since a daemon looked at the schedule."""

from __future__ import annotations

import pytest

from crmd.engine.store import keys, schedules
from crmd.engine.store.schedules import Claim
from tests.support.script_harness import ScriptHarness
from tests.support.storeclock import StoreClock

SEEN_MS = 60_000


async def claim(harness: ScriptHarness, clock: StoreClock) -> Claim:
    """A daemon that saw the schedule at SEEN_MS claims what is due now."""
    job = harness.new("scheduled", unique_ms=1_000)
    what, _ = await schedules.claim(harness.store, "a", harness.keys, SEEN_MS, clock.ms, job)
    return what


@pytest.mark.parametrize("change", ["paused", "another daemon was first"])
async def test_a_change_between_the_look_and_the_claim_adds_nothing(
    harness: ScriptHarness, clock: StoreClock, change: str
) -> None:
    await harness.redis("HSET", keys.schedule("a"), "position", SEEN_MS)
    if change == "paused":
        await schedules.pause(harness.store, "a", None, None)
    else:
        assert await claim(harness, clock) is Claim.CLAIMED
    before = await harness.lane()
    assert await claim(harness, clock) is Claim.OTHER
    assert await harness.lane() == before
    await harness.redis("DEL", keys.schedule("a"))
