"""The store's clock is set while daemons work: no job suffers for it."""

from __future__ import annotations

import time
from collections import Counter
from itertools import pairwise

import pytest

from crmd.client import Client
from crmd.queues.lease import LEASE_S
from crmd.queues.views import State
from tests.support.daemon import QUEUE, DaemonProcess, Daemons
from tests.support.stepped_store import SteppedStore
from tests.support.wait import wait_until_sync

pytestmark = pytest.mark.faults

STEPS_S = (40, 3_600, -3_600)
ROUNDS = 4
QUEUE_KEYS = 'concurrency = 25\ntimeout = "5m"\nkeep_completed = 100'


def both(made: list[DaemonProcess], event: str) -> Counter[str]:
    return made[0].count(event) + made[1].count(event)


def let_pass(seconds: float) -> None:
    """Lets real time pass: what is under test is what happens meanwhile."""
    until = time.monotonic() + seconds
    wait_until_sync(lambda: time.monotonic() >= until, seconds + 5)


def test_steps_of_the_stores_clock_take_no_running_job(daemons: Daemons, stepped_store: SteppedStore) -> None:
    url = stepped_store.url
    made = [daemons.start(config=f'[redis]\nurl = "{url}"', queue=QUEUE_KEYS) for _ in range(2)]
    steps = [step for _ in range(ROUNDS) for step in STEPS_S]
    seconds = LEASE_S + 2.0 * len(steps) + 5
    plain = made[0].add(25, seconds=seconds, url=url)
    keys = plain + made[0].add(25, "effect", seconds=seconds, url=url)
    wait_until_sync(lambda: both(made, "started").total() == 50, 20)
    let_pass(LEASE_S)  # from now on each could find the other dead
    for step in steps:
        stepped_store.step(step)
        let_pass(2.0)
    wait_until_sync(lambda: both(made, "done").total() >= 50, 30)
    let_pass(1.0)
    assert both(made, "started") == both(made, "done") == dict.fromkeys(keys, 1)
    with Client(url) as client:
        assert {client.job(QUEUE, key).state for key in keys} == {State.COMPLETED}
    for daemon in made:
        daemon.stop()


def test_the_jobs_of_a_dead_daemon_are_taken_though_the_clock_went_back(
    daemons: Daemons, stepped_store: SteppedStore
) -> None:
    url = stepped_store.url
    made = [daemons.start(config=f'[redis]\nurl = "{url}"', queue=QUEUE_KEYS) for _ in range(2)]
    keys = made[0].add(50, seconds=LEASE_S + 20, url=url)
    wait_until_sync(lambda: both(made, "started").total() == 50, 20)
    let_pass(LEASE_S)
    made[0].kill()
    died = time.monotonic()
    stepped_store.step(-3_600)
    lost = set(keys) - set(made[1].count("started"))
    assert len(lost) == 25
    wait_until_sync(lambda: lost <= set(made[1].count("started")), LEASE_S + 30)
    took = time.monotonic() - died
    print(f"\n    taken after {took:.1f} s")  # noqa: T201 - a figure, for those who run the faults by hand
    made[1].kill()


def test_a_rate_limit_holds_and_is_used_while_the_clock_is_set(
    daemons: Daemons, stepped_store: SteppedStore
) -> None:
    url, period, rate = stepped_store.url, 20.0, 20
    queue = f'concurrency = 25\ntimeout = "5m"\nrate_limit = "{rate}/{period:.0f}s"'
    made = [daemons.start(config=f'[redis]\nurl = "{url}"', queue=queue) for _ in range(2)]
    steps = [step for _ in range(ROUNDS) for step in STEPS_S]
    keys = made[0].add(4 * rate, seconds=period, url=url)
    wait_until_sync(lambda: both(made, "started").total() == rate, 20)
    for step in steps:
        let_pass(3.0 * period / len(steps))
        stepped_store.step(step)
    wait_until_sync(lambda: both(made, "done").total() >= len(keys), 3 * period)
    starts = sorted(one.at for daemon in made for one in daemon.effects("started"))
    fullest = max(sum(first <= at < first + period for at in starts) for first in starts)
    longest = max(later - sooner for sooner, later in pairwise(starts))
    took = starts[-1] - starts[0]
    print(f"\n    at most {fullest} in a period, none for {longest:.2f} s, all in {took:.1f} s")  # noqa: T201
    assert both(made, "started") == both(made, "done") == dict.fromkeys(keys, 1)
    assert fullest <= rate
    assert longest < 1.1 * period
    for daemon in made:
        daemon.stop()
