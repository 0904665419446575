"""Faults that only time brings out: long drains, long blocks, and a rate limit by the clock."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from tests.faults.figures import report
from tests.support.daemon import DaemonProcess, Daemons
from tests.support.store import StoreServer
from tests.support.wait import wait_until_sync

pytestmark = pytest.mark.faults

RATE, WINDOW_SECONDS = 20, 60.0


def test_long_jobs_get_the_whole_drain_and_no_more(daemons: Daemons) -> None:
    daemon = daemons.start(queue='concurrency = 20\ntimeout = "5m"', daemon='drain_timeout = "30s"')
    keys = daemon.add(20, seconds=60)
    daemon.wait_effects("started", 20)
    took = daemon.stop(40)
    report(f"exit after {took:.2f} s")
    assert 30 <= took <= 31
    daemon.start()
    ready = time.time()
    again = daemon.wait_effects("started", 40)[20:]
    report(f"run again {max(one.at for one in again) - ready:.2f} s after the next start")
    assert max(one.at for one in again) - ready < 1.0
    assert sorted(one.job for one in again) == sorted(keys)
    assert {(one.attempt, one.delivery) for one in again} == {(1, 1)}
    daemon.kill()


def test_jobs_of_all_lengths_end_in_the_drain(daemons: Daemons) -> None:
    daemon = daemons.start(queue='concurrency = 100\ntimeout = "5m"', daemon='drain_timeout = "30s"')
    keys = [daemon.add(1, seconds=0.2 * number)[0] for number in range(100)]
    daemon.wait_effects("started", 100)
    waits = daemon.add(50)
    asked = time.time()
    took = daemon.stop(40)
    report(f"exit after {took:.2f} s")
    assert took <= 21
    assert set(keys) <= set(daemon.count("done"))
    late = [one for one in daemon.effects("started") if one.at > asked + 0.1]
    assert late == []
    assert set(daemon.count("started")) <= {*keys, *waits}


@pytest.mark.parametrize(("seconds", "watchdog"), [(15, 20.0), (40, None)])
def test_a_blocked_loop_keeps_its_leases(
    daemons: Daemons, own_store: StoreServer, seconds: int, watchdog: float | None
) -> None:
    config = f'[redis]\nurl = "{own_store.url}"'
    blocked = daemons.start(config=config, notify=True, watchdog_seconds=watchdog)
    keys = blocked.add(1, seconds=5, url=own_store.url) + blocked.add(
        1, "block", seconds=seconds, url=own_store.url
    )
    blocked.wait_effects("started", 2)
    began = time.monotonic()
    [record] = wait_until_sync(lambda: blocked.logged("the event loop has stood still"), 10)
    told = time.monotonic() - began
    assert told < 2.0
    assert "time.sleep(payload.seconds)" in record["message"]
    other = daemons.start(config=config)
    blocked.wait_effects("done", 2, seconds + 10)
    [late] = blocked.add(1, url=own_store.url)
    wait_until_sync(lambda: blocked.count("done")[late] or other.count("done")[late], 5)
    assert blocked.count("started") + other.count("started") == dict.fromkeys([*keys, late], 1)
    assert blocked.notify
    pings = blocked.notify.times("WATCHDOG=1")
    longest = max((later - sooner for sooner, later in pairwise(pings)), default=0.0)
    report(f"told after {told:.2f} s, longest time between two pings {longest:.1f} s")
    assert longest < 20
    blocked.stop()
    other.stop()


def starts_of(made: list[DaemonProcess]) -> list[float]:
    return sorted(one.at for daemon in made for one in daemon.effects("started"))


@pytest.mark.parametrize("count", [1, 2])
def test_a_rate_limit_holds_in_every_window(daemons: Daemons, own_store: StoreServer, count: int) -> None:
    config, queue = f'[redis]\nurl = "{own_store.url}"', f'concurrency = 10\nrate_limit = "{RATE}/min"'
    made = [daemons.start(config=config, queue=queue) for _ in range(count)]
    made[0].add(60, seconds=0.2, url=own_store.url)
    wait_until_sync(lambda: starts_of(made), 10)
    wait_until_sync(lambda: time.time() > starts_of(made)[0] + 61, 70)
    after = [at - starts_of(made)[0] for at in starts_of(made)]
    wait_until_sync(lambda: len(starts_of(made)) == 60, 70)
    starts = starts_of(made)
    fullest = max(sum(first <= at < first + WINDOW_SECONDS for at in starts) for first in starts)
    by_61 = sum(one <= 61 for one in after)
    report(
        f"{by_61} started 61 s after the first, at most {fullest} in 60 s, all in {starts[-1] - starts[0]:.1f} s"
    )
    assert fullest <= RATE
    assert by_61 >= 39
    for daemon in made:
        daemon.stop()
