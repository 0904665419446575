"""The protocol with systemd, over a real datagram socket and real descriptors."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crmd.daemon.systemd import Notifier, Systemd, Watchdog, listen_sockets, watchdog_timeout
from tests.support.wait import HANG_S

PID = 4711


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Systemd's end of `$NOTIFY_SOCKET`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(5)
        yield receiver


@pytest.fixture
def notifier(manager: socket.socket) -> Iterator[Notifier]:
    notifier = Notifier(manager.getsockname())
    yield notifier
    notifier.close()


def heard(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_ready_and_status_stay_on_one_line(manager: socket.socket, notifier: Notifier) -> None:
    notifier.ready("12 waiting")
    assert heard(manager) == ["READY=1", "STATUS=12 waiting"]
    notifier.status("bad config:\nline 3")
    assert heard(manager) == ["STATUS=bad config: line 3"]


def test_stopping_asks_for_time(manager: socket.socket, notifier: Notifier) -> None:
    notifier.stopping(40.5, "draining")
    assert heard(manager) == ["STOPPING=1", "EXTEND_TIMEOUT_USEC=40500000", "STATUS=draining"]
    notifier.extend(10)
    assert heard(manager) == ["EXTEND_TIMEOUT_USEC=10000000"]


def test_reloading_bears_the_monotonic_time(manager: socket.socket, notifier: Notifier) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = heard(manager)
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000


def test_abstract_addresses() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0crmd-test-{os.getpid()}")
        receiver.settimeout(5)
        systemd = Systemd.take({"NOTIFY_SOCKET": f"@crmd-test-{os.getpid()}"}, PID)
        systemd.notifier.ready()
        assert heard(receiver) == ["READY=1"]
        systemd.notifier.close()


def test_without_systemd_nothing_happens() -> None:
    systemd = Systemd.take({}, PID)
    systemd.notifier.ready()
    assert not systemd.notifier.enabled
    assert systemd.sockets == []


def test_a_manager_that_is_gone_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(str(tmp_path / "nobody"))
    notifier.ping()
    notifier.ping()
    notifier.close()
    notifier.close()
    notifier.ping()
    assert len(caplog.records) == 1


def test_a_manager_that_does_not_read_cannot_hold_the_loop(manager: socket.socket, notifier: Notifier) -> None:
    began = time.monotonic()
    for _ in range(20):
        notifier.ping()
        if notifier._failed:
            break
    assert time.monotonic() - began < HANG_S


def test_children_do_not_see_the_variables() -> None:
    environ = {"NOTIFY_SOCKET": "/run/none", "WATCHDOG_USEC": "1", "LISTEN_FDS": "1", "PATH": "/bin"}
    Systemd.take(environ, PID).notifier.close()
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_timeout(environ: dict[str, str], seconds: float | None) -> None:
    assert watchdog_timeout(environ, PID) == seconds


async def test_watchdog_pings_three_times_in_its_time(manager: socket.socket, notifier: Notifier) -> None:
    manager.setblocking(False)
    loop = asyncio.get_running_loop()
    watchdog = Watchdog(notifier, 0.3)
    await watchdog.stop()
    await watchdog.start()
    await watchdog.start()
    pings = [loop.time()]
    for _ in range(7):
        assert await asyncio.wait_for(loop.sock_recv(manager, 100), HANG_S) == b"WATCHDOG=1"
        pings.append(loop.time())
    assert pings[4] - pings[0] >= 0.29
    # a busy machine makes some of them late, not all
    assert min(later - sooner for sooner, later in itertools.pairwise(pings[1:])) < 0.15
    await watchdog.stop()
    await watchdog.stop()


async def test_no_watchdog_no_task(notifier: Notifier) -> None:
    watchdog = Watchdog(notifier, None)
    tasks = asyncio.all_tasks()
    await watchdog.start()
    assert asyncio.all_tasks() == tasks


def test_sockets_of_another_process_are_left_alone() -> None:
    assert listen_sockets({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, PID) == []
    assert listen_sockets({"LISTEN_FDS": "x", "LISTEN_PID": str(PID)}, PID) == []


def test_listening_sockets_are_taken_over() -> None:
    program = (
        "import os\n"
        "from crmd.daemon.systemd import listen_sockets\n"
        "environ = {'LISTEN_FDS': '1', 'LISTEN_PID': str(os.getpid())}\n"
        "(taken,) = listen_sockets(environ, os.getpid())\n"
        "print(taken.getsockname()[1], taken.getblocking(), os.get_inheritable(taken.fileno()))\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        # sh moves the socket to descriptor 3, where systemd puts the first one
        command = f'exec "$0" -c "$1" 3<&{server.fileno()}'
        output = subprocess.check_output(
            ["/bin/bash", "-c", command, sys.executable, program], pass_fds=[server.fileno()], text=True
        )
        assert output.split() == [str(server.getsockname()[1]), "False", "False"]
