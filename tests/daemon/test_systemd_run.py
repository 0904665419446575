"""A real daemon as systemd and a person see it: welcome, watchdog, reload, sockets, stacks."""

from __future__ import annotations

import itertools
import re
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from crmd.errors import ExitCode
from tests.support.cli import Result, crmd
from tests.support.daemon import DaemonProcess, Daemons
from tests.support.wait import HANG_S, wait_until_sync


def command(daemon: DaemonProcess, *arguments: str) -> Result:
    """A command of the command line for this daemon."""
    return crmd("--config", str(daemon.config), *arguments)


def typed(daemon: DaemonProcess, line: str) -> str:
    """Does what the welcome says, where the daemon was started; what that printed."""
    words = shlex.split(line)
    done = subprocess.run(words, cwd=daemon.folder, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode, done.stderr) == (ExitCode.OK, "")
    return done.stdout


def test_the_welcome_can_be_typed_along(daemons: Daemons) -> None:
    daemon = daemons.start()
    wait_until_sync(lambda: "look" in daemon.out(), what="the welcome is printed")
    lines = dict(re.findall(r"^  (\w+) +(?:.*password: )?(.+)$", daemon.out(), re.MULTILINE))
    assert (
        typed(daemon, lines["try"]).splitlines()[1]
        == 'completed {"channel": "log", "level": "info", "outcome": "sent"}'
    )
    assert "notification" in typed(daemon, lines["look"])
    password = typed(daemon, lines["user"]).strip()
    assert len(password) >= 20
    assert password not in daemon.out() + daemon.log()


def test_the_watchdog_is_fed_three_times_in_its_time(daemons: Daemons) -> None:
    daemon = daemons.make(notify=True, watchdog_seconds=0.9)
    daemon.start()
    assert daemon.notify is not None
    times = daemon.notify.times
    wait_until_sync(lambda: len(times("WATCHDOG=1")) >= 8, 10, "eight pings")
    pings = times("WATCHDOG=1")[3:]
    # a busy machine makes some of them late, not most
    assert statistics.median(later - earlier for earlier, later in itertools.pairwise(pings)) < 0.45


def test_readiness_and_the_first_status_come_in_one_message(daemons: Daemons) -> None:
    daemon = daemons.make(notify=True)
    daemon.start()
    assert daemon.notify is not None
    wait_until_sync(lambda: daemon.notify and daemon.notify.has("READY=1"), 5, "it says that it is ready")
    (ready,) = [one.lines for one in daemon.notify.said if "READY=1" in one.lines]
    assert "STATUS=0 active, 0 waiting" in ready


def test_the_store_gets_none_of_systemds_variables(daemons: Daemons) -> None:
    daemon = daemons.make(notify=True, watchdog_seconds=30)
    daemon.start()
    environment = Path(f"/proc/{daemon.store_pid}/environ").read_bytes()
    assert b"NOTIFY_SOCKET" not in environment
    assert b"WATCHDOG" not in environment


def test_a_bad_configuration_is_refused_on_reload(daemons: Daemons) -> None:
    daemon = daemons.make(notify=True)
    daemon.start()
    assert daemon.notify is not None
    good = daemon.config.read_text()
    daemon.configure(config="[queues.message]\nconcurency = 1\n")
    asked_at = time.monotonic()
    daemon.signal(signal.SIGHUP)
    wait_until_sync(lambda: daemon.notify and daemon.notify.has("READY=1", asked_at), 5, "the reload ends")
    assert daemon.notify.has("RELOADING=1", asked_at)
    assert daemon.notify.values("MONOTONIC_USEC", asked_at)
    assert any("queues.message.concurency" in status for status in daemon.notify.values("STATUS", asked_at))
    assert "queues.message.concurency" in daemon.log()
    daemon.config.write_text(good)
    assert command(daemon, "enqueue", "notification", "notify", "message=x", "--wait", "5s").code == ExitCode.OK


def test_usr1_logs_all_stacks(daemons: Daemons) -> None:
    daemon = daemons.start()
    daemon.options.expect_tracebacks = True
    daemon.signal(signal.SIGUSR1)
    (record,) = wait_until_sync(lambda: daemon.logged("stacks:"), what="stacks in the log")
    assert "thread MainThread" in record["message"]
    assert re.search(r"\d+ tasks:", record["message"])


def test_a_socket_of_systemd_is_served(daemons: Daemons) -> None:
    daemon = daemons.make()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        # bash moves the socket to descriptor 3, where systemd puts it, and keeps its process id
        run = shlex.join([sys.executable, "-m", "crmd", "--config", str(daemon.config), "run"])
        script = f"exec 3<&{server.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec {run}"
        with daemon.out_file.open("wb") as out, daemon.log_file.open("wb") as log:
            daemon.process = subprocess.Popen(
                ["/bin/bash", "-c", script],
                pass_fds=[server.fileno()],
                stdout=out,
                stderr=log,
                env=daemon._environ(),
            )
        wait_until_sync(lambda: f"ready at {address}" in daemon.out(), 15, "the daemon is ready")
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            assert answer.status == 200
        assert daemon.get("/readyz").status == 0
        daemon.stop()


def test_stop_while_the_store_is_waited_for(daemons: Daemons) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        daemon = daemons.make(config=f'[redis]\nurl = "redis://127.0.0.1:{silent.getsockname()[1]}"')
        daemon.launch()
        wait_until_sync(lambda: daemon.get("/livez").status == 200, 10, "HTTP is up")
        assert daemon.stop() < HANG_S
