"""A daemon that runs no queue of a feature loads the features only once somebody asks for them."""

from __future__ import annotations

import signal
from base64 import b64encode

import pytest

from tests.support.daemon import QUEUE, DaemonProcess, Daemons
from tests.support.reload import reload
from tests.support.wait import wait_until_sync

PASSWORD = "correct horse"
AUTH = f'[auth]\npassword = "{PASSWORD}"\n'
HEADERS = {"Authorization": "Basic " + b64encode(f"admin:{PASSWORD}".encode()).decode()}
ONLY = ["--queues", QUEUE]
FILE = "records.sqlite"


def opened(daemon: DaemonProcess) -> bool:
    """Whether there are records: a daemon that has a use for them makes them at its start."""
    return (daemon.state / FILE).exists()


def contacts(daemon: DaemonProcess) -> tuple[int, object]:
    answer = daemon.get("/api/v1/contacts", headers=HEADERS)
    return answer.status, answer.json


def test_the_features_are_there_once_they_are_asked_for(daemons: Daemons) -> None:
    daemon = daemons.start(config=AUTH, arguments=ONLY)
    daemon.add(3)
    daemon.wait_effects("done", 3)
    for path in ("/admin/queues", "/metrics", "/api/v1/queues/health", "/api/v1/schedules"):
        assert daemon.get(path, headers=HEADERS).status == 200
    assert not opened(daemon)
    assert contacts(daemon) == (200, {"contacts": [], "cursor": None})
    assert opened(daemon)
    daemon.add(3)
    daemon.wait_effects("done", 6)
    daemon.stop()


@pytest.mark.parametrize(
    ("config", "arguments"),
    [
        ("", []),
        ("", ["--queues", f"{QUEUE},message"]),
        ("[files]\nkeep = '3d'", ONLY),
        (f"[schedules.often]\nqueue = '{QUEUE}'\njob = 'work'\nevery = '1h'", ["--queues", f"{QUEUE},email"]),
    ],
    ids=["all queues", "one of a feature", "something configured", "one without records"],
)
def test_who_has_a_use_for_the_features_opens_them(daemons: Daemons, config: str, arguments: list[str]) -> None:
    daemon = daemons.start(config=AUTH + config, arguments=arguments)
    assert opened(daemon)


def test_records_that_cannot_be_used_stop_only_who_asks_for_them(daemons: Daemons) -> None:
    daemon = daemons.make(config=AUTH, arguments=ONLY)
    daemon.state.mkdir(mode=0o700)
    (daemon.state / FILE).write_bytes(b"not a database at all" * 1000)
    daemon.start()
    for _ in range(2):
        status, problem = contacts(daemon)
        assert status == 503
        assert "is not a database" in str(problem)
    daemon.add(1)
    daemon.wait_effects("done", 1)
    assert [one["level"] for one in daemon.logged("is not a database")] == ["error"]
    assert daemon.get("/health").json["status"] == "ok"


def test_a_reload_that_configures_something_of_theirs_opens_them(daemons: Daemons) -> None:
    daemon = daemons.start(config=AUTH, arguments=ONLY, notify=True)
    daemon.configure(config=AUTH + '[smtp]\nhost = "127.0.0.1"\n[files]\nmax_bytes = 1000')
    reload(daemon)
    wait_until_sync(lambda: opened(daemon), 5.0)
    assert contacts(daemon)[0] == 200
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_end() == 0
