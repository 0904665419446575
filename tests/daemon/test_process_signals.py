"""SIGHUP, SIGUSR1, a loop that stands still, and what systemd hears of it all."""

from __future__ import annotations

import signal
from itertools import pairwise

from redis import Redis

from crmd.engine.store.keys import QueueKeys
from tests.support.daemon import QUEUE, Daemons, open_files
from tests.support.reload import listener, reload
from tests.support.wait import wait_until_sync


def test_a_refused_configuration_changes_nothing_and_a_valid_one_is_taken(daemons: Daemons) -> None:
    daemon = daemons.start(notify=True)
    keys = daemon.add(300, seconds=0.05)
    daemon.wait_effects("started", 20)
    daemon.configure(config="[queues.message]\nrate_limit = 20\n[nothing]")
    status = reload(daemon)
    assert status.startswith("configuration refused, the old one stays: ")
    assert "queues.message.rate_limit" in status
    refusals = daemon.logged("configuration refused, the old one stays")
    assert len(refusals) == 2  # a line for each mistake
    # the reason is still to be seen in the next status line
    told = len(listener(daemon).values("STATUS"))
    wait_until_sync(lambda: len(listener(daemon).values("STATUS")) > told, 10)
    assert "configuration refused" in listener(daemon).values("STATUS")[told]
    daemon.wait_effects("done", 300)
    assert daemon.count("done") == dict.fromkeys(keys, 1)
    daemon.configure(config="")
    assert "refused" not in reload(daemon)
    daemon.stop()


def test_handlers_that_cannot_be_imported_are_refused_at_reload(daemons: Daemons) -> None:
    daemon = daemons.start(notify=True)
    daemon.configure(config='[queues.other]\nhandlers = ["no.such.module"]')
    assert "queues.other.handlers" in reload(daemon)
    daemon.stop()


def test_a_hundred_reloads_leak_nothing(daemons: Daemons) -> None:
    daemon = daemons.start(notify=True)
    reload(daemon)
    before = open_files(daemon.pid)
    keys = daemon.add(200, seconds=0.02)
    for number in range(100):
        daemon.signal(signal.SIGHUP)
        wait_until_sync(lambda: len(daemon.effects("done")) >= number, 5)  # noqa: B023
    daemon.wait_effects("done", 200)
    reload(daemon)
    assert abs(open_files(daemon.pid) - before) <= 2
    assert daemon.count("done") == dict.fromkeys(keys, 1)
    daemon.stop()


def test_usr1_shows_where_every_task_and_thread_is(daemons: Daemons) -> None:
    daemon = daemons.start(daemon='drain_timeout = "0s"')
    [key] = daemon.add(1, seconds=60)
    daemon.add(1, "deaf", seconds=2)
    daemon.wait_effects("started", 2)
    daemon.signal(signal.SIGUSR1)
    [record] = wait_until_sync(lambda: daemon.logged("stacks:"), 5)
    text = record["message"]
    for words in ("thread MainThread", "  time.sleep(payload.seconds)", "task store", f"task {key}"):
        assert words in text
    # what the task awaits is shown down to the handler itself
    own = text[text.index(f"task {key}") :]
    assert own.index("in _execute") < own.index("await asyncio.sleep(payload.seconds)")
    daemon.stop()


def test_a_handler_that_blocks_the_loop_is_shown_and_keeps_its_lease(daemons: Daemons) -> None:
    daemon = daemons.start(notify=True, watchdog_seconds=6.0)
    [key] = daemon.add(1, "block", seconds=3)
    daemon.wait_effects("started", 1)
    [record] = wait_until_sync(lambda: daemon.logged("the event loop has stood still"), 2.5)
    assert daemon.count("done") == {}, "it is told while the loop stands still"
    assert "daemon_jobs.py" in record["message"]
    assert "time.sleep(payload.seconds)" in record["message"]
    daemon.wait_effects("done", 1)
    wait_until_sync(lambda: daemon.logged("the event loop goes on"), 5)
    [late] = daemon.add(1)
    daemon.wait_effects("done", 2)
    assert daemon.count("started") == {key: 1, late: 1}
    assert [(one.attempt, one.delivery) for one in daemon.effects("started")] == [(1, 1), (1, 1)]
    pings = listener(daemon).times("WATCHDOG=1")
    assert max(later - sooner for sooner, later in pairwise(pings)) < 6.0
    daemon.stop()


def test_health_says_when_work_waits_and_none_starts(daemons: Daemons) -> None:
    daemon = daemons.start(queue='stall_after = "1s"', arguments=["--queues", QUEUE])
    with daemon.client() as client:
        client.enqueue("email", "send_email", {})  # a queue that this daemon does not run is no stall
    with Redis(unix_socket_path=f"{daemon.state}/store.sock") as store:
        store.set(QueueKeys(QUEUE).suspects, "of the wrong type, so that no claim succeeds")
        daemon.add(3)
        assert daemon.get("/health").status == 200
        wait_until_sync(lambda: daemon.get("/health").status == 503, 5)
        health = daemon.get("/health").json
        assert (health["status"], health["queues"]) == ("error", "unhealthy")
        assert health["redis"] == {"connected": True}
        assert health["reason"].startswith("3 jobs of work wait and none has started for ")
        queue = daemon.get("/api/v1/queues/health").json["queues"][QUEUE]
        assert (queue["status"], queue["waiting"]) == ("unhealthy", 3)
        [degraded] = [record for record in daemon.logged("queue.degraded") if record["queue"] == QUEUE]
        assert "WRONGTYPE" in degraded["reason"]
        assert daemon.get("/readyz").status == 200
        store.delete(QueueKeys(QUEUE).suspects)
    daemon.wait_effects("done", 3)
    wait_until_sync(lambda: daemon.get("/health").status == 200, 5)
    daemon.stop()
