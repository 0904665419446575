"""trim, and the trimming in settle: how many finished jobs stay, for how long, and what never goes."""

from __future__ import annotations

import pytest

from crmd.engine.settings import QueueSettings
from crmd.engine.store import scripts
from crmd.engine.store.client import Store
from crmd.engine.store.replies import AckKind
from crmd.engine.store.scripts import HARD_CAP
from tests.support.script_harness import ScriptHarness, document
from tests.support.storeclock import StoreClock

SMALL = QueueSettings("q", keep_completed=3, keep_failed=2, keep_min_seconds=0)
PATIENT = QueueSettings("q", keep_completed=3, keep_failed=2, keep_min_seconds=10)


async def kept(harness: ScriptHarness) -> list[str]:
    """The keys that have JSON."""
    names = [name async for name in harness.store.redis.scan_iter(harness.keys.job_prefix + "*")]
    return sorted(harness.keys.key_of(name.decode()) for name in names)


@pytest.mark.queues(SMALL)
async def test_the_last_ones_stay_by_the_time_of_their_end(harness: ScriptHarness, clock: StoreClock) -> None:
    for n in range(6):
        await harness.finish(f"c{n}")
        await harness.finish(f"f{n}", AckKind.FAILED)
        await harness.finish(f"x{n}", AckKind.ABORTED)
        await clock.forward(1)
    assert await kept(harness) == ["c3", "c4", "c5", "f4", "f5", "x3", "x4", "x5"]
    counts = await harness.scripts.counts()
    assert (counts.completed, counts.failed, counts.cancelled) == (3, 2, 3)
    # no_leaks sees that the timelines went with their jobs


@pytest.mark.queues(SMALL)
async def test_unknown_jobs_count_among_the_failed(harness: ScriptHarness, clock: StoreClock) -> None:
    for n in range(3):
        await harness.finish(f"u{n}", AckKind.UNKNOWN)
        await clock.forward(1)
    counts = await harness.scripts.counts()
    assert (counts.failed, counts.unknown) == (2, 2)


@pytest.mark.queues(PATIENT)
async def test_a_finished_job_stays_readable_for_a_while(harness: ScriptHarness, clock: StoreClock) -> None:
    for n in range(6):
        await harness.finish(f"c{n}")
        await clock.forward(1_000)
    assert len(await kept(harness)) == 6
    assert await harness.scripts.trim() == 0
    await clock.set(clock.ms - 6_000 + 9_999)
    assert await harness.scripts.trim() == 0
    await clock.forward(1)
    assert await harness.scripts.trim() == 1
    await clock.forward(60_000)
    assert await harness.scripts.trim() == 2
    assert await kept(harness) == ["c3", "c4", "c5"]


@pytest.mark.queues(PATIENT)
async def test_no_more_than_so_many_are_held_back(harness: ScriptHarness, clock: StoreClock) -> None:
    fillers = HARD_CAP + PATIENT.keep_completed
    for start in range(0, fillers, 1_000):
        pairs = [part for n in range(start, min(fillers, start + 1_000)) for part in (clock.ms - 1, f"x{n:05}")]
        await harness.redis("ZADD", harness.keys.completed, *pairs)
    for n in range(64):
        await harness.finish(f"a{n}")
        assert await harness.redis("ZCARD", harness.keys.completed) <= 10_000 + PATIENT.keep_completed
    assert await harness.redis("ZSCORE", harness.keys.completed, "x00000") is None


@pytest.mark.queues(QueueSettings("q", keep_age_seconds=60, keep_min_seconds=0))
async def test_an_age_applies_whatever_the_counts(harness: ScriptHarness, clock: StoreClock) -> None:
    await harness.finish("old")
    await clock.forward(30_000)
    await harness.finish("new")
    await clock.forward(30_000)
    assert await harness.scripts.trim() == 0
    await clock.forward(1)
    assert await harness.scripts.trim() == 1
    assert await kept(harness) == ["new"]


@pytest.mark.queues(QueueSettings("q", keep_completed=0, keep_failed=0, keep_min_seconds=0))
async def test_keeping_none_deletes_at_once(harness: ScriptHarness) -> None:
    await harness.finish("a")
    await harness.finish("b", AckKind.UNKNOWN)
    assert await kept(harness) == []
    assert await harness.redis("EXISTS", harness.keys.unknown, harness.keys.completed, harness.keys.failed) == 0


