"""A daemon whose store goes away: work goes on, outcomes are kept, probes say so, and nothing spins."""

from __future__ import annotations

import os
import signal
import time

from crmd.client.over_store import Client
from tests.support.daemon import QUEUE, DaemonProcess, Daemons, cpu_share
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until_sync

CPU_SHARE_MAX = 0.05
RESUMES_SECONDS = 10.0
"""Two seconds on a machine at rest; what waits for a lease or a sweep takes 30."""
ANSWERS_SECONDS = 2.0
"""A probe that asks the store waits twice as long for a frozen one."""


def external(daemons: Daemons, server: StoreServer, **options: str) -> DaemonProcess:
    return daemons.start(config=f'[redis]\nurl = "{server.url}"', **options)


def unready(daemon: DaemonProcess) -> bool:
    return daemon.get("/readyz").status == 503


def since(daemon: DaemonProcess, lines: int) -> list[str]:
    return [f"{one['message']} {one.get('reason', '')}" for one in daemon.log_records()[lines:]]


def test_the_embedded_store_killed_at_work_costs_nothing(daemons: Daemons) -> None:
    daemon = daemons.start()
    keys = daemon.add(200, seconds=0.1)
    running = daemon.add(10, seconds=0.5)
    daemon.wait_effects("done", 60)
    lines = len(daemon.log_records())
    server = daemon.store_pid
    os.kill(server, signal.SIGKILL)
    killed = time.time()
    daemon.wait_effects("done", 210)
    started_after = [one.at for one in daemon.effects("started") if one.at > killed + 0.1]
    assert min(started_after) - killed < RESUMES_SECONDS
    with daemon.client() as client:
        assert {client.wait(QUEUE, key, 5).state for key in keys[-20:] + running} == {"completed"}
    assert daemon.count("done") == dict.fromkeys(keys + running, 1)
    assert daemon.store_pid != server
    said = since(daemon, lines)
    assert len(said) <= 6, said
    assert any("ended by signal 9" in line for line in daemon.log().splitlines())
    daemon.stop()


def test_an_external_store_away_for_three_seconds(daemons: Daemons, own_store: StoreServer) -> None:
    daemon = external(daemons, own_store, queue="concurrency = 30")
    running = daemon.add(30, seconds=1.5, url=own_store.url)
    daemon.wait_effects("started", 30)
    waits = daemon.add(20, seconds=0.0, url=own_store.url)
    lines = len(daemon.log_records())
    own_store.kill()
    gone = time.monotonic()
    wait_until_sync(lambda: unready(daemon), 5)
    assert daemon.get("/livez").status == 200
    health = daemon.get("/health")
    assert health.status == 503
    assert set(health.json) == {
        *("status", "redis", "queues", "timestamp", "uptime_seconds", "version", "reason"),
    }
    assert (health.json["status"], health.json["redis"]["connected"]) == ("error", False)
    assert health.json["queues"] == "unhealthy"
    assert str(own_store.socket) in health.json["reason"]
    share = cpu_share(daemon.pid, max(1.0, 3.0 - (time.monotonic() - gone)))
    daemon.wait_effects("done", 30)  # they ended while the store was unavailable
    own_store.start()
    back = time.time()
    daemon.wait_effects("done", 50)
    assert min(one.at for one in daemon.effects("started") if one.job in waits) - back < RESUMES_SECONDS
    daemon.wait_ready()
    with Client(own_store.url) as client:
        views = [client.wait(QUEUE, key, 5) for key in running + waits]
    assert {(view.state, view.attempt) for view in views} == {("completed", 1)}
    assert daemon.count("done") == dict.fromkeys(running + waits, 1)
    said = since(daemon, lines)
    assert len(said) <= 4, said
    assert share < CPU_SHARE_MAX
    daemon.stop()


def test_a_daemon_that_idles_without_its_store_uses_no_processor(daemons: Daemons, own_store: StoreServer) -> None:
    daemon = external(daemons, own_store)
    own_store.stop()
    wait_until_sync(lambda: unready(daemon), 5)
    assert cpu_share(daemon.pid, 1.5) < CPU_SHARE_MAX
    assert daemon.stop() < HANG_S


def test_a_store_that_freezes_is_noticed_and_the_daemon_does_not_freeze_with_it(
    daemons: Daemons, own_store: StoreServer
) -> None:
    daemon = external(daemons, own_store)
    running = daemon.add(5, seconds=1.0, url=own_store.url)
    daemon.wait_effects("started", 5)
    own_store.pause()
    frozen = time.monotonic()
    probes = []

    def noticed() -> bool:
        probes.append(daemon.get("/livez").seconds)
        return unready(daemon)

    wait_until_sync(noticed, 10)
    assert time.monotonic() - frozen < HANG_S
    assert max(probes) < ANSWERS_SECONDS
    own_store.resume()
    back = time.monotonic()
    daemon.wait_ready()
    assert time.monotonic() - back < RESUMES_SECONDS
    [late] = daemon.add(1, url=own_store.url)
    daemon.wait_effects("done", 6)
    assert daemon.count("done") == dict.fromkeys([*running, late], 1)
    daemon.stop()


def test_a_daemon_that_stops_without_its_store_keeps_the_outcomes(
    daemons: Daemons, own_store: StoreServer
) -> None:
    daemon = external(daemons, own_store, daemon='drain_timeout = "1s"')
    short = daemon.add(8, seconds=0.4, url=own_store.url)
    long = daemon.add(4, seconds=60, url=own_store.url)
    daemon.wait_effects("started", 12)
    own_store.kill()
    assert daemon.stop() < HANG_S
    assert daemon.count("done") == dict.fromkeys(short, 1)
    own_store.start()
    daemon.start()
    again = daemon.wait_effects("started", 16)[12:]
    assert sorted(one.job for one in again) == sorted(long)
    assert {(one.attempt, one.delivery) for one in again} == {(1, 1)}
    with Client(own_store.url) as client:
        assert {client.wait(QUEUE, key, 5).state for key in short} == {"completed"}
    assert not (daemon.state / "outcomes.json").exists()
    daemon.stop()
