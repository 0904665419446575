"""What a daemon that was killed leaves behind, and what the next start makes of it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crmd.embedded.server_config import StoreFiles
from tests.support.daemon import QUEUE, DaemonProcess, Daemons
from tests.support.embedded import servers_in, start_bare_server
from tests.support.wait import HANG_S, wait_until_sync

pytestmark = pytest.mark.timeout(180)
"""A daemon starts up to four times, and a busy machine takes its time for each."""


def restart(daemon: DaemonProcess) -> float:
    """Kills the daemon, starts it again, and says when, in epoch seconds, it was ready."""
    daemon.kill()
    daemon.start()
    return time.time()


@pytest.mark.parametrize("queue", ['timeout = "none"', "attempts = 1", 'timeout = "1h"\nattempts = 3'])
def test_what_ran_runs_again_and_the_attempt_is_not_counted(daemons: Daemons, queue: str) -> None:
    daemon = daemons.start(queue=f"concurrency = 20\n{queue}", daemon='drain_timeout = "0s"')
    keys = daemon.add(20, seconds=60)
    daemon.wait_effects("started", 20)
    with daemon.client() as client:
        wait_until_sync(lambda: client.job(QUEUE, keys[-1]).state == "active", 5)
    ready = restart(daemon)
    again = daemon.wait_effects("started", 40)[20:]
    assert max(one.at for one in again) - ready < HANG_S, "it does not wait for a lease to end"
    assert sorted(one.job for one in again) == sorted(keys)
    assert {(one.attempt, one.delivery) for one in again} == {(1, 2)}
    assert daemon.logged("job.lost")[0]["count"] == 20
    daemon.stop()


def test_what_had_begun_its_effect_is_unknown_and_stays_so(daemons: Daemons) -> None:
    daemon = daemons.start(daemon='drain_timeout = "0s"')
    begun = daemon.add(3, "effect", seconds=60)
    daemon.wait_effects("effect", 3)
    [other] = daemon.add(1, seconds=60)
    daemon.wait_effects("started", 4)
    restart(daemon)
    daemon.wait_effects("started", 5)
    with daemon.client() as client:
        views = [client.job(QUEUE, key) for key in begun]
        assert {view.state for view in views} == {"unknown"}
        assert "its daemon died after the effect had begun" in (views[0].error or "")
    assert daemon.count("effect") == dict.fromkeys(begun, 1)
    assert daemon.count("started")[other] == 2
    daemon.stop()


def test_a_job_that_kills_its_daemon_fails_and_harms_no_other(daemons: Daemons) -> None:
    daemon = daemons.start(queue="concurrency = 6", daemon='drain_timeout = "0s"')
    innocent = daemon.add(5, seconds=0.4)
    [poison] = daemon.add(1, "die", sign=str(daemon.folder / "die-"))
    daemon.wait_effects("started", 6)
    for death in (1, 2, 3):
        (daemon.folder / f"die-{death}").touch()
        wait_until_sync(lambda: not daemon.running, 15, f"death {death}")
        assert daemon.returncode == -9
        daemon.start()
    late = daemon.add(3, seconds=0.1)
    daemon.wait_effects("done", 8, 15)
    with daemon.client() as client:
        view = client.job(QUEUE, poison)
        assert (view.state, view.error) == ("failed", "poison: its daemon died 3 times while it ran")
        assert {client.wait(QUEUE, key, 5).state for key in innocent + late} == {"completed"}
    assert [one.delivery for one in daemon.effects("started") if one.job == poison] == [1, 2, 3]
    assert daemon.count("done") == dict.fromkeys(innocent + late, 1)
    assert daemon.logged("job.poisoned")
    assert daemon.running
    daemon.stop()


def test_a_store_that_outlived_its_daemon_is_replaced_and_nothing_is_lost(
    daemons: Daemons, store_binary: Path
) -> None:
    daemon = daemons.start(daemon='drain_timeout = "0s"')
    keys = daemon.add(100, seconds=0.05)
    daemon.wait_effects("started", 20)
    daemon.kill()
    wait_until_sync(lambda: not servers_in(daemon.state), 5)
    with start_bare_server(store_binary, StoreFiles(daemon.state)) as orphan:
        wait_until_sync(lambda: (daemon.state / "store.sock").exists(), 5)
        [late] = daemon.add(1)
        daemon.start()
        assert orphan.wait(HANG_S) == 0, "it ended by itself, not by SIGKILL after a while"
        assert daemon.store_pid != orphan.pid
    daemon.wait_effects("done", 101)
    assert set(daemon.count("done")) == {*keys, late}
    assert daemon.logged("store.orphan_ended")
    daemon.stop()
