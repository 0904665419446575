"""Daemons and stores that are killed at random: no job is lost, and what runs twice is told so."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from statistics import median

import pytest

from crmd.client.over_store import Client
from crmd.errors import StoreError
from tests.faults.figures import report
from tests.support.daemon import QUEUE, Daemons, Effect
from tests.support.embedded import servers_in
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until_sync

pytestmark = pytest.mark.faults

KEEP_ALL = "keep_completed = 100000"


def seeded() -> random.Random:
    seed = random.randrange(10**6)
    report(f"seed {seed}")
    return random.Random(seed)


def runs_of(effects: list[Effect]) -> dict[str, list[int]]:
    """The delivery of each start, by job."""
    found: dict[str, list[int]] = {}
    for one in effects:
        found.setdefault(one.job, []).append(one.delivery)
    return found


def test_a_daemon_killed_twenty_times_over_ten_thousand_jobs(daemons: Daemons) -> None:
    generator, kills, slots = seeded(), 20, 100
    daemon = daemons.start(queue=f"concurrency = {slots}\n{KEEP_ALL}")
    keys: list[str] = []
    for _ in range(20):
        keys += daemon.add(500, seconds=generator.uniform(0.01, 0.2))
    for _ in range(kills):
        pause = time.monotonic() + generator.uniform(0.3, 1.0)
        wait_until_sync(lambda: time.monotonic() >= pause)  # noqa: B023
        daemon.kill()
        daemon.start()
    wait_until_sync(lambda: len(daemon.count("done")) == len(keys), 180)
    done, starts = daemon.count("done"), runs_of(daemon.effects("started"))
    totals = daemon.get("/api/v1/queues/statistics").json["queues"][QUEUE]
    duplicates = sum(done.values()) - len(keys)
    report(f"lost {len(set(keys) - set(done))}, done twice {duplicates}, totals {totals}")
    assert set(done) == set(keys)
    assert duplicates <= kills * slots
    wait_until_sync(
        lambda: daemon.get("/api/v1/queues/statistics").json["queues"][QUEUE]["completed"] == len(keys), 10
    )
    for deliveries in starts.values():
        assert deliveries == sorted(set(deliveries)), "each start after the first is told that it is one"
    daemon.stop()


def test_the_jobs_of_a_killed_daemon_go_to_the_others_within_the_lease(
    daemons: Daemons, own_store: StoreServer
) -> None:
    config, drain = f'[redis]\nurl = "{own_store.url}"', 'drain_timeout = "0s"'
    first = daemons.start(config=config, daemon=drain, queue="concurrency = 5")
    orphans = first.add(5, seconds=120, url=own_store.url)
    first.wait_effects("started", 5)
    others = [daemons.start(config=config, daemon=drain, queue="concurrency = 10") for _ in range(2)]
    rest = first.add(10, seconds=120, url=own_store.url)

    def started() -> list[Effect]:
        return [one for other in others for one in other.effects("started")]

    wait_until_sync(lambda: len(started()) == 10, 10)
    first.kill()
    killed = time.time()
    wait_until_sync(lambda: len(started()) == 15, 40)
    taken = [one for one in started() if one.job in orphans]
    report(
        f"taken after {min(one.at for one in taken) - killed:.1f} to {max(one.at for one in taken) - killed:.1f} s"
    )
    assert max(one.at for one in taken) - killed <= 32
    assert {(one.attempt, one.delivery) for one in taken} == {(1, 2)}
    assert Counter(one.job for one in started()) == dict.fromkeys(orphans + rest, 1)
    for other in others:
        other.stop()


def test_a_store_killed_twenty_times_under_four_producers(daemons: Daemons) -> None:
    generator = seeded()
    daemon = daemons.start(queue=f"concurrency = 100\n{KEEP_ALL}")
    acked: list[list[str]] = [[] for _ in range(4)]
    attempted: list[set[str]] = [set() for _ in range(4)]
    stop = threading.Event()

    def produce(number: int) -> None:
        with Client(daemon.store_url) as client:
            while not stop.is_set():
                key = f"p{number}-{len(attempted[number])}"
                attempted[number].add(key)
                try:
                    client.enqueue(QUEUE, "work", {}, key=key)
                except StoreError:
                    stop.wait(0.01)
                else:
                    acked[number].append(key)

    threads = [threading.Thread(target=produce, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    took: list[float] = []
    for kills in range(20):
        pause = time.monotonic() + generator.uniform(0.1, 1.0)
        wait_until_sync(lambda: time.monotonic() >= pause)  # noqa: B023
        os.kill(daemon.store_pid, signal.SIGKILL)
        began = time.monotonic()
        wait_until_sync(lambda: daemon.log().count('"store.restarted"') > kills, 10)  # noqa: B023
        size = daemon.effects_file.stat().st_size
        wait_until_sync(lambda: daemon.effects_file.stat().st_size > size, 10)  # noqa: B023
        took.append(time.monotonic() - began)
    stop.set()
    for thread in threads:
        thread.join(10)
    everything, tried = {key for keys in acked for key in keys}, set().union(*attempted)
    wait_until_sync(lambda: everything <= set(daemon.count("done")), 60)
    ran = daemon.count("done")
    twice = [one for one in daemon.effects("started") if ran[one.job] > 1]
    report("\n".join(map(str, twice)))
    report(
        f"acked {len(everything)}, done {len(ran)}, not acked and done {len(set(ran) - everything)}, "
        f"done twice {sum(ran.values()) - len(ran)}, "
        f"serving again after {median(took):.2f} s, at most {max(took):.2f} s"
    )
    assert set(ran) <= tried
    assert median(took) < 2.0
    assert max(took) < HANG_S
    assert max(ran.values()) == 1
    daemon.stop()


def test_started_and_stopped_at_random_moments_forty_times(daemons: Daemons) -> None:
    generator = seeded()
    made = [daemons.make() for _ in range(2)]
    codes: Counter[int] = Counter()
    took: list[float] = []
    for _ in range(20):
        for daemon in made:
            daemon.launch()
        for daemon in made:
            pause = daemon.started_at + generator.uniform(0.2, 1.2)
            wait_until_sync(lambda: time.monotonic() >= pause)  # noqa: B023
            daemon.signal(signal.SIGTERM)
        for daemon in made:
            began = time.monotonic()
            codes[daemon.wait_end()] += 1
            took.append(time.monotonic() - began)
    report(f"exit codes {dict(codes)}")
    assert median(took) < 2.0
    assert max(took) < HANG_S
    # before the daemon has its signal handlers it ends as any program does
    assert set(codes) <= {0, -signal.SIGTERM}
    assert [servers_in(daemon.state) for daemon in made] == [[], []]
