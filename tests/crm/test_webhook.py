"""`deliver_webhook` against a receiver that verifies signatures, and which payloads it takes."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from crmd.crm.outbound.http import MAX_BODY_BYTES, SNIPPET_BYTES
from crmd.crm.webhooks.client import WebhookClient
from crmd.crm.webhooks.jobs import Delivered, DeliverWebhook, deliver_webhook
from crmd.errors import JobSignal, Permanent, Retry, Snooze
from tests.support.context import make_context
from tests.support.raised import raised
from tests.support.services import SECRET, Receiver
from tests.support.started import started

THANKS = '{"received": true}'
"""What the receiver answers."""


async def deliver(
    webhooks: WebhookClient, url: str, fields: dict[str, Any] | None = None, **context: Any
) -> Delivered:
    payload = DeliverWebhook.model_validate({"url": url, "event": "contact.created", **(fields or {})})
    settings = {"queue": "webhook", "name": "deliver_webhook", "attempts": 5, **context}
    return await deliver_webhook(make_context(webhooks, **settings), payload)


async def test_an_event_is_posted_signed(receiver: Receiver, webhooks: WebhookClient) -> None:
    data = {"name": "Zoë 🦊", "tags": [], "nested": {"n": None}}
    result = await deliver(webhooks, f"{receiver.url}/hook?a=1", {"data": data}, attempt=2)
    [received] = receiver.received
    assert received.verified
    assert received.path == "/hook?a=1"
    assert received.body == {"type": "contact.created", "timestamp": "2023-11-14T22:13:20.000Z", "data": data}
    assert received.headers["content-type"] == "application/json"
    assert abs(int(received.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 5
    assert result["status"] == 200
    assert result["snippet"] == THANKS
    assert result["attempt"] == 2
    assert result["duration_ms"] > 0


async def test_a_repeat_has_the_same_id_and_body(receiver: Receiver, webhooks: WebhookClient) -> None:
    receiver.then(500)
    await raised(Retry, deliver(webhooks, receiver.url))
    await deliver(webhooks, receiver.url, attempt=2)
    first, second = receiver.received
    assert first.id == second.id
    assert first.raw == second.raw


async def test_other_jobs_and_other_events_have_other_ids(receiver: Receiver, webhooks: WebhookClient) -> None:
    await deliver(webhooks, receiver.url, key="a")
    await deliver(webhooks, receiver.url, key="b")
    await deliver(webhooks, receiver.url, {"data": {"changed": True}}, key="a")
    await deliver(webhooks, receiver.url, {"event": "contact.deleted"}, key="a")
    assert len({received.id for received in receiver.received}) == 4


async def test_a_job_added_twice_under_one_key_has_one_id(receiver: Receiver, webhooks: WebhookClient) -> None:
    await deliver(webhooks, receiver.url, enqueued_at=1_700_000_000.0)
    await deliver(webhooks, receiver.url, enqueued_at=1_700_009_999.0)
    first, second = receiver.received
    assert first.id == second.id


async def test_the_id_may_be_given(receiver: Receiver, webhooks: WebhookClient) -> None:
    await deliver(webhooks, receiver.url, {"id": "evt_42"})
    assert receiver.received[0].id == "evt_42"


async def test_any_foreign_key_makes_a_valid_id(receiver: Receiver, webhooks: WebhookClient) -> None:
    await deliver(webhooks, receiver.url, key="line\nend.ключ " + "x" * 5000)
    assert receiver.received[0].verified


async def test_own_headers_are_sent(receiver: Receiver, webhooks: WebhookClient) -> None:
    await deliver(webhooks, receiver.url, {"headers": {"X-Tenant": "acme", "Authorization": "Bearer abc"}})
    assert receiver.received[0].headers["x-tenant"] == "acme"
    assert receiver.received[0].headers["authorization"] == "Bearer abc"


async def test_cookies_are_not_kept(receiver: Receiver, webhooks: WebhookClient) -> None:
    receiver.then(200, headers={"Set-Cookie": "session=1"})
    await deliver(webhooks, receiver.url)
    await deliver(webhooks, receiver.url)
    assert "cookie" not in receiver.received[1].headers


async def test_a_wrong_secret_does_not_verify(receiver: Receiver) -> None:
    wrong = WebhookClient(secret=SecretStr("whsec_" + "QUJD" * 8), allow_private=["127.0.0.0/8"])
    async with started(wrong) as client:
        await raised(Permanent, deliver(client, receiver.url), "401")


# Answers


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_success(receiver: Receiver, webhooks: WebhookClient, status: int) -> None:
    receiver.then(status)
    assert (await deliver(webhooks, receiver.url))["status"] == status


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 422, 451])
async def test_a_refusal_is_permanent_and_shows_the_answer(
    receiver: Receiver, webhooks: WebhookClient, status: int
) -> None:
    receiver.then(status, "no such\nendpoint")
    signal = await raised(
        Permanent, deliver(webhooks, receiver.url), f"127.0.0.1 answered {status}: no such endpoint"
    )
    assert signal.code == f"http_{status}"


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
async def test_a_redirect_is_permanent_and_shows_the_target(
    receiver: Receiver, webhooks: WebhookClient, status: int
) -> None:
    receiver.then(status, headers={"Location": "https://new.example/hook"})
    await raised(Permanent, deliver(webhooks, receiver.url), "https://new.example/hook")
    assert len(receiver.received) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_trouble_is_tried_again_by_the_queues_backoff(
    receiver: Receiver, webhooks: WebhookClient, status: int
) -> None:
    receiver.then(status, "busy")
    signal = await raised(Retry, deliver(webhooks, receiver.url))
    assert signal.after is None
    assert signal.max_attempts is None


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("30", 30, 33),
        (" 30 ", 30, 33),
        (600.0, 590, 660),
        ("999999", 3600, 3960),
        ("9" * 400, 3600, 3960),
        (1e7, 3600, 3960),
    ],
    ids=["seconds", "spaces", "date", "too long", "endless", "far date"],
)
async def test_retry_after_is_honoured_up_to_an_hour(
    receiver: Receiver, webhooks: WebhookClient, status: int, header: str | float, low: float, high: float
) -> None:
    header = header if isinstance(header, str) else _in(header)  # a date counts from the request on
    receiver.then(status, headers={"Retry-After": header})
    signal = await raised(Retry, deliver(webhooks, receiver.url))
    assert signal.after is not None
    assert low <= signal.after <= high


@pytest.mark.parametrize("header", ["", "0", "-5", "soon", "1.5", -600.0, "Fri, 99 Foo 2020 99:99:99 GMT"])
async def test_a_useless_retry_after_leaves_the_queues_backoff(
    receiver: Receiver, webhooks: WebhookClient, header: str | float
) -> None:
    receiver.then(503, headers={"Retry-After": header if isinstance(header, str) else _in(header)})
    assert (await raised(Retry, deliver(webhooks, receiver.url))).after is None


async def test_the_snippet_is_short_text_whatever_comes(receiver: Receiver, webhooks: WebhookClient) -> None:
    receiver.then(200, b"\xff\x00" + b"x" * (3 * MAX_BODY_BYTES))
    result = await deliver(webhooks, receiver.url)
    assert len(result["snippet"]) == SNIPPET_BYTES
    assert json.loads(json.dumps(result)) == result
    assert (await deliver(webhooks, receiver.url))["snippet"] == THANKS, "the cut connection is not used again"


async def test_a_compressed_bomb_is_not_unpacked_beyond_the_limit(
    receiver: Receiver, webhooks: WebhookClient
) -> None:
    receiver.then(200, gzip.compress(bytes(100 * MAX_BODY_BYTES)), {"Content-Encoding": "gzip"})
    result = await deliver(webhooks, receiver.url)
    assert result["status"] == 200
    assert len(result["snippet"]) <= SNIPPET_BYTES


async def test_a_success_with_a_broken_body_is_a_success(receiver: Receiver, webhooks: WebhookClient) -> None:
    receiver.then(200, b"this is not gzip", {"Content-Encoding": "gzip"})
    assert (await deliver(webhooks, receiver.url))["status"] == 200


async def test_no_answer_is_tried_again(receiver: Receiver, webhooks: WebhookClient) -> None:
    receiver.then_hang()
    await raised(Retry, deliver(webhooks, receiver.url, timeout_seconds=1.2), "no answer")


async def test_timeout_and_snippet_are_configurable(receiver: Receiver) -> None:
    async with started(
        WebhookClient(
            secret=SecretStr(SECRET), allow_private=["127.0.0.0/8"], timeout_seconds=0.2, snippet_bytes=3
        )
    ) as client:
        assert (await deliver(client, receiver.url))["snippet"] == THANKS[:3]
        receiver.then_hang()
        await raised(JobSignal, deliver(client, receiver.url), "no answer within 0.2 s")


async def test_no_connection_is_tried_again(receiver: Receiver, webhooks: WebhookClient) -> None:
    await receiver.stop()
    await raised(Retry, deliver(webhooks, receiver.url))


async def test_an_untrusted_certificate_is_not_accepted(tmp_path: Path, webhooks: WebhookClient) -> None:
    received: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.read(1))
        writer.close()

    listener = await asyncio.start_server(take, "127.0.0.1", 0, ssl=_self_signed(tmp_path))
    url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    signal = await raised(Retry, deliver(webhooks, url))
    listener.close()
    await listener.wait_closed()
    assert "certificate" in str(signal).lower()
    assert received == []


def _self_signed(folder: Path) -> ssl.SSLContext:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [openssl, *request.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def test_without_a_secret_the_job_waits(receiver: Receiver) -> None:
    client = WebhookClient(secret=SecretStr(""), allow_private=["127.0.0.0/8"])
    assert (await raised(Snooze, deliver(client, receiver.url), "webhook.secret")).after == 60
    assert receiver.received == []


async def test_many_at_once(receiver: Receiver, webhooks: WebhookClient) -> None:
    await asyncio.gather(*(deliver(webhooks, receiver.url, key=str(number)) for number in range(200)))
    assert len({received.id for received in receiver.received}) == 200
    assert all(received.verified for received in receiver.received)


async def test_the_client_bears_any_order_of_start_and_stop() -> None:
    client = WebhookClient(secret=SecretStr(SECRET))
    await client.stop()
    await client.start()
    await client.start()
    await client.stop()
    await client.stop()


@pytest.mark.parametrize("secret", ["whsec_", "hunter2 hunter2", "whsec_" + "!" * 40])
def test_a_secret_that_cannot_sign_is_refused_without_showing_it(secret: str) -> None:
    with pytest.raises(ValueError, match=r"webhook\.secret must be") as caught:
        WebhookClient(secret=SecretStr(secret))
    assert secret == "whsec_" or secret not in str(caught.value)


def test_the_secret_is_not_in_the_clients_repr() -> None:
    assert SECRET not in repr(vars(WebhookClient(secret=SecretStr(SECRET))))


# Payloads


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "//example.com/",
        "example.com",
        "",
        "http://",
        "http:///path",
        "http://user:password@example.com/",
        "http://user@example.com/",
        "http://@example.com/",
        "http://example.com:0/",
        "http://example.com:99999/",
        "http://exa mple.com/",
        "http://example.com/\r\nX-Evil: 1",
        "http://good.example\\@evil.example/",
        "http://%31%32%37.0.0.1/",
        "http://[fe80::1%25eth0]/",
        "http://[::1",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_urls_that_cannot_be_posted_to_are_refused(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DeliverWebhook(url=url, event="e", data=None)
    [error] = caught.value.errors()
    assert error["loc"] == ("url",)


@pytest.mark.parametrize(
    "url",
    ["https://example.com", "http://example.com:8080/a?b=c@d", "https://ex-ample.example./", "http://[2606::1]/"],
)
def test_good_urls_pass(url: str) -> None:
    assert DeliverWebhook(url=url, event="e", data=None).url == url


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "content-type",
        "Transfer-Encoding",
        "Connection",
        "Cookie",
        "webhook-id",
        "Webhook-Signature",
        "X-Forwarded-For",
        "x-real-ip",
        "X-HTTP-Method-Override",
        "Proxy-Authorization",
        "X Y",
        "X-A:",
        "",
    ],
)
def test_headers_that_could_mislead_are_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        DeliverWebhook.model_validate({"url": "https://example.com", "event": "e", "headers": {name: "x"}})


@pytest.mark.parametrize("value", ["", "a\r\nX-Evil: 1", "a\x00", "é", " a", "x" * 1025])
def test_header_values_are_plain_text(value: str) -> None:
    with pytest.raises(ValidationError):
        DeliverWebhook.model_validate({"url": "https://example.com", "event": "e", "headers": {"X-A": value}})


@pytest.mark.parametrize("data", [float("nan"), [float("inf")], {"a": {"b": float("-inf")}}])
def test_data_must_be_json(data: Any) -> None:
    with pytest.raises(ValidationError):
        DeliverWebhook(url="https://example.com", event="e", data=data)
