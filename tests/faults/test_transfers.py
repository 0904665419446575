"""200,000 contacts in and out of a real daemon, in time and in bounded memory; and kills in the middle."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.figures import report
from tests.support.daemon import DaemonProcess, Daemons, resident_bytes
from tests.support.wait import wait_until_sync

pytestmark = pytest.mark.faults

ROWS = 200_000
IMPORT_SECONDS = 60.0
EXPORT_SECONDS = 30.0
RESIDENT_MIB = 150.0
CITIES = ("Berlin", "München", "Köln", "Łódź")


class Peak:
    """The most memory that a process used while it was watched."""

    def __init__(self, pid: int) -> None:
        self.before = self.mib = resident_bytes(pid) / 1024**2
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.mib = max(self.mib, resident_bytes(self._pid) / 1024**2)


@contextmanager
def measured(daemon: DaemonProcess, what: str, longest: float) -> Iterator[None]:
    """Holds time and memory against the bars."""
    peak, begin = Peak(daemon.pid), time.monotonic()
    yield
    seconds = time.monotonic() - begin
    peak.stop()
    report(
        f"{what}: {ROWS:,} rows in {seconds:.1f} s, {ROWS / seconds:,.0f} rows/s; "
        f"resident {peak.before:.0f} MiB before, {peak.mib:.0f} MiB at most"
    )
    assert seconds < longest
    assert peak.mib < RESIDENT_MIB


def run(daemon: DaemonProcess, queue: str, job: str, **payload: Any) -> dict[str, Any]:
    with daemon.client() as client:
        key = client.enqueue(queue, job, payload).key
        view = client.wait(queue, key, 300)
    assert view.state == "completed", view.error
    return dict(view.result)


def write_csv(path: Path, rows: int = ROWS) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("Telefon,Name,E-Mail,Tags,Stadt,Kundennummer,Punkte,Notiz\n")
        for n in range(rows):
            phone = f"+4917{n:08}" if n % 3 else f"0170 {n:07}"
            file.write(
                f"{phone},Jörg Müller {n},user{n}@example.com,{'vip;new' if n % 5 == 0 else 'new'},"
                f"{CITIES[n % 4]},K{n:07},{n % 1000},some note of moderate length\n"
            )


def contacts(daemon: DaemonProcess) -> int:
    with closing(sqlite3.connect(f"file:{daemon.state}/records.sqlite?mode=ro", uri=True)) as db:
        [(count,)] = db.execute("SELECT count(*) FROM contacts")
    return int(count)


def test_two_hundred_thousand_contacts_in_and_out(daemons: Daemons) -> None:
    daemon = daemons.start()
    write_csv(daemon.state / "imports" / "c.csv")
    with measured(daemon, "import CSV, all new", IMPORT_SECONDS):
        result = run(daemon, "import", "import_contacts", path="c.csv", default_region="DE")
    assert (result["created"], result["rejected"], contacts(daemon)) == (ROWS, 0, ROWS)
    with measured(daemon, "import CSV, nothing new", IMPORT_SECONDS):
        result = run(daemon, "import", "import_contacts", path="c.csv", default_region="DE")
    assert result["unchanged"] == ROWS
    made = {}
    for format in ("csv", "jsonl", "xlsx"):
        with measured(daemon, f"export {format}", EXPORT_SECONDS):
            made[format] = run(daemon, "export", "export_contacts", format=format)
        assert made[format]["rows"] == ROWS
    for format in ("jsonl", "xlsx"):
        (daemon.state / "files" / made[format]["file"]).rename(daemon.state / "imports" / format)
        with measured(daemon, f"import {format}, nothing new", IMPORT_SECONDS):
            result = run(daemon, "import", "import_contacts", path=format)
        assert (result["unchanged"] + result["updated"], result["rejected"]) == (ROWS, 0)


def test_kills_in_the_middle_of_an_import_cost_nothing(daemons: Daemons) -> None:
    rows, kills = 60_000, 2
    daemon = daemons.start()
    write_csv(daemon.state / "imports" / "c.csv", rows)
    with daemon.client() as client:
        key = client.enqueue("import", "import_contacts", {"path": "c.csv", "default_region": "DE"}).key
    for number in range(1, kills + 1):
        wait_until_sync(lambda: contacts(daemon) > number * rows / 4, 60)  # noqa: B023
        daemon.kill()
        daemon.start()
    with daemon.client() as client:
        view = client.wait("import", key, 300)
    assert view.state == "completed", view.error
    assert view.result["created"] == contacts(daemon) == rows
    assert (view.result["unchanged"], view.result["updated"]) == (0, 0)
