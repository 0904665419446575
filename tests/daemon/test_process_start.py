"""How a daemon starts, and what it does where it cannot."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from crmd.errors import ExitCode
from tests.support.daemon import PROJECT, QUEUE, Daemons, seconds_queued
from tests.support.store import StoreServer
from tests.support.wait import HANG_S, wait_until_sync


@contextlib.contextmanager
def listener(port: int) -> Iterator[None]:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        yield


def test_ready_within_two_seconds_and_says_where_it_is(daemons: Daemons) -> None:
    daemon = daemons.make(notify=True)
    daemon.start()  # the first start of all writes byte code
    took = []
    for _ in range(3):  # another test may take the disk away from one of them
        daemon.stop()
        daemon.start()
        at = wait_until_sync(lambda: daemon.notify and daemon.notify.has("READY=1", daemon.started_at), 5)
        queued = seconds_queued(daemon.pid) + seconds_queued(daemon.store_pid)
        took.append(at - daemon.started_at - queued)
        if took[-1] < 2.0:
            break
    assert min(took) < 2.0
    welcome = daemon.out()
    assert f"is ready at http://127.0.0.1:{daemon.port}" in welcome
    assert f"--config {daemon.config.name} --state-dir {daemon.state.name} password show" in welcome
    daemon.stop()


def test_the_embedded_store_loads_while_the_daemon_is_built(daemons: Daemons) -> None:
    # With many jobs loading takes as long as all the rest: one after the other, a restart took both times.
    daemon = daemons.make()
    daemon.options.environ = {"STORE_SOCKET": str(daemon.state / "store.sock")}
    daemon.configure(config='[queues.late]\nhandlers = ["tests.support.store_wait"]')
    daemon.launch()
    daemon.wait_ready(30)
    daemon.add(1)
    daemon.wait_effects("done", 1)
    daemon.stop()


def test_the_parts_of_the_daemon_are_not_loaded_before_the_store_starts() -> None:
    program = "import sys, crmd.cli.main, crmd.daemon.supervisor; print(*sys.modules)"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True, timeout=60)
    assert not {"crmd.daemon.build", "aiohttp", "sqlalchemy", "saq"} & set(done.stdout.split())


def test_http_answers_before_the_store_does_and_the_store_is_waited_for(
    daemons: Daemons, own_store: StoreServer
) -> None:
    own_store.stop()
    daemon = daemons.make(config=f'[redis]\nurl = "{own_store.url}"', notify=True)
    daemon.launch()
    wait_until_sync(lambda: daemon.get("/livez").status == 200, 5)
    ready, health = daemon.get("/readyz"), daemon.get("/health")
    assert (ready.status, health.status) == (503, 503)
    assert health.json["redis"] == {"connected": False}
    assert str(own_store.socket) in health.json["reason"]
    assert daemon.notify
    assert daemon.notify.has("READY=1") is None
    wait_until_sync(lambda: any(str(own_store.socket) in text for text in daemon.notify.values("STATUS")), 5)  # type: ignore[union-attr]
    waited = wait_until_sync(lambda: daemon.logged("waiting for the store"), 5, "a line in the log says so")
    assert str(own_store.socket) in waited[0]["message"]
    own_store.start()
    came = time.monotonic()
    daemon.wait_ready()
    assert time.monotonic() - came < HANG_S
    wait_until_sync(lambda: daemon.notify and daemon.notify.has("READY=1"), 5)
    assert len(daemon.log_records()) < 8
    daemon.stop()


def test_systemd_is_asked_for_time_while_the_store_is_waited_for(daemons: Daemons, own_store: StoreServer) -> None:
    own_store.stop()
    daemon = daemons.make(config=f'[redis]\nurl = "{own_store.url}"', notify=True)
    daemon.launch()
    [microseconds] = wait_until_sync(lambda: daemon.notify and daemon.notify.values("EXTEND_TIMEOUT_USEC")[:1], 5)
    assert int(microseconds) >= 20_000_000
    assert daemon.stop() < HANG_S


def test_wrong_credentials_are_bad_configuration(daemons: Daemons, own_store: StoreServer) -> None:
    with own_store.client() as client:
        client.config_set("requirepass", "right")
    daemon = daemons.make(config=f'[redis]\nurl = "unix://:wrong@{own_store.socket}"')
    code, line = daemon.refused()
    assert code == ExitCode.CONFIG
    assert str(own_store.socket) in line
    assert "wrong" not in line.replace("wrong password", "")


def test_a_taken_port_is_tried_again_by_systemd(daemons: Daemons) -> None:
    daemon = daemons.make()
    with listener(daemon.port):
        code, line = daemon.refused()
    assert code == ExitCode.UNAVAILABLE
    assert f"127.0.0.1:{daemon.port} is in use" in line
    daemon.start()
    daemon.stop()


def test_a_second_daemon_on_the_folder_is_refused_and_the_first_is_undisturbed(daemons: Daemons) -> None:
    first = daemons.start()
    [key] = first.add(1, seconds=0.5)
    first.wait_effects("started", 1)
    code, line = daemons.make(state=first.state).refused()
    assert code == ExitCode.UNAVAILABLE
    assert f"{first.state} is in use by process {first.pid}" in line
    first.wait_effects("done", 1)
    assert first.count("started") == {key: 1}
    assert first.get("/readyz").status == 200
    first.stop()


@pytest.mark.parametrize(
    ("config", "lines"),
    [
        ('[queues.message]\nrate_limit = "20 a minute"\n[defaults]\nattemps = 3', 2),
        ('[queues.work2]\nhandlers = ["no.such.module"]', 1),
        ("this is no TOML", 1),
    ],
)
def test_bad_configuration_ends_at_once_with_a_line_for_each_mistake(
    daemons: Daemons, config: str, lines: int
) -> None:
    daemon = daemons.make(config=config)
    daemon.launch()
    assert daemon.wait_end() == ExitCode.CONFIG
    assert time.monotonic() - daemon.started_at < HANG_S  # two seconds on a machine at rest
    shown = [line for line in daemon.log().splitlines() if not line.startswith("{")]
    assert len(shown) == lines
    assert all(line.startswith("crmd: ") and str(daemon.config) in line for line in shown)


def test_only_the_chosen_queues_run(daemons: Daemons) -> None:
    daemon = daemons.make(arguments=["--queues", "notification,email"])
    daemon.start()
    with daemon.client() as client:
        waits = client.enqueue(QUEUE, "work", {})
        done = client.enqueue("notification", "notify", {"message": "hello"})
        assert client.wait("notification", done.key, 5).state == "completed"
        assert client.job(QUEUE, waits.key).state == "waiting"
    assert daemon.get("/health").status == 200
    daemon.stop()
    daemon.options.arguments = ["--queues", "notification,none"]
    code, line = daemon.refused()
    assert code == ExitCode.USAGE
    assert "none" in line
