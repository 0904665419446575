"""What a changed configuration changes in a running daemon, without dropping a job."""

from __future__ import annotations

import time
from base64 import b64encode

from tests.support.cli import crmd
from tests.support.daemon import HANDLERS, QUEUE, Answer, DaemonProcess, Daemons
from tests.support.reload import reload
from tests.support.wait import HANG_S

IN_FORCE = "the configuration is in force"


def status(daemon: DaemonProcess, password: str) -> int:
    return answer(daemon, QUEUE, password).status


def answer(daemon: DaemonProcess, queue: str, password: str) -> Answer:
    login = b64encode(f"admin:{password}".encode()).decode()
    return daemon.get(f"/api/v1/queues/{queue}", headers={"Authorization": f"Basic {login}"})


def test_a_queues_settings_change_under_its_running_jobs(daemons: Daemons) -> None:
    daemon = daemons.start(queue='concurrency = 1\nrate_limit = "1/h"', notify=True)
    [first] = daemon.add(1, seconds=1.0)
    daemon.wait_effects("started", 1)
    rest = daemon.add(8, seconds=0.5)
    daemon.configure(queue="concurrency = 8")
    assert reload(daemon) == IN_FORCE
    asked = time.time()
    daemon.wait_effects("done", 9, 5)
    starts = [one.at for one in daemon.effects("started") if one.job in rest]
    assert max(starts) - asked < 1.5  # the limit is gone and there is room for all; one after the other takes 4 s
    assert daemon.count("done") == dict.fromkeys([first, *rest], 1)
    daemon.stop()


def test_a_queue_and_handlers_are_added_and_a_queue_that_goes_lasts_until_the_next_start(daemons: Daemons) -> None:
    daemon = daemons.start(notify=True)
    table = f'[queues.more]\nhandlers = ["{HANDLERS}:work"]\n[queues.email]\nhandlers = ["{HANDLERS}:work"]'
    daemon.configure(config=table)
    assert reload(daemon) == IN_FORCE
    with daemon.client() as client:
        for queue in ("more", "email"):
            added = client.enqueue(queue, "work", {})
            assert client.wait(queue, added.key, 5).state == "completed"
        assert "more" in daemon.get("/api/v1/queues/health").json["queues"]
        daemon.configure(config="")
        assert reload(daemon) == f"{IN_FORCE}; at the next start: the end of queue more"
        added = client.enqueue("more", "work", {})
        assert client.wait("more", added.key, 5).state == "completed"
    daemon.stop()
    daemon.start()
    assert "more" not in daemon.get("/api/v1/queues/health").json["queues"]
    daemon.stop()


def test_password_drain_and_log_level_change_and_the_port_waits(daemons: Daemons) -> None:
    daemon = daemons.start(
        config='[auth]\npassword = "the first one"', daemon='drain_timeout = "60s"', notify=True
    )
    assert (status(daemon, "the first one"), status(daemon, "the second one")) == (200, 401)
    port, daemon.port = daemon.port, 1
    daemon.configure(
        config='[auth]\npassword = "the second one"', daemon='drain_timeout = "0s"\nlog_level = "debug"'
    )
    daemon.port = port
    assert reload(daemon) == f"{IN_FORCE}; at the next start: http.port"
    assert (status(daemon, "the first one"), status(daemon, "the second one")) == (401, 200)
    assert any(record["level"] == "debug" for record in daemon.log_records())
    daemon.configure(config="")
    assert reload(daemon) == IN_FORCE
    stored = crmd("--config", str(daemon.config), "password", "set", stdin="the third one\n")
    assert stored.err.endswith("; a running daemon takes it at its next start or reload\n")
    assert status(daemon, "the third one") == 401
    assert reload(daemon) == IN_FORCE
    assert status(daemon, "the third one") == 200
    daemon.add(1, seconds=60)
    daemon.wait_effects("started", 1)
    assert daemon.stop() < HANG_S


def test_a_service_that_is_configured_later_holds_its_queue_no_longer(daemons: Daemons) -> None:
    password = '[auth]\npassword = "correct horse"'
    daemon = daemons.start(config=password, notify=True)
    assert answer(daemon, "email", "correct horse").json["held"] == "smtp.host is not set"
    daemon.configure(config=f'{password}\n[smtp]\nhost = "127.0.0.1"')
    assert reload(daemon) == IN_FORCE
    assert answer(daemon, "email", "correct horse").json["held"] is None
    daemon.stop()
