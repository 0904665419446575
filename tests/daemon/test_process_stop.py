"""How a daemon stops: what runs may end, the rest is given back, and it is over in time."""

from __future__ import annotations

import signal
import socket
import time

import pytest

from tests.support.daemon import Daemons
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until_sync

HURRY_AFTER_SECONDS = 1.0


def elapse(seconds: float, since: float) -> None:
    """Waits for a moment that is part of what is tested."""
    wait_until_sync(lambda: time.monotonic() - since >= seconds, seconds + 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_within_a_second(daemons: Daemons, number: signal.Signals) -> None:
    daemon, took = daemons.make(), list[float]()
    for _ in range(3):
        daemon.start()  # the signal comes right when it is ready, with everything still in motion
        began = time.monotonic()
        daemon.signal(number)
        assert daemon.wait_end() == 0
        took.append(time.monotonic() - began)
    # a second on a machine at rest; a wait that does not belong there would be a part of each
    assert max(took) < HANG_S
    assert min(took) < 2.0
    assert daemon.logged("stopped")


def test_running_jobs_end_and_nothing_else_starts(daemons: Daemons) -> None:
    daemon = daemons.start(queue="concurrency = 20", notify=True, watchdog_seconds=0.6)
    running = daemon.add(20, seconds=1.0)
    daemon.wait_effects("started", 20)
    waits = daemon.add(30, seconds=0.0)
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    wait_until_sync(lambda: daemon.get("/readyz").status == 503, 5)
    drains = time.time()
    assert daemon.get("/livez").status == 200
    health = daemon.get("/health")
    assert (health.status, health.json["status"], health.json["reason"]) == (503, "draining", "draining")
    assert daemon.wait_end() == 0
    took = time.monotonic() - began
    assert took < HANG_S
    assert daemon.count("done") == dict.fromkeys(running, 1)
    assert [one for one in daemon.effects("started") if one.at > drains] == []
    assert daemon.notify
    assert daemon.notify.has("STOPPING=1")
    assert [int(value) / 1e6 for value in daemon.notify.values("EXTEND_TIMEOUT_USEC", began)] == [40.0]
    # the watchdog is fed until the end
    pings = [at for at in daemon.notify.times("WATCHDOG=1") if at > began]
    assert len(pings) >= took / 0.6
    daemon.start()
    daemon.wait_effects("done", 50)
    assert daemon.count("done") == dict.fromkeys(running + waits, 1)
    daemon.stop()


def test_long_jobs_are_given_back_uncounted_and_run_again(daemons: Daemons) -> None:
    daemon = daemons.start(daemon='drain_timeout = "1s"')
    keys = daemon.add(20, seconds=60)
    daemon.wait_effects("started", 20)
    took = daemon.stop()
    assert 1.0 <= took < HANG_S
    daemon.start()
    ready = time.time()
    again = daemon.wait_effects("started", 40, 5.0)[20:]
    assert max(one.at for one in again) - ready < HANG_S
    assert {(one.attempt, one.delivery) for one in again} == {(1, 1)}
    assert sorted(one.job for one in again) == sorted(keys)
    daemon.options.daemon = ""
    assert daemon.stop() < HANG_S


def test_a_second_signal_after_a_second_hastens(daemons: Daemons) -> None:
    daemon = daemons.start(daemon='drain_timeout = "60s"')
    daemon.add(3, seconds=60)
    daemon.wait_effects("started", 3)
    began = time.monotonic()
    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGINT)  # at once: the same wish
    elapse(HURRY_AFTER_SECONDS + 0.1, began)
    assert daemon.running
    second = time.monotonic()
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end() == 0
    assert time.monotonic() - second < HANG_S
    assert "3 given back" in daemon.log()


def test_signals_until_the_very_end_do_no_harm(daemons: Daemons) -> None:
    daemon = daemons.make()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        daemon.start()
        daemon.signal(signal.SIGTERM)
        stopped = len(daemon.logged("stopped"))
        while daemon.running:  # also after the daemon's own handlers are gone, while Python tears down
            daemon.signal(number)
        assert len(daemon.logged("stopped")) == stopped + 1
        assert daemon.returncode == 0, number


def test_a_handler_that_never_ends_does_not_hold_the_daemon(daemons: Daemons) -> None:
    daemon = daemons.start(daemon='drain_timeout = "500ms"')
    [stubborn] = daemon.add(1, "stubborn")
    keys = daemon.add(3, seconds=60)
    daemon.wait_effects("started", 4)
    assert daemon.stop() < HANG_S
    assert daemon.logged("job.slot_leaked")
    assert daemon.count("cancelled")[stubborn] > 0
    daemon.start()
    again = daemon.wait_effects("started", 8)[4:]
    assert sorted(one.job for one in again) == sorted([stubborn, *keys])
    daemon.kill()


def test_a_thread_that_hears_nothing_does_not_hold_the_daemon(daemons: Daemons) -> None:
    daemon = daemons.start(daemon='drain_timeout = "500ms"')
    daemon.add(3, "deaf", seconds=30)
    daemon.wait_effects("started", 3)
    assert daemon.get("/livez").seconds < HANG_S
    assert daemon.stop() < HANG_S
    daemon.start()
    assert {(one.attempt, one.delivery) for one in daemon.wait_effects("started", 6)[3:]} == {(1, 1)}
    daemon.kill()


def test_a_request_under_way_does_not_hold_the_daemon(daemons: Daemons) -> None:
    daemon = daemons.start()
    login = f"Authorization: {daemon.login['Authorization']}\r\n".encode()
    with (
        socket.create_connection(("127.0.0.1", daemon.port)) as half,
        socket.create_connection(("127.0.0.1", daemon.port)) as stream,
    ):
        half.sendall(
            b"POST /api/v1/queues/work/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
            b"Content-Type: application/json\r\n" + login + b"\r\n{"
        )
        stream.sendall(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n" + login + b"\r\n")
        assert b"200 OK" in stream.recv(1000)
        assert daemon.stop() < HANG_S


def test_a_store_that_froze_does_not_hold_the_daemon(daemons: Daemons, own_store: StoreServer) -> None:
    daemon = daemons.start(config=f'[redis]\nurl = "{own_store.url}"', daemon='drain_timeout = "500ms"')
    daemon.add(2, seconds=60, url=own_store.url)
    daemon.add(2, seconds=0.3, url=own_store.url)
    daemon.wait_effects("started", 4)
    with own_store.paused():
        took = daemon.stop()
    assert took < HANG_S
    daemon.start()
    # outcomes that could not be written were kept, and the other jobs run again
    again = daemon.wait_effects("started", 6)[4:]
    assert {(one.attempt, one.delivery) for one in again} == {(1, 1)}
    assert max(daemon.count("done").values()) == 1
    daemon.stop()
