"""The mail server, spoken to by two clients that others wrote, and by hand."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import smtplib
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage
from typing import Any

import aiosmtplib
import pytest

from crmd.errors import PortTaken
from crmd.sandbox import smtp
from crmd.sandbox.faults import Faults
from crmd.sandbox.settings import SandboxSettings
from crmd.sandbox.smtp import SmtpSink
from tests.sandbox.conftest import SandboxHarness, Start
from tests.support.certificates import Authority
from tests.support.wait import wait_until


def mail(text: str = "hello") -> EmailMessage:
    made = EmailMessage()
    made["From"] = "CRM <crm@example.com>"
    made["To"] = "Ann <ann@example.com>"
    made["Subject"] = "Grüße"
    made["Message-ID"] = "<1@example.com>"
    made.set_content(text)
    return made


@pytest.fixture
async def client(harness: SandboxHarness) -> AsyncIterator[aiosmtplib.SMTP]:
    made = aiosmtplib.SMTP(
        hostname="127.0.0.1", port=harness.sandbox.addresses.smtp_port, use_tls=False, timeout=5
    )
    await made.connect()
    yield made
    made.close()
    await asyncio.sleep(0)  # its transport ends with the loop's next turn


async def test_mail_is_kept_with_bodies_and_attachments(harness: SandboxHarness, client: aiosmtplib.SMTP) -> None:
    made = mail("plain\n")
    made.add_alternative("<p>rich</p>", subtype="html")
    made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="bill.pdf")
    await client.send_message(made)
    [kept] = harness.entries("mail")
    assert kept["sender"] == "crm@example.com"
    assert kept["to"] == ["ann@example.com"]
    assert kept["subject"] == "Grüße"
    assert kept["message_id"] == "<1@example.com>"
    assert (kept["text"].strip(), kept["html"].strip()) == ("plain", "<p>rich</p>")
    assert kept["attachments"] == ["bill.pdf (application/pdf, 4 bytes)"]


async def test_one_connection_takes_many_and_any_password(
    harness: SandboxHarness, client: aiosmtplib.SMTP
) -> None:
    await client.login("anyone", "anything")
    for n in range(3):
        await client.send_message(mail(f"number {n}"))
        await client.rset()
    assert [kept["text"].strip() for kept in harness.entries("mail")] == ["number 0", "number 1", "number 2"]


async def test_the_standard_library_is_served_too(harness: SandboxHarness) -> None:
    lines = ".\n..\n.dotted\nlast " + "ü" * 2000

    def send() -> dict[str, Any]:
        with smtplib.SMTP("127.0.0.1", harness.sandbox.addresses.smtp_port, timeout=5) as server:
            server.login("anyone", "anything")
            return server.send_message(mail(lines), to_addrs=["a@example.com", "b@example.com"])

    assert await asyncio.to_thread(send) == {}
    [kept] = harness.entries("mail")
    assert kept["to"] == ["a@example.com", "b@example.com"]
    assert kept["text"].replace("\r\n", "\n").strip() == lines


@pytest.mark.parametrize("code", [451, 550])
async def test_a_refusal_on_request(harness: SandboxHarness, client: aiosmtplib.SMTP, code: int) -> None:
    await harness.admin("POST", "/faults", {"service": "smtp", "kind": "error", "code": code})
    with pytest.raises(aiosmtplib.SMTPResponseException) as caught:
        await client.send_message(mail())
    assert caught.value.code == code
    assert harness.entries("mail") == []
    await client.send_message(mail())
    assert len(harness.entries("mail")) == 1


@pytest.mark.parametrize("kind", ["drop", "timeout"])
async def test_a_cut_on_request(harness: SandboxHarness, client: aiosmtplib.SMTP, kind: str) -> None:
    fault = {"service": "smtp", "kind": kind} | ({"seconds": 0.05} if kind == "timeout" else {})
    await harness.admin("POST", "/faults", fault)
    with pytest.raises((aiosmtplib.SMTPException, OSError)):
        await client.send_message(mail())
    assert harness.entries("mail") == []


@pytest.mark.parametrize("kind", ["drop", "timeout"])
async def test_a_mail_may_be_taken_before_the_cut(
    harness: SandboxHarness, client: aiosmtplib.SMTP, kind: str
) -> None:
    seconds = {"seconds": 0.05} if kind == "timeout" else {}
    await harness.admin("POST", "/faults", {"service": "smtp", "kind": kind, "accepted": True, **seconds})
    with pytest.raises((aiosmtplib.SMTPException, OSError)):
        await client.send_message(mail())
    assert len(harness.entries("mail")) == 1


@pytest.mark.parametrize("stage", ["ehlo", "auth", "mail", "rcpt", "data", "noop"])
async def test_a_refusal_of_one_command(harness: SandboxHarness, client: aiosmtplib.SMTP, stage: str) -> None:
    fault = {
        "service": "smtp",
        "kind": "error",
        "code": 451,
        "stage": stage,
        "text": "4.7.1 greylisted, come again",
    }
    assert (await harness.admin("POST", "/faults", fault)).status == 201

    async def all_commands() -> None:
        await client.ehlo()
        await client.login("anyone", "anything")
        await client.noop()
        await client.send_message(mail())

    with pytest.raises(aiosmtplib.SMTPException, match="greylisted"):
        await all_commands()
    await client.rset()
    await all_commands()
    assert len(harness.entries("mail")) == 1


async def test_one_recipient_is_refused(harness: SandboxHarness, client: aiosmtplib.SMTP) -> None:
    fault = {"service": "smtp", "kind": "error", "code": 550, "stage": "rcpt", "to": "bob@example.com"}
    await harness.admin("POST", "/faults", fault)
    refused, _ = await client.send_message(mail(), recipients=["ann@example.com", "bob@example.com"])
    assert refused == {"bob@example.com": aiosmtplib.SMTPResponse(550, "5.0.0 by the sandbox")}
    assert harness.entries("mail")[0]["to"] == ["ann@example.com"]


async def test_a_server_that_goes_down_says_so_and_closes(harness: SandboxHarness) -> None:
    await harness.admin("POST", "/faults", {"service": "smtp", "kind": "error", "code": 421, "stage": "noop"})
    assert await talk(harness, b"NOOP\r\nNOOP\r\n") == [b"220", b"421"]


async def test_a_login_can_be_insisted_on(start: Start) -> None:
    harness = await start(smtp_username="ann", smtp_password="open sesame")
    tables = harness.sandbox.addresses.configuration(harness.sandbox.settings)
    assert (tables["smtp"]["username"], tables["smtp"]["password"]) == ("ann", "open sesame")
    right, wrong = (base64.b64encode(f"\0ann\0{password}".encode()) for password in ("open sesame", "guess"))
    answers = await talk(
        harness,
        b"MAIL FROM:<a@b.c>\r\nAUTH PLAIN "
        + wrong
        + b"\r\nAUTH PLAIN ???\r\nAUTH PLAIN YQ==\r\nMAIL FROM:<a@b.c>\r\n",
        b"AUTH PLAIN\r\n" + right + b"\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n\r\n.\r\nQUIT\r\n",
    )
    assert b" ".join(answers).decode() == "220 530 535 501 501 530 334 235 250 250 354 250 221"
    assert harness.entries("mail")[0]["username"] == "ann"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
async def test_tls_can_be_insisted_on(start: Start, authority: Authority, security: str) -> None:
    tls = None if security == "none" else authority.server()
    harness = await start(smtp_security=security, smtp_tls=tls)
    trusted = ssl.create_default_context(cafile=authority.certificate)
    port = harness.sandbox.addresses.smtp_port
    assert harness.sandbox.addresses.configuration(harness.sandbox.settings)["smtp"]["security"] == security

    def send() -> None:
        make: Any = functools.partial(smtplib.SMTP_SSL, context=trusted) if security == "tls" else smtplib.SMTP
        with make("localhost", port, timeout=5) as server:
            if security == "starttls":
                server.starttls(context=trusted)
                server.ehlo()
                assert not server.has_extn("starttls")
            server.login("anyone", "anything")
            server.send_message(mail())

    await asyncio.to_thread(send)
    assert [kept["encrypted"] for kept in harness.entries("mail")] == [security != "none"]


async def test_without_starttls_nothing_is_taken_where_it_is_insisted_on(
    start: Start, authority: Authority
) -> None:
    harness = await start(smtp_security="starttls", smtp_tls=authority.server())
    answers = await talk(harness, b"EHLO me\r\nAUTH PLAIN x\r\nMAIL FROM:<a@b.c>\r\nQUIT\r\n")
    assert answers == [b"220", b"250", b"530", b"530", b"221"]


@pytest.mark.parametrize("settings", [{"smtp_security": "tls"}, {"smtp_tls": ssl.create_default_context()}])
def test_tls_needs_a_certificate_and_a_way(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="smtp_tls"):
        SandboxSettings(**settings)


async def talk(harness: SandboxHarness, *lines: bytes) -> list[bytes]:
    """The codes of the answers; nothing of a connection that was cut."""
    reader, writer = await asyncio.open_connection("127.0.0.1", harness.sandbox.addresses.smtp_port)
    writer.write(b"".join(lines))
    writer.write_eof()
    try:
        answers = (await asyncio.wait_for(reader.read(), 5)).splitlines()
    except ConnectionResetError:
        answers = []
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    return [answer[:3] for answer in answers if answer[3:4] != b"-"]


async def test_the_order_of_commands_is_kept_to(harness: SandboxHarness) -> None:
    answers = await talk(
        harness,
        b"NOOP\r\nRCPT TO:<a@b.c>\r\nDATA\r\nMAIL FROM: nobody\r\nMAIL FROM:<>\r\nDATA\r\n",
        b"rcpt to:<>\r\nrcpt to:<a@b.c> NOTIFY=NEVER\r\nRSET\r\nDATA\r\nAUTH LOGIN\r\nTURN\r\nQUIT\r\nNOOP\r\n",
    )
    expected = "220 250 503 503 501 250 503 501 250 250 503 504 500 221"
    assert b" ".join(answers).decode() == expected


async def test_half_a_mail_is_no_mail(harness: SandboxHarness) -> None:
    await talk(harness, b"MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\nSubject: x\r\n\r\nhalf")
    await talk(harness, b"MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\nSubject: x\r\n")
    assert harness.entries("mail") == []


async def test_broken_mail_is_kept_as_such(harness: SandboxHarness) -> None:
    head = b"MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n"
    broken = (
        b"Content-Type: text/plain; charset=no-such\r\n\r\n\xff\xfe",
        b"Content-Type: multipart/mixed; boundary=\r\n\r\nx",
        b"\xff\xfe\x00",
        b"Subject: =?utf-8?b?!!!?=\r\n\r\nx",
    )
    for raw in broken:
        assert (await talk(harness, head + raw + b"\r\n.\r\nQUIT\r\n"))[-2:] == [b"250", b"221"]
    assert len(harness.entries("mail")) == len(broken)


async def test_what_is_too_large_or_endless_is_refused(
    harness: SandboxHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "MAX_MAIL_BYTES", 1000)
    head = b"MAIL FROM:<a@b.c>\r\nRCPT TO:<a@b.c>\r\nDATA\r\n"
    assert (await talk(harness, head + b"x" * 900 + b"\r\n" + b"x" * 900 + b"\r\n.\r\nQUIT\r\n"))[-2:] == [
        b"552",
        b"221",
    ]
    assert b"500" not in await talk(harness, b"x" * 200_000), "the connection is closed"
    assert harness.entries("mail") == []


async def test_connections_are_bounded(
    harness: SandboxHarness, client: aiosmtplib.SMTP, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smtp, "MAX_CONNECTIONS", 1)
    assert await talk(harness, b"") == [b"421"]
    client.close()

    async def free() -> bool:
        return await talk(harness, b"QUIT\r\n") == [b"220", b"221"]

    await wait_until(free)


async def test_a_taken_port_is_told_and_stop_bears_everything(harness: SandboxHarness) -> None:
    sink = SmtpSink(lambda *_: None, Faults())
    await sink.stop()
    with pytest.raises(PortTaken, match="smtp-port"):
        await sink.start("127.0.0.1", harness.sandbox.addresses.smtp_port)
    await sink.stop()
