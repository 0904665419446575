"""A daemon whose store answers and takes no writes, or cannot be used: what it waits for, and what ends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from crmd.client.over_store import Client
from crmd.errors import ExitCode
from tests.support.daemon import QUEUE, DaemonProcess, Daemons, cpu_share
from tests.support.store import StoreServer
from tests.support.wait import wait_until_sync

Refusal = Callable[[StoreServer], AbstractContextManager[str]]
NOBODY = 65534


@contextmanager
def too_few_replicas(server: StoreServer) -> Iterator[str]:
    """Every write is answered with NOREPLICAS; gives what the daemon is to say."""
    with server.client() as admin:
        admin.config_set("min-replicas-to-write", 1)
        yield "NOREPLICAS"
        admin.config_set("min-replicas-to-write", 0)


@contextmanager
def failed_snapshot(server: StoreServer) -> Iterator[str]:
    """Every write is answered with MISCONF, as on a full disk."""
    with server.client() as admin:
        obstacle = server.folder / "dump.rdb"
        (obstacle / "in the way").mkdir(parents=True)
        admin.config_set("save", "3600 1")
        admin.bgsave()
        wait_until_sync(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        yield "cannot write to its disk"
        shutil.rmtree(obstacle)
        admin.bgsave()


@contextmanager
def read_only(server: StoreServer) -> Iterator[str]:
    """The server is a replica."""
    with server.client() as admin:
        admin.replicaof("127.0.0.1", "1")
        yield "read-only replica"
        admin.replicaof("NO", "ONE")


FAULTS = [pytest.param(one, marks=pytest.mark.faults) for one in (failed_snapshot, read_only)]


def external(daemons: Daemons, server: StoreServer) -> DaemonProcess:
    return daemons.make(config=f'[redis]\nurl = "{server.url}"', notify=True)


@pytest.mark.parametrize("refusal", [too_few_replicas, *FAULTS])
def test_a_start_waits_for_a_store_that_refuses_writes(
    daemons: Daemons, own_store: StoreServer, refusal: Refusal
) -> None:
    daemon = external(daemons, own_store)
    assert daemon.notify
    with refusal(own_store) as words:
        daemon.launch()
        wait_until_sync(lambda: words in daemon.get("/readyz").text, 10)
        assert daemon.get("/readyz").status == 503
        wait_until_sync(lambda: any(words in text for text in daemon.notify.values("STATUS")), 5)  # type: ignore[union-attr]
        wait_until_sync(lambda: daemon.logged("waiting for the store"), 5)
        lines = len(daemon.log_records())
        assert cpu_share(daemon.pid, 1.0) < 0.1
        assert len(daemon.log_records()) - lines <= 1
        assert daemon.notify.has("READY=1") is None
        assert daemon.running
    daemon.wait_ready()
    [key] = daemon.add(1, url=own_store.url)
    daemon.wait_effects("done", 1)
    assert daemon.count("done") == {key: 1}
    daemon.stop()


@pytest.mark.parametrize("refusal", [too_few_replicas, FAULTS[0]])
def test_a_store_that_refuses_writes_is_unready_with_a_reason_until_it_takes_them(
    daemons: Daemons, own_store: StoreServer, refusal: Refusal
) -> None:
    daemon = external(daemons, own_store)
    daemon.start()
    [key] = daemon.add(1, seconds=0.5, url=own_store.url)
    daemon.wait_effects("started", 1)
    with refusal(own_store) as words:
        wait_until_sync(lambda: daemon.get("/readyz").status == 503, 5)
        assert words in daemon.get("/readyz").json["reason"]
        health = daemon.get("/health")
        assert (health.status, health.json["status"], health.json["queues"]) == (503, "error", "unhealthy")
        assert health.json["redis"] == {"connected": True}
        assert words in health.json["reason"]
        assert "crmd_store_writable 0.0" in daemon.get("/metrics").text
        assert [words in one["reason"] for one in daemon.logged("store.writes_refused")] == [True]
        assert daemon.get("/livez").status == 200
        daemon.wait_effects("done", 1)
        wait_until_sync(
            lambda: words in daemon.get("/api/v1/queues/health").json["queues"][QUEUE].get("reason", ""), 5
        )
        assert daemon.logged("queue.degraded") == []  # the store has said it, once
    daemon.wait_ready()
    with Client(own_store.url) as client:
        assert client.wait(QUEUE, key, 5).state == "completed"
    assert daemon.get("/health").json["status"] == "ok"
    assert len(daemon.logged("store.writes_taken")) == 1
    assert daemon.count("done") == {key: 1}
    daemon.stop()


def test_a_user_without_channels_is_bad_configuration(daemons: Daemons, own_store: StoreServer) -> None:
    with own_store.client() as admin:
        admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", "~*", "+@all")
    daemon = daemons.make(config=f'[redis]\nurl = "unix://app:pw@{own_store.socket}"')
    code, line = daemon.refused()
    assert code == ExitCode.CONFIG
    assert "permission for PUBLISH on channel crmd:wake" in line


@pytest.mark.parametrize(
    "inside",
    [
        pytest.param("store", marks=pytest.mark.faults),
        pytest.param("store/appendonlydir", marks=pytest.mark.faults),
        "store/appendonlydir/appendonly.aof.manifest",
    ],
)
def test_data_of_another_user_are_named_with_the_remedy(daemons: Daemons, inside: str) -> None:
    daemon = daemons.start()
    daemon.stop()
    path = daemon.state / inside
    if os.geteuid() == 0:
        remedy = f'chown -R 0 "{daemon.state}/store"'
        path.chmod(0o700)
        os.chown(path, NOBODY, NOBODY)
        daemon.options.prefix = without_roots_privilege()
    else:
        remedy = "correct its mode"
        path.chmod(0)
    daemon.launch()
    assert daemon.wait_end() == ExitCode.CONFIG
    last = daemon.log().splitlines()[-1]
    assert last.startswith(f"crmd: {path}: daemon.state_dir: ")
    assert remedy in last
    path.chmod(0o700)


def without_roots_privilege() -> list[str]:
    """Runs a command as a root to whom the modes and owners of files apply."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may read and write all files, and setpriv is not installed")
    return [setpriv, "--bounding-set", "-dac_override,-dac_read_search", "--"]
