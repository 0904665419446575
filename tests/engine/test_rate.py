"""Rolling limits in real time, seen from inside the handlers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crmd.engine.admin.views import NewJob
from crmd.engine.durations import Rate
from crmd.engine.settings import KeyedLimit, QueueSettings
from tests.support.engine_harness import EngineHarness, engine_harness
from tests.support.wait import wait_until

COUNT, PERIOD_S, JOBS = 20, 2.0, 60
"""The contract's 20 a minute, thirty times as fast."""
JITTER_S = 0.1
"""A start counts when it is claimed; the way to its handler varies on a busy machine."""
LIMITED = QueueSettings("q", concurrency=30, rate_limit=Rate(COUNT, PERIOD_S))


def most_in_a_window(starts: list[float], period: float) -> int:
    """The most starts that any window holds."""
    return max(sum(first <= at <= first + period for at in starts) for first in starts)


def noting(r: EngineHarness) -> list[float]:
    """A handler that notes when it starts."""
    starts: list[float] = []
    clock = asyncio.get_running_loop().time

    @r.handler("q")
    async def note(_: Any, **kwargs: Any) -> None:
        starts.append(clock())

    return starts


@pytest.mark.parametrize("daemons", [1, 2])
@pytest.mark.queues(LIMITED)
async def test_no_window_holds_more_than_the_limit_and_all_of_it_is_used(
    engine: EngineHarness, daemons: int
) -> None:
    starts = noting(engine)
    for _ in range(daemons):
        await engine.start_pool()
    await engine.control.enqueue("q", [NewJob("note") for _ in range(JOBS)])
    await wait_until(lambda: len(starts) == JOBS, 10)
    counted = await engine.store.command("LRANGE", engine.inspector.queue("q").keys.starts, 0, -1)
    assert most_in_a_window([int(at) / 1000 for at in counted], PERIOD_S) <= COUNT
    assert most_in_a_window(starts, PERIOD_S - JITTER_S) <= COUNT
    assert sum(at - starts[0] <= PERIOD_S * 61 / 60 + 0.1 for at in starts) >= 39
    assert starts[-1] - starts[0] <= 2 * PERIOD_S * 1.02 + 0.2


@pytest.mark.queues(LIMITED)
async def test_a_burst_after_a_quiet_time_is_let_through_at_once(engine: EngineHarness) -> None:
    starts = noting(engine)
    await engine.start_pool()
    await engine.finished("q", await engine.add("q", "note"))
    await engine.control.enqueue("q", [NewJob("note") for _ in range(COUNT - 1)])
    await wait_until(lambda: len(starts) == COUNT, 1)


@pytest.mark.queues(QueueSettings("q", concurrency=30, rate_limit=Rate(2, 60)))
async def test_a_limit_changed_by_hand_holds_at_once_both_ways(engine: EngineHarness) -> None:
    starts = noting(engine)
    pool = await engine.start_pool()
    await pool.wake_listener.ready.wait()
    await engine.control.enqueue("q", [NewJob("note") for _ in range(20)])
    await wait_until(lambda: len(starts) == 2, 2)
    await engine.control.limit("q", Rate(8, 60))
    await wait_until(lambda: len(starts) == 8, 1)
    await engine.control.limit("q", Rate(4, 60))
    counts = await engine.inspector.counts("q")
    assert (counts.rate_limit, counts.rate_left, len(starts)) == ("4/min", 0, 8)
    await engine.control.limit("q", Rate(1, 1), duration=60)
    assert (await engine.inspector.counts("q")).rate_limit == "1/s"
    await wait_until(lambda: len(starts) == 10, 5)
    assert starts[-1] - starts[-2] >= 1.0


async def test_one_key_at_its_limit_does_not_hold_the_others(store_url: str) -> None:
    limited = QueueSettings("q", limits=(KeyedLimit("to", Rate(1, 0.5), 3),))
    async with engine_harness(store_url, limited) as r:
        sent: list[tuple[str, float]] = []
        clock = asyncio.get_running_loop().time

        @r.handler("q")
        async def send(_: Any, to: str) -> None:
            sent.append((to, clock()))

        await r.start_pool()
        await r.control.enqueue("q", [NewJob("send", {"to": "ann"}) for _ in range(5)])
        await r.control.enqueue("q", [NewJob("send", {"to": to}) for to in ("bob", "cid", "dan")])
        await wait_until(lambda: len(sent) == 6, 1)
        assert [to for to, _ in sent] == ["ann"] * 3 + ["bob", "cid", "dan"]
        assert (await r.inspector.counts("q")).waiting == 2
        await wait_until(lambda: len(sent) == 8, 5)
        assert 1.5 <= sent[6][1] - sent[0][1] < 1.7
