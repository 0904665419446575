"""A daemon of today on what 0.1.0 left: everything is as it was, goes on, and messages nobody twice."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import QUEUE, DaemonProcess, Daemons
from tests.support.postgres import Postgres
from tests.support.sandbox import sandbox
from tests.support.store import StoreServer
from tests.support.wait import wait_until_sync
from tests.upgrade import left_behind
from tests.upgrade.api import Api
from tests.upgrade.left_behind import AUDIENCE, LIMIT_STARTS, OPTED_OUT, Sent

WAIT_SECONDS = 40.0
"""Far above what it takes, for a machine under load."""
OVER = ("accepted", "sent", "delivered", "read", "unknown")
"""Statuses of messages that nothing more is sent for."""
JOBS = {*left_behind.WAITING, left_behind.PLAIN, left_behind.DUE}
"""Those that run as soon as the queue is resumed and its limit lets them."""


@dataclass(frozen=True)
class Left:
    """What 0.1.0 left, in a place of its own."""

    daemon: DaemonProcess
    """Not started."""
    tables: str
    """Of the configuration: where store and database are."""
    sent: Sent


@pytest.fixture
def embedded(daemons: Daemons, tmp_path: Path) -> Left:
    """The state folder of a killed daemon."""
    sent = left_behind.unpack("embedded", tmp_path)
    daemon = daemons.make()
    shutil.copytree(tmp_path / "state", daemon.state)
    return Left(daemon, "", sent)


@pytest.fixture
def external(daemons: Daemons, tmp_path: Path, store_binary: Path, postgres: Postgres) -> Iterator[Left]:
    """The state folder of a stopped daemon, its Redis and its PostgreSQL."""
    sent = left_behind.unpack("external", tmp_path)
    daemon = daemons.make()
    shutil.copytree(tmp_path / "state", daemon.state)
    database = postgres.new_database()
    postgres.load(tmp_path / "records.sql", database)
    store = StoreServer(store_binary, persistent=False)
    try:
        shutil.copy(tmp_path / "dump.rdb", store.folder)
        store.start()
        tables = f'[redis]\nurl = "{store.url}"\n[database]\nurl = "{postgres.url(database)}"\n'
        yield Left(daemon, tables, sent)
        if daemon.running:
            daemon.stop()
    finally:
        store.close()
        postgres.drop(database)


@pytest.mark.parametrize("name", left_behind.NAMES)
def test_what_0_1_0_left_goes_on(name: str, request: pytest.FixtureRequest) -> None:
    left: Left = request.getfixturevalue(name)
    daemon = left.daemon
    with sandbox(daemon.port, status_seconds=(0.05, 0.1, 0.15)) as whatsapp:
        queue = left_behind.MESSAGE_QUEUE.format(rate="1000/s")
        daemon.configure(f"{left.tables}\n{whatsapp.whatsapp_table}\n{queue}")
        daemon.launch()
        daemon.wait_ready(WAIT_SECONDS)
        api = Api(daemon)
        finished = _campaign_finishes(api)
        wait_until_sync(lambda: _is_known_of_each(api), WAIT_SECONDS, "each message is known of")
        _nobody_twice_and_nobody_forgotten(api, left.sent, whatsapp.recipients())
        assert finished["state"] == "completed"
        _jobs_are_as_they_were(daemon, api)
        _queue_goes_on(daemon, api)
        daemon.stop()


def _campaign_finishes(api: Api) -> Any:
    wait_until_sync(
        lambda: api.job("campaign", left_behind.CAMPAIGN)["state"] in ("completed", "failed"),
        WAIT_SECONDS,
        "the campaign ends",
    )
    return api.job("campaign", left_behind.CAMPAIGN)


def _messages(api: Api) -> dict[str, str]:
    found = api.get("/api/v1/messages?direction=out&limit=100")["messages"]
    assert len({one["phone"] for one in found}) == len(found), "a row for each number"
    return {one["phone"]: one["status"] for one in found}


def _is_known_of_each(api: Api) -> bool:
    over = [status in OVER for status in _messages(api).values()]
    return all(over) and len(over) == len(AUDIENCE) - 1


def _nobody_twice_and_nobody_forgotten(api: Api, sent: Sent, taken: Counter[str]) -> None:
    messages = _messages(api)
    unknown = {phone for phone, status in messages.items() if status == "unknown"}
    before = set(sent.taken)
    assert not [phone for phone, times in taken.items() if times > 1]
    assert not before & set(taken)
    assert sent.unanswered <= len(unknown) <= (left_behind.CONCURRENCY if sent.unanswered else 0)
    assert not unknown & set(taken)
    assert before | set(taken) | unknown == AUDIENCE - {OPTED_OUT}
    assert set(messages) == AUDIENCE - {OPTED_OUT}


def _jobs_are_as_they_were(daemon: DaemonProcess, api: Api) -> None:
    assert not daemon.effects(), "the queue is still paused"
    queue = api.queue(QUEUE)
    assert queue["paused"]
    assert queue["pause"]["reason"] == left_behind.PAUSE_REASON
    assert queue["limit"]["rate"] == left_behind.LIMIT
    assert set(api.jobs(QUEUE, "failed")) == {left_behind.FAILED}
    assert set(api.jobs(QUEUE, "unknown")) == {left_behind.UNKNOWN}
    assert set(api.jobs(QUEUE, "completed")) == {left_behind.COMPLETED}
    waits = set(api.jobs(QUEUE, "waiting")) | set(api.jobs(QUEUE, "delayed"))
    assert waits == {*JOBS, left_behind.LATER}
    assert api.job(QUEUE, left_behind.FAILED)["attempt"] == 1


def _queue_goes_on(daemon: DaemonProcess, api: Api) -> None:
    api.post(f"/api/v1/queues/{QUEUE}/resume")
    daemon.wait_effects("done", LIMIT_STARTS, WAIT_SECONDS)
    wait_until_sync(lambda: api.queue(QUEUE)["limit"]["left"] == 0, WAIT_SECONDS, "the limit is reached")
    assert len(daemon.effects("started")) == LIMIT_STARTS
    assert daemon.effects("started")[0].job == left_behind.WAITING[-1], "the one with priority 1 is the first"
    api.post(f"/api/v1/queues/{QUEUE}/limit", {"rate": None})
    daemon.wait_effects("done", len(JOBS), WAIT_SECONDS)
    assert daemon.count("started") == Counter(JOBS)
    assert api.job(QUEUE, left_behind.LATER)["state"] == "delayed"
    assert api.job(QUEUE, left_behind.LATER)["run_at"].startswith(left_behind.LATER_AT[:19])
    api.post(f"/api/v1/queues/{QUEUE}/jobs/{left_behind.LATER}/promote")
    daemon.wait_effects("done", len(JOBS) + 1, WAIT_SECONDS)
    assert set(api.jobs(QUEUE, "unknown")) == {left_behind.UNKNOWN}
