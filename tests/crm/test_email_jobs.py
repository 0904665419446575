"""`send_email` in real queues: attempts, a drain half-way, a daemon that dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from crmd.crm.email.jobs import send_email
from crmd.crm.email.smtp import SmtpClient
from crmd.engine.admin.views import State
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import Backoff, QueueSettings
from tests.support.engine_harness import EngineHarness, engine_harness, kill
from tests.support.services import END, HANG, HANG_UP, MailServer, smtp_client
from tests.support.started import started
from tests.support.wait import wait_until

MAIL = {"to": "ann@example.org", "subject": "Hello", "text": "Good news."}


@dataclass
class Office:
    """A mail server, a queue `email`, and daemons to run it."""

    harness: EngineHarness
    server: MailServer
    smtp: SmtpClient

    async def daemon(self, identity: str | None = None) -> WorkerPool:
        """Starts a daemon."""
        return await self.harness.start_pool(identity, resources={SmtpClient: self.smtp})

    async def add(self, **fields: Any) -> str:
        """Adds a mail and returns its job's key."""
        return await self.harness.add("email", "send_email", **{**MAIL, **fields})

    async def finished(self, key: str) -> State:
        """The job's state once it is over."""
        return (await self.harness.finished("email", key)).state

    def message_ids(self) -> list[str]:
        """Those of the mails that arrived."""
        return [arrived.message["Message-ID"] for arrived in self.server.arrived]


@asynccontextmanager
async def open_office(store_url: str, **settings: Any) -> AsyncIterator[Office]:
    queue = QueueSettings("email", backoff=Backoff(0.01, 0.02), **settings)
    async with (
        started(MailServer()) as server,
        started(smtp_client(server)) as smtp,
        engine_harness(store_url, queue) as made,
    ):
        made.handle_jobs(send_email)
        yield Office(made, server, smtp)


async def test_lost_connections_cost_attempts_and_the_mail_arrives(store_url: str) -> None:
    async with open_office(store_url, attempts=5) as office:
        office.server.then("MAIL", HANG_UP, HANG_UP)
        await office.daemon()
        key = await office.add()
        assert await office.finished(key) is State.COMPLETED
        view = await office.harness.inspector.job("email", key)
        assert view.attempt == 3
        assert view.result["accepted"] == 1
        assert len(office.server.arrived) == 1


async def test_a_refused_mail_fails_at_once_with_the_code(store_url: str) -> None:
    async with open_office(store_url, attempts=5) as office:
        office.server.always("RCPT", "550 5.1.1 no such user")
        await office.daemon()
        key = await office.add()
        assert await office.finished(key) is State.FAILED
        view = await office.harness.inspector.job("email", key)
        assert view.attempt == 1
        assert "550 5.1.1 no such user" in (view.error or "")


async def test_a_job_that_times_out_is_tried_again(store_url: str) -> None:
    async with open_office(store_url, attempts=2, timeout_seconds=0.5) as office:
        office.server.then("DATA", HANG)
        await office.daemon()
        assert await office.finished(await office.add()) is State.COMPLETED
        assert len(office.server.arrived) == 1


async def test_a_drain_half_way_gives_the_job_back_and_the_next_daemon_sends_it(store_url: str) -> None:
    async with open_office(store_url) as office:
        office.server.then("RCPT", HANG)
        first = await office.daemon()
        key = await office.add()
        await wait_until(lambda: "RCPT" in office.server.commands)
        await first.stop(0.0)
        view = await office.harness.inspector.job("email", key)
        assert (view.state, view.attempt) == (State.WAITING, 0)
        await office.daemon()
        assert await office.finished(key) is State.COMPLETED
        assert len(office.server.arrived) == 1


async def test_a_daemon_that_dies_after_the_mail_was_taken_leads_to_a_recognisable_repeat(store_url: str) -> None:
    async with open_office(store_url) as office:
        office.server.then(END, HANG_UP, accepted=True)
        office.server.then(END, HANG)
        first = await office.daemon("one")
        key = await office.add()
        await wait_until(lambda: office.server.commands.count("DATA") == 2)
        await kill(first)
        await office.daemon("one")
        assert await office.finished(key) is State.COMPLETED
        ids = office.message_ids()
        assert len(ids) == 2
        assert len(set(ids)) == 1


async def test_a_cancelled_mail_is_not_sent(store_url: str) -> None:
    async with open_office(store_url) as office:
        office.server.then("MAIL", HANG)
        await office.daemon()
        key = await office.add()
        await wait_until(lambda: "MAIL" in office.server.commands)
        await office.harness.control.cancel("email", key, "no")
        assert await office.finished(key) is State.CANCELLED
        assert office.server.arrived == []
