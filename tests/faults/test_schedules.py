"""Schedules of two daemons, one of which dies again and again."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from tests.daemon.test_process_schedules import every, runs
from tests.support.daemon import Daemons
from tests.support.wait import wait_until_sync

pytestmark = pytest.mark.faults


def test_two_daemons_run_each_time_once_although_one_is_killed_again_and_again(daemons: Daemons) -> None:
    first = daemons.start(config=every("tick", "1s"))
    second = daemons.make(config=f'[redis]\nurl = "{first.store_url}"\n{every("tick", "1s")}')
    began = time.time()
    for _ in range(3):
        second.start()
        seen = len(runs(first, "tick")) + len(runs(second, "tick"))
        wait_until_sync(lambda: len(runs(first, "tick")) + len(runs(second, "tick")) > seen, 10)  # noqa: B023
        second.kill()
    wait_until_sync(lambda: max(runs(first, "tick"), default=0) > time.time() - 1, 10)
    times = sorted(runs(first, "tick") + runs(second, "tick"))
    assert all(at >= began - 2 for at in times)
    assert all(earlier < later for earlier, later in pairwise(times)), "a time ran twice"
    first.stop()
