"""`send_email` in real queues: which payloads it takes, attempts, a drain half-way, a daemon that dies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from crmd.crm.email.jobs import send_email
from crmd.crm.email.smtp import SmtpClient
from crmd.engine.admin.views import State
from crmd.engine.pool import WorkerPool
from crmd.engine.settings import Backoff, QueueSettings
from crmd.errors import InvalidPayload
from crmd.jobs import JobSpec, spec_of
from tests.support.engine_harness import EngineHarness, kill
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


def queue(**settings: Any) -> pytest.MarkDecorator:
    return pytest.mark.queues(QueueSettings("email", backoff=Backoff(0.01, 0.02), **settings))


pytestmark = queue()


@pytest.fixture
async def office(engine: EngineHarness) -> AsyncIterator[Office]:
    engine.handle_jobs(send_email)
    async with started(MailServer()) as server, started(smtp_client(server)) as smtp:
        yield Office(engine, server, smtp)


@queue(attempts=5)
async def test_lost_connections_cost_attempts_and_the_mail_arrives(office: Office) -> None:
    office.server.then("MAIL", HANG_UP, HANG_UP)
    await office.daemon()
    key = await office.add()
    assert await office.finished(key) is State.COMPLETED
    view = await office.harness.inspector.job("email", key)
    assert view.attempt == 3
    assert view.result["accepted"] == 1
    assert len(office.server.arrived) == 1


@queue(attempts=5)
async def test_a_refused_mail_fails_at_once_with_the_code(office: Office) -> None:
    office.server.always("RCPT", "550 5.1.1 no such user")
    await office.daemon()
    key = await office.add()
    assert await office.finished(key) is State.FAILED
    view = await office.harness.inspector.job("email", key)
    assert view.attempt == 1
    assert "550 5.1.1 no such user" in (view.error or "")


@queue(attempts=2, timeout_seconds=0.5)
async def test_a_job_that_times_out_is_tried_again(office: Office) -> None:
    office.server.then("DATA", HANG)
    await office.daemon()
    assert await office.finished(await office.add()) is State.COMPLETED
    assert len(office.server.arrived) == 1


async def test_a_drain_half_way_gives_the_job_back_and_the_next_daemon_sends_it(office: Office) -> None:
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


async def test_a_daemon_that_dies_after_the_mail_was_taken_leads_to_a_recognisable_repeat(office: Office) -> None:
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


async def test_a_cancelled_mail_is_not_sent(office: Office) -> None:
    office.server.then("MAIL", HANG)
    await office.daemon()
    key = await office.add()
    await wait_until(lambda: "MAIL" in office.server.commands)
    await office.harness.control.cancel("email", key, "no")
    assert await office.finished(key) is State.CANCELLED
    assert office.server.arrived == []


# Payloads


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no recipient": ({"to": []}, "to: "),
    "no address": ({"to": "Ann"}, "is not a mail address"),
    "two in one": ({"to": "ann@example.org, bob@example.org"}, "more than one address"),
    "a line end in an address": ({"to": "ann@example.org\r\nBcc: eve@example.net"}, "line ends"),
    "a line end in a name": ({"cc": "Ann\u2028Bcc <ann@example.org>"}, "line ends"),
    "a space in an address": ({"bcc": "ann smith@example.org"}, "before the @"),
    "an address with a command": ({"to": "<ann@example.org> SIZE=1"}, "to.0"),
    "no domain": ({"to": "ann@"}, "no valid domain"),
    "a bad domain": ({"to": "ann@-example-.org"}, "no valid domain"),
    "a long local part": ({"to": "a" * 65 + "@example.org"}, "before the @"),
    "too many recipients": ({"to": [f"a{n}@example.org" for n in range(101)]}, "101 recipients"),
    "a bad sender": ({"sender": "nobody"}, "sender: is not a mail address"),
    "no subject": ({"subject": " "}, "subject: must not be blank"),
    "two lines of subject": ({"subject": "a\nBcc: eve@example.net"}, "must be one line"),
    "no text": ({"text": None}, "needs text, html or both"),
    "a broken template": ({"text": "{{ name", "variables": {}}, "text: line 1"),
    "a template of the sandbox": ({"subject": "{{ ''.__class__ }}", "variables": {}}, "subject: "),
    "our own header": ({"headers": {"From": "x"}}, "the header From cannot be set"),
    "Message-ID": ({"headers": {"message-id": "<a@b>"}}, "cannot be set"),
    "Content-Type": ({"headers": {"Content-Type": "x"}}, "cannot be set"),
    "a colon in a header": ({"headers": {"X-A: b\r\nBcc": "x"}}, "cannot be set"),
    "a line end in a header": ({"headers": {"X-A": "b\r\nBcc: eve@example.net"}}, "must be one line"),
    "no source": ({"attachments": [{"name": "a.pdf"}]}, "exactly one of file, path and url"),
    "two sources": ({"attachments": [{"path": "a", "file": "b"}]}, "exactly one of file, path and url"),
    "a path out": ({"attachments": [{"path": "a/../../b"}]}, "without .."),
    "a path from the root": ({"attachments": [{"path": "/etc/passwd"}]}, "below the folder attachments"),
    "a name with a folder": ({"attachments": [{"path": "a", "name": "../a"}]}, "name"),
    "another scheme": ({"attachments": [{"url": "file:///etc/passwd"}]}, "must begin with https://"),
    "a password": ({"attachments": [{"url": "https://a:b@example.org/"}]}, "user or password"),
    "a mail in a mail": ({"attachments": [{"path": "a", "media_type": "message/rfc822"}]}, "media_type"),
    "an unknown field": ({"body": "x"}, "body: "),
}


def spec() -> JobSpec:
    found = spec_of(send_email)
    assert found is not None
    return found


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str) -> None:
    fields, said = BAD[case]
    with pytest.raises(InvalidPayload) as caught:
        spec().validate({**MAIL, **fields})
    assert said in str(caught.value)


GOOD: list[dict[str, Any]] = [
    {"to": ["ann@example.org", '"Smith, Ann" <ann.smith+crm@sub.example.org>']},
    {"to": "root@localhost", "sender": "Müller <m@bücher.example>"},
    {"text": None, "html": "<p>Hi {{ name }}</p>", "variables": {"name": None, "list": [1, {"a": True}]}},
    {"subject": "👨‍👩‍👧 family", "headers": {"List-Id": "news <news.example.org>", "In-Reply-To": "<a@b>"}},
    {"attachments": [{"path": "2024/a.pdf", "name": "Rechnung März.pdf", "media_type": "application/pdf"}]},
]


@pytest.mark.parametrize("fields", GOOD)
def test_what_is_right_is_taken(fields: dict[str, Any]) -> None:
    spec().validate({**MAIL, **fields})
