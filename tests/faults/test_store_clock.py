"""The store's clock is set while daemons work: no job suffers for it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from itertools import pairwise

import pytest
from redis import Redis

from crmd.client.over_store import Client
from crmd.engine.admin.views import State
from crmd.engine.maintenance.heartbeat import LEASE_S
from tests.support.daemon import PROJECT, QUEUE, DaemonProcess, Daemons
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


def crmd(daemon: DaemonProcess, *arguments: str) -> None:
    """Runs a command of the command line."""
    command = [sys.executable, "-m", "crmd", *arguments, "--config", str(daemon.config)]
    subprocess.run(command, check=True, cwd=PROJECT, capture_output=True, timeout=30)


def ages(url: str, names: list[str]) -> list[int]:
    """Times to live in ms; -2 where a key is gone."""
    with Redis.from_url(url) as client:
        return [int(client.pttl(name)) for name in names]


@pytest.mark.parametrize("step", [3_600, -3_600])
def test_what_stands_in_the_stores_time_moves_with_it(
    daemons: Daemons, stepped_store: SteppedStore, step: int
) -> None:
    """Delayed jobs, retries, pauses and unique keys: the page on delivery says what becomes of each."""
    url = stepped_store.url
    queue = 'concurrency = 5\nattempts = 2\nbackoff = { base = "30m", max = "30m" }'
    daemon = daemons.start(config=f'[redis]\nurl = "{url}"', queue=queue, expect_tracebacks=True)
    with Client(url) as client:
        delayed = client.enqueue(QUEUE, "work", {}, delay=1_800).key
        done = client.enqueue(QUEUE, "work", {}, key="once", unique_for=1_800).key
        client.wait(QUEUE, done, 10)
        failing = client.enqueue(QUEUE, "fail", {}).key
        wait_until_sync(lambda: client.job(QUEUE, failing).state is State.DELAYED, 10)
        crmd(daemon, "pause", "email", "--for", "30m")
        stepped_store.step(step)
        wait_until_sync(lambda: daemon.logged("store.clock_set"), 5)
        kept = [f"crmd:q:{QUEUE}:unique:once", "crmd:q:email:paused"]
        if step > 0:
            assert client.wait(QUEUE, delayed, 10).state is State.COMPLETED
            assert client.wait(QUEUE, failing, 10).state is State.FAILED
            assert ages(url, kept) == [-2, -2]
            assert client.enqueue(QUEUE, "work", {}, key="once").created
        else:
            assert [client.job(QUEUE, key).state for key in (delayed, failing)] == [State.DELAYED] * 2
            assert [round(age / 600_000) for age in ages(url, kept)] == [9, 9]
            assert not client.enqueue(QUEUE, "work", {}, key="once").created
            crmd(daemon, "promote", QUEUE, "--state", "delayed", "--yes")
            assert client.wait(QUEUE, delayed, 10).state is State.COMPLETED
            assert client.wait(QUEUE, failing, 10).state is State.FAILED
    daemon.stop()
