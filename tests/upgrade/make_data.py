"""Makes the data in `data/` with the code of 0.1.0: `python -m tests.upgrade.make_data`.

Needs root (the machine gets another name meanwhile, since daemons write it down), redis-server and PostgreSQL.
All that is in the data came in by the HTTP API of 0.1.0 or a plain SAQ program.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saq.queue.redis import RedisQueue

from bench.revision import VERSION_0_1_0, find_revision
from crmd.embedded.binary import find_server
from tests.support.daemon import QUEUE, DaemonProcess, Daemons
from tests.support.embedded import servers_in
from tests.support.postgres import USER, Postgres, find_binaries
from tests.support.sandbox import SandboxThread, sandbox
from tests.support.store import StoreServer
from tests.support.wait import wait_until_sync
from tests.upgrade import left_behind
from tests.upgrade.api import Api
from tests.upgrade.left_behind import Sent

HOST = "example-host"
TAKEN = 4
"""Messages that the stand-in takes before the daemon ends: some of those of the canary wait then."""
WAIT_SECONDS = 30.0
DUE_IN = "20s"
_NOT_KEPT = ("store.sock", "store.pid", "store.log", "lock")


def main() -> None:
    """Makes both."""
    if socket.gethostname() != HOST:
        if "--named" in sys.argv:
            socket.sethostname(HOST)
        else:
            command = ["unshare", "--uts", sys.executable, "-m", "tests.upgrade.make_data", "--named"]
            sys.exit(subprocess.run(command).returncode)
    daemons = Daemons()
    try:
        _make_embedded(daemons)
        _make_external(daemons)
    finally:
        daemons.close()


def old_environ() -> dict[str, str]:
    """Lets a daemon be one of 0.1.0."""
    return {"PYTHONPATH": str(find_revision(VERSION_0_1_0).source())}


def _make_embedded(daemons: Daemons) -> None:
    daemon = daemons.make(environ=old_environ())
    with _running(daemon, "") as whatsapp:
        _leave_jobs(daemon, daemon.store_url)
        _begin_campaign(daemon, whatsapp)
        for taken in (True, False):
            whatsapp.keep_silent(1, taken=taken)
        wait_until_sync(lambda: whatsapp.is_silent, WAIT_SECONDS, "messages wait for an answer")
        daemon.kill()
        sent = Sent(sorted(whatsapp.recipients()), unanswered=2)
    _wait_store_ended(daemon)
    with tempfile.TemporaryDirectory() as name:
        _copy_state(daemon, Path(name) / "state")
        left_behind.pack("embedded", Path(name), sent)


def _make_external(daemons: Daemons) -> None:
    binaries, redis_server = find_binaries(), shutil.which("redis-server")
    assert binaries, "PostgreSQL is not installed"
    assert redis_server, "redis-server is not installed; Valkey's dumps are not for Redis"
    store, postgres = StoreServer(find_server(Path(redis_server)).path, persistent=False), Postgres(binaries)
    try:
        store.start()
        postgres.create()
        postgres.start()
        database = postgres.new_database()
        daemon = daemons.make(environ=old_environ())
        tables = f'[redis]\nurl = "{store.url}"\n[database]\nurl = "{postgres.url(database)}"\n'
        with _running(daemon, tables) as whatsapp:
            _leave_jobs(daemon, store.url)
            _begin_campaign(daemon, whatsapp)
            daemon.stop()
            sent = Sent(sorted(whatsapp.recipients()), unanswered=0)
        with store.client() as client:
            client.save()
        with tempfile.TemporaryDirectory() as name:
            _copy_state(daemon, Path(name) / "state")
            shutil.copy(store.folder / "dump.rdb", name)
            (Path(name) / "records.sql").write_text(_dump(binaries, postgres, database))
            left_behind.pack("external", Path(name), sent)
    finally:
        store.close()
        postgres.close()


@contextmanager
def _running(daemon: DaemonProcess, tables: str) -> Iterator[SandboxThread]:
    """The daemon, and the stand-in for WhatsApp that it has."""
    with sandbox(daemon.port, status_seconds=(0.1, 0.2, 0.3)) as whatsapp:
        queue = left_behind.MESSAGE_QUEUE.format(rate="4/s")
        table = left_behind.whatsapp_table(whatsapp.whatsapp_table)
        daemon.configure(f"{tables}\n{table}\n{queue}", queue='attempts = 1\ntimeout = "1s"')
        daemon.start()
        yield whatsapp


def _leave_jobs(daemon: DaemonProcess, store_url: str) -> None:
    api = Api(daemon)
    api.add(QUEUE, "work", left_behind.COMPLETED, {})
    api.add(QUEUE, "work", left_behind.FAILED, {"seconds": 60})
    api.add(QUEUE, "effect", left_behind.UNKNOWN, {"seconds": 60})
    for key, state in (
        (left_behind.COMPLETED, "completed"),
        (left_behind.FAILED, "failed"),
        (left_behind.UNKNOWN, "unknown"),
    ):
        _wait_state(api, key, state)
    api.post(f"/api/v1/queues/{QUEUE}/pause", {"reason": left_behind.PAUSE_REASON})
    api.post(f"/api/v1/queues/{QUEUE}/limit", {"rate": left_behind.LIMIT})
    for key in left_behind.WAITING:
        api.add(QUEUE, "work", key, {}, priority=1 if key.endswith("first") else 0)
    asyncio.run(_add_plain(store_url))
    api.add(QUEUE, "work", left_behind.LATER, {}, at=left_behind.LATER_AT)


async def _add_plain(store_url: str) -> None:
    queue = RedisQueue.from_url(store_url, name=QUEUE)
    await queue.connect()
    assert await queue.enqueue("work", key=left_behind.PLAIN, seconds=0)
    await queue.disconnect()


def _begin_campaign(daemon: DaemonProcess, whatsapp: SandboxThread) -> None:
    """A campaign whose first few are on their way, and one of whose contacts wants no messages."""
    api = Api(daemon)
    lines = [f"{left_behind.phone(number)},Name {number}" for number in range(left_behind.CONTACTS)]
    file = api.upload("\n".join(["phone,name", *lines]).encode(), "people.csv")
    api.add("import", "import_contacts", "people", {"file": file, "tags": [left_behind.TAG]})
    wait_until_sync(lambda: api.job("import", "people")["state"] == "completed", WAIT_SECONDS, "the import")
    whatsapp.write(left_behind.OPTED_OUT, "STOP")
    wait_until_sync(
        lambda: len(api.get("/api/v1/contacts?opted_out=true")["contacts"]) == 1, WAIT_SECONDS, "STOP is heard"
    )
    api.add(QUEUE, "work", left_behind.DUE, {}, delay=DUE_IN)
    payload = {
        "name": left_behind.CAMPAIGN,
        "audience": {"filter": {"tags": [left_behind.TAG]}},
        "content": {"text": "Hello {{ name }}"},
        "canary": {"count": left_behind.CANARY, "max_failure_share": 0.5, "wait": "10s"},
    }
    api.add("campaign", "run_campaign", left_behind.CAMPAIGN, payload)
    wait_until_sync(lambda: whatsapp.taken >= TAKEN, WAIT_SECONDS, f"{TAKEN} messages")


def _wait_state(api: Api, key: str, state: str) -> None:
    wait_until_sync(lambda: api.job(QUEUE, key)["state"] == state, WAIT_SECONDS, f"{key} is {state}")


def _wait_store_ended(daemon: DaemonProcess) -> None:
    wait_until_sync(lambda: not servers_in(daemon.state), WAIT_SECONDS, "the store ends with its daemon")


def _copy_state(daemon: DaemonProcess, to: Path) -> None:
    shutil.copytree(daemon.state, to, ignore=shutil.ignore_patterns(*_NOT_KEPT))


def _dump(binaries: Path, postgres: Postgres, database: str) -> str:
    """The database as SQL that any later PostgreSQL takes, without settings and commands of one version's psql."""
    command = (binaries / "pg_dump", "--inserts", "--no-owner", "--no-privileges")
    made = subprocess.run(
        [*command, "-h", postgres.folder, "-U", USER, database], capture_output=True, text=True, check=True
    )
    return "".join(
        line
        for line in made.stdout.splitlines(keepends=True)
        if not re.match(r"SET |\\|--|SELECT pg_catalog.set_config", line)
    )


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
