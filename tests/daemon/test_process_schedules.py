"""Schedules of a real daemon: they run, and change by reload."""

from __future__ import annotations

import time

from tests.support.daemon import QUEUE, DaemonProcess, Daemons
from tests.support.reload import reload
from tests.support.wait import wait_until_sync

IN_FORCE = "the configuration is in force"


def every(name: str, period: str) -> str:
    return f'[schedules.{name}]\nqueue = "{QUEUE}"\njob = "work"\nevery = "{period}"\n'


def runs(daemon: DaemonProcess, name: str) -> list[int]:
    """The due times whose jobs ran, in seconds; without what ran again as its daemon died."""
    done = [one for one in daemon.effects("done") if f":{name}:" in one.job and one.delivery == 1]
    return [int(one.job.rpartition(":")[2]) for one in done]


def test_a_reload_changes_adds_and_ends_schedules(daemons: Daemons) -> None:
    daemon = daemons.start(config=every("first", "1s"), notify=True)
    wait_until_sync(lambda: len(runs(daemon, "first")) >= 2, 10)
    daemon.configure(config=every("second", "1s"))
    assert reload(daemon) == IN_FORCE
    reloaded_at = time.time()
    wait_until_sync(lambda: len(runs(daemon, "second")) >= 2, 10)
    assert max(runs(daemon, "first")) <= reloaded_at
    daemon.configure(config=every("bad", "1s").replace('"work"\nevery', '"wrok"\nevery'))
    assert "schedules.bad.job: queue work has no job 'wrok'" in reload(daemon)
    count = len(runs(daemon, "second"))
    wait_until_sync(lambda: len(runs(daemon, "second")) > count, 10)
    daemon.stop()
