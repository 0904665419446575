"""`send_email` against a real mail server: what arrives, and how the job ends where nothing does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from crmd.crm.email.jobs import MailSent, send_email
from crmd.crm.email.payloads import SendEmail
from crmd.crm.email.smtp import SmtpClient
from crmd.crm.outbound.adaptive_rate import BREAKER_FAILURES
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, Retry, Snooze
from tests.support.certificates import Authority
from tests.support.context import make_context
from tests.support.raised import raised
from tests.support.services import END, HANG, HANG_UP, SENDER, MailServer, smtp_client
from tests.support.started import started
from tests.support.wait import cancel_once, wait_until

MAIL = {"to": "Ann <ann@example.org>", "subject": "Hello", "text": "Good news."}


@pytest.fixture
async def server() -> AsyncIterator[MailServer]:
    async with started(MailServer()) as server:
        yield server


@pytest.fixture
async def smtp(server: MailServer) -> AsyncIterator[SmtpClient]:
    async with started(smtp_client(server)) as client:
        yield client


async def send(client: SmtpClient, fields: dict[str, Any] | None = None, **context: Any) -> MailSent:
    payload = SendEmail.model_validate({**MAIL, **(fields or {})})
    settings = {"queue": "email", "name": "send_email", "attempts": 5, **context}
    return await send_email(make_context(client, **settings), payload)


async def test_a_mail_arrives_whole(server: MailServer, smtp: SmtpClient) -> None:
    result = await send(
        smtp,
        {
            "to": ["Ann <ann@example.org>", "bob@example.org"],
            "cc": "Zoë Müller <zoe@münchen.example>",
            "bcc": ["hidden@example.org", "ann@example.org"],
            "reply_to": "help@example.com",
            "subject": "Größe 🦊",
            "text": ".a line with a dot\nümlaut\n",
            "html": "<p>ümlaut</p>",
            "headers": {"X-Tenant": "acme", "List-Unsubscribe": f"<https://example.com/{'u' * 120}>"},
        },
    )
    [arrived] = server.arrived
    message = arrived.message
    assert arrived.sender == "crm@example.com"
    assert arrived.recipients == [
        *("ann@example.org", "bob@example.org", "zoe@xn--mnchen-3ya.example", "hidden@example.org"),
    ]
    assert b"hidden" not in arrived.content
    assert message["From"] == SENDER
    assert message["To"] == "Ann <ann@example.org>, bob@example.org"
    assert message["Cc"] == "Zoë Müller <zoe@xn--mnchen-3ya.example>"
    assert message["Subject"] == "Größe 🦊"
    assert message["Reply-To"] == "help@example.com"
    assert message["X-Tenant"] == "acme"
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Date"].datetime.tzinfo is not None
    assert message["Message-ID"] == result["message_id"]
    assert f"List-Unsubscribe: <https://example.com/{'u' * 120}>\r\n".encode() in arrived.content
    text, html = message.iter_parts()
    assert text.get_content().splitlines() == [".a line with a dot", "ümlaut"]
    assert html.get_content().splitlines() == ["<p>ümlaut</p>"]
    assert arrived.content.isascii()
    assert result["accepted"] == 4
    assert result["refused"] == []
    assert result["answer"] == "2.0.0 kept"


async def test_variables_fill_templates_and_html_escapes_them(server: MailServer, smtp: SmtpClient) -> None:
    fields = {
        "subject": "For {{ name }}",
        "text": "Dear {{ name }}",
        "html": "<b>{{ name }}</b>",
        "variables": {"name": "<i>\r\nBcc: eve@example.net"},
    }
    await send(smtp, fields)
    [arrived] = server.arrived
    assert arrived.message["Subject"] == "For <i> Bcc: eve@example.net"
    assert arrived.message["Bcc"] is None
    assert arrived.recipients == ["ann@example.org"]
    assert b"&lt;i&gt;" in arrived.content


async def test_without_variables_nothing_is_a_template(server: MailServer, smtp: SmtpClient) -> None:
    await send(smtp, {"text": "write {{ name }}"})
    assert server.arrived[0].message.get_content().strip() == "write {{ name }}"


async def test_a_missing_variable_ends_the_job(server: MailServer, smtp: SmtpClient) -> None:
    await raised(Permanent, send(smtp, {"text": "Dear {{ nickname }}", "variables": {}}), "nickname")
    assert server.commands == []


async def test_the_job_may_say_whom_it_is_from(server: MailServer, smtp: SmtpClient) -> None:
    result = await send(smtp, {"sender": "Shop <shop@example.net>", "headers": {"auto-submitted": "no"}})
    [arrived] = server.arrived
    assert arrived.sender == "shop@example.net"
    assert arrived.message["From"] == "Shop <shop@example.net>"
    assert arrived.message.get_all("Auto-Submitted") == ["no"]
    assert result["message_id"].endswith("@example.net>")


async def test_a_repeat_has_the_same_message_id_and_other_jobs_have_others(
    server: MailServer, smtp: SmtpClient
) -> None:
    await send(smtp, key="a")
    await send(smtp, key="a", attempt=2)
    await send(smtp, key="a", enqueued_at=1_700_000_000.001)
    await send(smtp, key="b")
    first, repeat, *others = [arrived.message["Message-ID"] for arrived in server.arrived]
    assert first == repeat
    assert len({first, *others}) == 3


# Encryption and login


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("security", ["starttls", "tls"])
@pytest.mark.parametrize("trusted", [True, False])
async def test_certificates_are_verified(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, security: str, trusted: bool
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    tls = authority.server()
    server = MailServer(smtp_username="ann", smtp_password="open sesame", smtp_security=security, smtp_tls=tls)
    login = {"username": "ann", "password": SecretStr("open sesame")}
    async with (
        started(server),
        started(smtp_client(server, host="localhost", security=security, **login)) as client,
    ):
        if trusted:
            await send(client)
            assert server.arrived[0].encrypted
            assert server.arrived[0].username == "ann"
        else:
            signal = await raised(JobSignal, send(client))
            assert isinstance(signal, PauseQueue)
            assert "certificate" in str(signal)
            assert server.arrived == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_server_without_tls_is_not_spoken_to(server: MailServer, security: str) -> None:
    async with started(smtp_client(server, security=security)) as client:
        await raised(PauseQueue, send(client), "TLS", "crmd resume email")
        assert "MAIL" not in server.commands


@pytest.mark.parametrize(("username", "said"), [("ann", "535"), ("", "530")])
async def test_a_wrong_or_missing_login_pauses_the_queue(username: str, said: str) -> None:
    login = {"username": username, "password": SecretStr("hunter2hunter2")}
    async with (
        started(MailServer(smtp_username="ann", smtp_password="open sesame")) as server,
        started(smtp_client(server, **login)) as client,
    ):
        assert "hunter2" not in str(await raised(PauseQueue, send(client), said))


# Answers

OVER: dict[str, type[JobSignal]] = {
    "450 4.2.1 mailbox of ann@example.org busy": Retry,
    "550 5.7.1 not wanted": Permanent,
    "421 4.3.2 going down": Retry,
}


@pytest.mark.parametrize("answer", OVER)
@pytest.mark.parametrize("stage", ["MAIL", "RCPT", "DATA", END])
async def test_a_refusal_at_each_stage(
    server: MailServer, smtp: SmtpClient, stage: str | None, answer: str
) -> None:
    server.then(stage, answer)
    signal = await raised(JobSignal, send(smtp), answer[:9])
    assert type(signal) is OVER[answer]
    assert "ann@" not in str(signal)
    assert server.arrived == []
    if isinstance(signal, Permanent):
        assert signal.code == "550"
    await send(smtp)
    assert len(server.arrived) == 1


async def test_a_passing_refusal_waits_longer_each_time(server: MailServer, smtp: SmtpClient) -> None:
    server.always("RCPT", "451 4.7.1 greylisted, come again in 5 minutes")
    waits = []
    for attempt in range(1, 5):
        signal = await raised(Retry, send(smtp, attempt=attempt))
        assert signal.after is not None
        waits.append(signal.after)
    assert 30 <= waits[0] <= 60
    assert 240 <= waits[3] <= 480


@pytest.mark.parametrize(
    ("answer", "expected"), [("454 4.7.0 try later", Retry), ("554 5.3.2 no service", PauseQueue)]
)
async def test_a_server_that_refuses_everybody(
    server: MailServer, smtp: SmtpClient, answer: str, expected: type[JobSignal]
) -> None:
    server.always("EHLO", answer)
    assert type(await raised(JobSignal, send(smtp))) is expected


async def test_some_recipients_refused_are_reported(
    server: MailServer, smtp: SmtpClient, caplog: pytest.LogCaptureFixture
) -> None:
    server.then("RCPT", "550 5.1.1 no such user", to="a@example.org")
    server.then("RCPT", "450 4.2.2 full", to="c@example.org")
    with caplog.at_level(logging.DEBUG, "crmd"):
        result = await send(smtp, {"to": ["a@example.org", "b@example.org", "c@example.org", "d@example.org"]})
    assert result["accepted"] == 2
    assert result["refused"] == [
        {"address": "a@example.org", "code": 550, "text": "5.1.1 no such user"},
        {"address": "c@example.org", "code": 450, "text": "4.2.2 full"},
    ]
    assert "refused 2 of 4 recipients" in caplog.text
    assert not [line for line in caplog.records if line.name.startswith("crmd") and "@" in line.getMessage()]


async def test_all_recipients_refused_ends_the_job(server: MailServer, smtp: SmtpClient) -> None:
    server.always("RCPT", "550 5.1.1 no such user")
    signal = await raised(Permanent, send(smtp, {"to": ["a@example.org", "b@example.org"]}), "2 recipients")
    assert signal.code == "550"


async def test_one_recipient_who_may_come_round_is_worth_another_attempt(
    server: MailServer, smtp: SmtpClient
) -> None:
    server.then("RCPT", "550 5.1.1 no such user", "450 4.2.2 full")
    await raised(Retry, send(smtp, {"to": ["a@example.org", "b@example.org"]}), "450")


async def test_a_mail_larger_than_the_server_takes_is_not_sent(
    server: MailServer, smtp: SmtpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crmd.sandbox.smtp.MAX_MAIL_BYTES", 10_000)
    assert (await raised(Permanent, send(smtp, {"text": "x" * 20_000}), "10,000")).code == "552"
    assert "MAIL" not in server.commands


# No answer


@pytest.mark.parametrize("how", [HANG, HANG_UP])
@pytest.mark.parametrize("stage", ["EHLO", "MAIL", "RCPT", "DATA", END])
async def test_no_answer_is_tried_again(server: MailServer, stage: str | None, how: str) -> None:
    async with started(smtp_client(server, timeout_seconds=0.3 if how == HANG else 10.0)) as client:
        server.then(stage, how)
        assert ("may have been taken" in str(await raised(Retry, send(client)))) is (stage is END)
        assert client.idle_count == 0


async def test_a_lost_answer_leads_to_a_recognisable_repeat(server: MailServer, smtp: SmtpClient) -> None:
    server.then(END, HANG_UP, accepted=True)
    assert "may have been taken" in str(await raised(JobSignal, send(smtp)))
    await send(smtp, attempt=2)
    first, second = server.arrived
    assert first.message["Message-ID"] == second.message["Message-ID"]


async def test_nobody_listens(server: MailServer, smtp: SmtpClient) -> None:
    await server.stop()
    for _ in range(BREAKER_FAILURES - 1):
        await raised(Retry, send(smtp))
    await raised(RateLimited, send(smtp))
    await raised(RateLimited, send(smtp), "several times in a row")


async def test_not_configured_the_job_waits(server: MailServer) -> None:
    await raised(Snooze, send(smtp_client(server, host="")), "smtp.host is not set")
    await raised(Snooze, send(smtp_client(server, sender="")), "smtp.sender is not set")
    assert server.connections == 0


# The pool


async def test_many_mails_go_over_two_connections(server: MailServer, smtp: SmtpClient) -> None:
    await asyncio.gather(*(send(smtp, key=str(number)) for number in range(200)))
    assert len({arrived.message["Message-ID"] for arrived in server.arrived}) == 200
    assert server.most_at_once == 2
    assert server.connections <= 4  # each is replaced after a hundred mails


async def test_a_connection_that_died_idle_is_replaced(server: MailServer, smtp: SmtpClient) -> None:
    await send(smtp)
    await server.hang_up()
    await send(smtp)
    await server.stop()
    await server.start()
    await send(smtp)
    assert len(server.arrived) == 3
    assert server.connections == 3


@pytest.mark.parametrize("how", ["421 4.4.2 idle for too long", HANG_UP])
async def test_a_connection_that_ends_as_the_mail_begins_is_replaced(
    server: MailServer, smtp: SmtpClient, how: str
) -> None:
    await send(smtp)
    server.then("MAIL", how)
    await send(smtp)
    assert len(server.arrived) == 2
    assert server.connections == 2


@pytest.mark.parametrize("how", [HANG, HANG_UP, "421 4.4.2 idle for too long"])
async def test_a_connection_that_does_not_answer_noop_is_replaced(server: MailServer, how: str) -> None:
    now = 0.0
    async with started(
        smtp_client(server, timeout_seconds=0.3 if how == HANG else 10.0, clock=lambda: now)
    ) as client:
        await send(client)
        now = 10.0
        await send(client)
        assert server.connections == 1
        server.then("NOOP", how)
        now = 20.0
        await send(client)
        assert len(server.arrived) == 3
        assert server.connections == 2


async def test_idle_connections_are_closed(server: MailServer) -> None:
    async with started(smtp_client(server, idle_seconds=0.05)) as client:
        await asyncio.gather(send(client, key="a"), send(client, key="b"))
        await wait_until(lambda: server.open_count == 0 and client.idle_count == 0)
        await send(client)
        assert len(server.arrived) == 3


async def test_a_cancelled_mail_leaves_no_connection_in_the_middle(server: MailServer) -> None:
    async with started(smtp_client(server, connections=1)) as client:
        server.then("RCPT", HANG)
        await cancel_once(lambda: "RCPT" in server.commands, send(client, key="cancelled"))
        assert client.idle_count == 0
        await send(client, key="next")
        assert [arrived.message["To"] for arrived in server.arrived] == [MAIL["to"]]
        assert server.connections == 2


async def test_where_all_connections_are_busy_the_job_comes_back(server: MailServer) -> None:
    async with started(smtp_client(server, connections=1)) as client:
        server.then("MAIL", HANG)
        job = asyncio.create_task(send(client, key="slow"))
        await wait_until(lambda: "MAIL" in server.commands)
        await raised(Snooze, send(client, timeout_seconds=0.3), "busy")
        job.cancel()
        await asyncio.wait([job])


async def test_the_client_bears_any_order_of_start_and_stop(server: MailServer) -> None:
    client = smtp_client(server)
    await client.stop()
    await client.start()
    await client.start()
    await send(client)
    await client.stop()
    await client.stop()
    await wait_until(lambda: server.open_count == 0)