@pytest.mark.queues(PATIENT)
async def test_one_call_is_bounded(harness: ScriptHarness, clock: StoreClock) -> None:
    for n in range(30):
        await harness.finish(f"c{n}")
    await clock.forward(60_000)
    assert [await harness.scripts.trim(batch=10) for _ in range(4)] == [10, 10, 7, 0]


@pytest.mark.queues(PATIENT)
async def test_a_live_id_leaves_the_index_and_keeps_its_json(harness: ScriptHarness, clock: StoreClock) -> None:
    """A plain client enqueues a finished key again: its new JSON stands at the same id."""
    live = ("waiting", "active", "active, aborted")
    for key in (*live, "c1", "c2", "c3"):
        await harness.finish(key)
        await clock.forward(1)
    index = await harness.redis("DUMP", harness.keys.completed)
    for key in live:
        await harness.stock_enqueue(key)
    await harness.redis("LREM", harness.keys.queued, 0, harness.keys.job_id("waiting"))
    assert len(await harness.claimed()) == 2
    await harness.redis("ZREM", harness.keys.incomplete, harness.keys.job_id("active, aborted"))
    await harness.redis("RESTORE", harness.keys.completed, 0, index, "REPLACE")
    await clock.forward(60_000)
    assert await harness.scripts.trim() == 3
    assert await harness.redis("ZCARD", harness.keys.completed) == 3
    for key in live:
        assert await harness.place(key) == key
        assert await harness.redis("GET", harness.keys.job_id(key)) == document("q", key)


@pytest.mark.queues(QueueSettings("q", keep_completed=1, keep_min_seconds=0))
async def test_settling_trims_a_live_id_no_more_than_trim_does(harness: ScriptHarness) -> None:
    await harness.finish("a")
    await harness.stock_enqueue("a")
    await harness.redis("LREM", harness.keys.queued, 0, harness.keys.job_id("a"))
    await harness.finish("b")
    assert (await harness.place("a"), await harness.redis("GET", harness.keys.job_id("a"))) == (
        "waiting",
        document("q", "a"),
    )
    assert await harness.redis("ZRANGE", harness.keys.completed, 0, -1) == [harness.keys.job_id("b").encode()]


@pytest.mark.parametrize(("settings", "wanted"), [(SMALL, False), (PATIENT, True)])
async def test_a_tick_says_when_a_queue_wants_trimming(
    store: Store, clock: StoreClock, settings: QueueSettings, wanted: bool
) -> None:
    harness = ScriptHarness(store, settings)
    for n in range(4):
        await harness.finish(f"c{n}")
    assert (await scripts.tick(store, [harness.scripts])).untrimmed == [False]
    await clock.forward(10_000)
    assert (await scripts.tick(store, [harness.scripts])).untrimmed == [wanted]
    await harness.scripts.trim()
    assert (await scripts.tick(store, [harness.scripts])).untrimmed == [False]


async def test_a_tick_sees_due_jobs_of_every_queue_and_the_daemons(store: Store, clock: StoreClock) -> None:
    labs = [ScriptHarness(store, QueueSettings(name)) for name in ("q", "r", "s")]
    await labs[0].add("a", delay_ms=1_500)
    await labs[0].add("b", delay_ms=700)
    await labs[2].add("c", delay_ms=10)
    await scripts.renew(store, "gone-1", 1_000)
    await scripts.renew(store, "here-1", 1_001)
    await clock.forward(1_000)
    seen = await scripts.tick(store, [harness.scripts for harness in labs])
    assert (seen.now_ms, seen.due_ms) == (clock.ms, [0, -1, 0])
    assert seen.daemons == {"gone-1": str(clock.ms), "here-1": str(clock.ms + 1)}


@pytest.mark.parametrize("wrong", ["incomplete", "completed", "failed", "cancelled"])
async def test_a_tick_passes_over_a_queue_that_is_broken(store: Store, wrong: str, untidy: None) -> None:
    labs = [ScriptHarness(store, QueueSettings(name)) for name in ("q", "r")]
    await labs[1].add("a", delay_ms=60_000)
    await store.command("SET", getattr(labs[0].keys, wrong), "wrong")
    seen = await scripts.tick(store, [harness.scripts for harness in labs])
    assert seen.due_ms[0] == -1
    assert 59_000 < seen.due_ms[1] <= 60_000
