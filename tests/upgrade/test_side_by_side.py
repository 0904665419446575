"""Daemons of 0.1.0 and of today on one store and one database, while one after the other is replaced."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.revision import VERSION_0_1_0, Revision, RevisionUnknown, find_revision
from crmd.errors import ExitCode
from tests.support.daemon import PROJECT, QUEUE, DaemonProcess, Daemons
from tests.support.postgres import Postgres
from tests.support.sandbox import SandboxThread, sandbox
from tests.support.store import StoreServer
from tests.support.wait import wait_until_sync
from tests.upgrade.api import Api
from tests.upgrade.left_behind import whatsapp_table

pytestmark = pytest.mark.faults

WAIT_SECONDS = 120.0
CONTACTS = 300
MESSAGE_RATE = 40
CONCURRENCY = 4
JOBS = 200
LIVE = ("waiting", "active", "delayed")
BY_RECIPIENT = """
SELECT count(*) FROM messages m JOIN campaign_recipients r ON r.id = m.recipient_id AND r.phone = m.phone
UNION ALL SELECT count(*) FROM messages WHERE campaign_id IS NOT NULL AND recipient_id IS NULL
"""
"""Messages of the campaign that name their recipient, whichever daemon wrote them, and those that do not."""


@pytest.fixture(scope="module")
def old() -> Revision:
    """The code of 0.1.0; skips where the history is not all here."""
    try:
        return find_revision(VERSION_0_1_0)
    except RevisionUnknown as error:
        pytest.skip(str(error))


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """The name of the database that all daemons share."""
    name = postgres.new_database()
    yield name
    postgres.drop(name)


@pytest.fixture
def tables(own_store: StoreServer, postgres: Postgres, database: str) -> str:
    """Of the configuration: the store and the database that all daemons share."""
    return f'[redis]\nurl = "{own_store.url}"\n[database]\nurl = "{postgres.url(database)}"\n'


def test_daemons_are_replaced_while_a_campaign_runs(
    daemons: Daemons, tables: str, postgres: Postgres, database: str, old: Revision
) -> None:
    environ = {"PYTHONPATH": str(old.source())}
    first, second = daemons.make(environ=environ), daemons.make(environ=environ)
    with sandbox(first.port, status_seconds=(0.1, 0.2, 0.3)) as whatsapp:
        queue = f'[queues.message]\nrate_limit = "{MESSAGE_RATE}/s"\nconcurrency = {CONCURRENCY}\n'
        for daemon in (first, second):
            table = whatsapp_table(whatsapp.whatsapp_table)
            daemon.configure(f"{tables}{table}\n{queue}", queue="concurrency = 2")
            _start(daemon)
            assert daemon.get("/health").json["version"] == "0.1.0"
        keys = _add_work(Api(second))
        _begin_campaign(Api(first))
        _wait_taken(whatsapp, 40)
        first.stop()
        first.options.environ = {}
        _start(first)
        keys |= _add_work(Api(first))
        _wait_taken(whatsapp, 120)
        second.kill()
        second.options.environ = {}
        _start(second)
        _wait_taken(whatsapp, 200)
        _wait_done(first)
        _check(first, second, whatsapp, keys)
        assert postgres.sql(BY_RECIPIENT, database).split() == [str(CONTACTS), "0"]
        for daemon in (first, second):
            daemon.stop()


def test_an_older_daemon_refuses_a_newer_database(daemons: Daemons, old: Revision) -> None:
    folders = (old.source() / "crmd/records", PROJECT / "crmd/crm/database")
    names = [{path.name for path in (folder / "migrations/versions").glob("0*.py")} for folder in folders]
    if names[0] == names[1]:
        pytest.skip("the database is that of 0.1.0")
    daemon = daemons.start()
    daemon.stop()
    daemon.options.environ = {"PYTHONPATH": str(old.source())}
    daemon.launch()
    assert daemon.wait_end() == ExitCode.CONFIG
    assert "run the newer crmd" in daemon.log().splitlines()[-1]


def _start(daemon: DaemonProcess) -> None:
    daemon.launch()
    daemon.wait_ready(WAIT_SECONDS)  # the first one of today migrates the database, beside all the others


def _add_work(api: Api) -> set[str]:
    jobs = [{"job": "work", "payload": {"seconds": 0.01}} for _ in range(JOBS)]
    return {one["key"] for one in api.post(f"/api/v1/queues/{QUEUE}/jobs", {"jobs": jobs})["jobs"]}


def _begin_campaign(api: Api) -> None:
    recipients = [{"phone": f"+4915100000{number:03}"} for number in range(CONTACTS)]
    payload = {"name": "spring", "audience": {"recipients": recipients}, "content": {"text": "Hello"}}
    api.add("campaign", "run_campaign", "spring", payload)


def _wait_taken(whatsapp: SandboxThread, count: int) -> None:
    wait_until_sync(lambda: whatsapp.taken >= count, WAIT_SECONDS, f"{count} messages")


def _wait_done(daemon: DaemonProcess) -> None:
    api = Api(daemon)

    def done() -> bool:
        queues = api.get("/api/v1/queues/health")["queues"]
        counts = [queues[name][state] for name in (QUEUE, "message", "campaign") for state in LIVE]
        return not any(counts)

    wait_until_sync(done, WAIT_SECONDS, "everything is over")


def _check(first: DaemonProcess, second: DaemonProcess, whatsapp: SandboxThread, keys: set[str]) -> None:
    twice = {phone: times for phone, times in whatsapp.recipients().items() if times > 1}
    assert not twice
    api = Api(first)
    unknown = {one["phone"] for one in api.get("/api/v1/messages?status=unknown&limit=100")["messages"]}
    assert len(unknown) <= CONCURRENCY, "only what was under way when one was killed"
    assert len(set(whatsapp.recipients()) | unknown) == CONTACTS
    done = first.count("done") + second.count("done")
    assert set(done) == keys, "each job ran to its end"
    assert sum(done.values()) - len(keys) <= 2, "only what ran when one was killed ran again"
    assert api.job("campaign", "spring")["state"] == "completed"
