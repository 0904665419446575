"""A daemon whose store is gone for long, frozen, far away, stalled or full."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crmd.client.over_store import Client
from crmd.errors import StoreError, StoreFull
from tests.faults.figures import report
from tests.faults.small_disk import fill, mounted
from tests.support.daemon import QUEUE, DaemonProcess, Daemons, cpu_seconds, resident_bytes
from tests.support.proxy import proxy_in_thread
from tests.support.store import StoreServer
from tests.support.wait import wait_until_sync

pytestmark = pytest.mark.faults

RESUMES_SECONDS = 2.0
LIVEZ_SECONDS = 0.1
GROWTH_BYTES = 20 * 1024 * 1024


class Outage:
    """Watches a daemon during a fault: its processor time, its memory, its log and its probes."""

    def __init__(self, daemon: DaemonProcess) -> None:
        self._daemon = daemon
        self._lines = len(daemon.log_records())
        self._cpu = cpu_seconds(daemon.pid)
        self._rss = resident_bytes(daemon.pid)
        self.began = time.monotonic()
        self.unready_after: float | None = None
        self.slowest_livez = 0.0

    def last(self, seconds: float) -> None:
        """Lets the fault go on until so long after its begin, and looks at the probes all the while."""
        wait_until_sync(lambda: self._probe() and time.monotonic() - self.began >= seconds, seconds + 10)

    def check(self, lines: int) -> None:
        """Asserts that the daemon kept calm."""
        took = time.monotonic() - self.began
        share = (cpu_seconds(self._daemon.pid) - self._cpu) / took
        growth = resident_bytes(self._daemon.pid) - self._rss
        said = self._daemon.log_records()[self._lines :]
        report(
            f"{took:.0f} s: {share:.1%} of a processor, {len(said)} log lines, {growth / 1e6:.1f} MB more, "
            f"unready after {self.unready_after} s, /livez within {self.slowest_livez * 1000:.0f} ms"
        )
        assert share < 0.05
        assert growth < GROWTH_BYTES
        assert len(said) <= lines, [record["message"] for record in said]
        assert self.slowest_livez < LIVEZ_SECONDS

    def _probe(self) -> bool:
        live = self._daemon.get("/livez")
        assert live.status == 200
        self.slowest_livez = max(self.slowest_livez, live.seconds)
        if self.unready_after is None and self._daemon.get("/readyz").status == 503:
            self.unready_after = round(time.monotonic() - self.began, 2)
        pause = time.monotonic() + 0.5  # the probes are work too, that counts in the daemon's processor time
        return bool(wait_until_sync(lambda: time.monotonic() >= pause))


def external(daemons: Daemons, url: str, **options: str) -> DaemonProcess:
    return daemons.start(config=f'[redis]\nurl = "{url}"', **options)


def test_a_store_gone_for_a_minute(daemons: Daemons, own_store: StoreServer) -> None:
    daemon = external(daemons, own_store.url)
    running = daemon.add(20, seconds=5.0, url=own_store.url)
    waits = daemon.add(20, url=own_store.url)
    daemon.wait_effects("started", 20)
    outage = Outage(daemon)
    own_store.kill()
    outage.last(60)
    outage.check(lines=12)
    assert outage.unready_after is not None
    assert outage.unready_after < 2.0
    own_store.start()
    back = time.time()
    daemon.wait_effects("done", 40)
    first = min(one.at for one in daemon.effects("started") if one.job in waits) - back
    report(f"first job {first:.2f} s after the return")
    assert first < RESUMES_SECONDS
    assert daemon.count("done") == dict.fromkeys(running + waits, 1)
    daemon.stop()


def test_a_store_frozen_for_twenty_seconds(daemons: Daemons, own_store: StoreServer) -> None:
    daemon = external(daemons, own_store.url)
    keys = daemon.add(20, seconds=8.0, url=own_store.url)
    daemon.wait_effects("started", 20)
    pages: list[tuple[int, float]] = []
    outage = Outage(daemon)
    own_store.pause()

    def look() -> None:
        for path in (f"/api/v1/queues/{QUEUE}/jobs", "/admin/queues/api/queues", "/api/v1/queues/health"):
            answer = daemon.get(path, timeout=15, headers=daemon.login)
            pages.append((answer.status, answer.seconds))

    looking = threading.Thread(target=look)
    looking.start()
    outage.last(20)
    own_store.resume()
    back = time.monotonic()
    daemon.wait_ready()
    report(f"ready {time.monotonic() - back:.2f} s after the return, pages {pages}")
    assert time.monotonic() - back < RESUMES_SECONDS
    outage.check(lines=8)
    looking.join()
    assert {status for status, _ in pages} == {503}
    assert max(seconds for _, seconds in pages) < 6.0
    daemon.wait_effects("done", 20)
    daemon.add(1, url=own_store.url)
    daemon.wait_effects("done", 21)
    assert set(daemon.count("started").values()) == {1}
    assert set(keys) < set(daemon.count("done"))
    daemon.stop()


def test_a_store_at_two_hundred_milliseconds(daemons: Daemons, own_store: StoreServer) -> None:
    slots, delay, count = 20, 0.2, 1000
    with proxy_in_thread(own_store.socket) as (middle, _):
        daemon = external(daemons, middle.url, queue=f"concurrency = {slots}")
        middle.reply_delay = delay
        keys = daemon.add(count, url=own_store.url)
        daemon.wait_effects("done", count, 60)
        times = sorted(one.at for one in daemon.effects("done"))
        rate, bound = (count - slots) / (times[-1] - times[0]), slots / delay
        report(f"{rate:.0f} jobs a second of {bound:.0f} that latency and slots allow")
        assert rate >= 0.8 * bound
        assert daemon.count("done") == dict.fromkeys(keys, 1)
        daemon.stop()


def test_a_connection_that_stalls_for_thirty_seconds(daemons: Daemons, own_store: StoreServer) -> None:
    with proxy_in_thread(own_store.socket) as (middle, do):
        daemon = external(daemons, middle.url, queue="concurrency = 10")
        running = daemon.add(5, seconds=10.0, url=own_store.url)
        short = daemon.add(400, seconds=0.05, url=own_store.url)
        daemon.wait_effects("done", 50)
        outage = Outage(daemon)
        do(middle.stall)
        outage.last(30)
        outage.check(lines=8)
        assert outage.unready_after is not None
        assert outage.unready_after < 5.0
        done = len(daemon.effects("done"))
        do(middle.flow)
        back = time.monotonic()
        daemon.wait_effects("done", done + 1)
        report(f"work goes on {time.monotonic() - back:.2f} s after the return")
        assert time.monotonic() - back < RESUMES_SECONDS
        daemon.wait_effects("done", 405, 20)
        assert daemon.count("done") == dict.fromkeys(running + short, 1)
        assert set(daemon.count("started").values()) == {1}
        daemon.stop()


def test_a_store_whose_memory_is_full(daemons: Daemons, own_store: StoreServer) -> None:
    daemon = external(daemons, own_store.url, queue='concurrency = 10\nkeep_completed = 0\nkeep_min = "0s"')
    keys = daemon.add(200, seconds=0.05, url=own_store.url)
    with own_store.client() as store, Client(own_store.url) as client:
        store.config_set("maxmemory", int(store.info("memory")["used_memory"]) + 200_000)

        def refused() -> bool:
            try:
                keys.append(client.enqueue(QUEUE, "work", {"path": "x" * 20_000, "seconds": 0.0}).key)
            except (StoreFull, StoreError):
                return True
            return False

        wait_until_sync(refused, 10)
        daemon.wait_effects("done", len(keys), 30)
        assert set(daemon.count("done")) == set(keys)
        store.config_set("maxmemory", 0)
        wait_until_sync(lambda: not refused(), 10)
        daemon.wait_effects("done", len(keys))
    daemon.stop()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 32 MiB, with a short path for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="crmd-disk-"))
    try:
        with mounted(folder, 32 * 1024 * 1024):
            yield folder
    finally:
        folder.rmdir()


@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_a_disk_that_is_full_for_thirty_seconds(daemons: Daemons, small_disk: Path, fsync: str) -> None:
    daemon = daemons.make(state=small_disk / "state", config=f'[redis]\nfsync = "{fsync}"', notify=True)
    daemon.start()
    server = daemon.store_pid
    acked = daemon.add(50, seconds=0.1)
    with Client(daemon.store_url) as client:  # connected before: with "always" the server ends on a full disk
        filler = fill(small_disk)
        outage = Outage(daemon)

        def refused() -> bool:
            try:
                acked.append(client.enqueue(QUEUE, "work", {}).key)
            except StoreError:
                return True
            return False

        wait_until_sync(refused, 20)
        outage.last(30)
        assert daemon.notify
        said = daemon.get("/readyz").text + " ".join(daemon.notify.values("STATUS", outage.began))
        report(said[:600])
        assert "disk" in said
        outage.check(lines=20)
        assert len(daemon.logged("store.restarted")) <= 1
        filler.unlink()
        back = time.monotonic()
        wait_until_sync(lambda: not refused(), 5)
        report(f"takes jobs {time.monotonic() - back:.2f} s after the disk has room; server {server}")
        assert time.monotonic() - back < RESUMES_SECONDS
    wait_until_sync(lambda: set(acked) <= set(daemon.count("done")), 20)
    daemon.stop()
