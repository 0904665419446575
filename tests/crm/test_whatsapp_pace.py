"""What the client remembers between messages: growing waits, and the breaker."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr

from crmd.crm.messages.jobs import MessageSent, send_message
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.outbound.adaptive_rate import BREAKER_FAILURES, SERVICE, AdaptiveRate, Wait
from crmd.crm.outbound.http import HttpClient
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.crm.whatsapp.errors import PAIR_WAIT
from crmd.crm.whatsapp.send_rate import SendLine, SendRate
from crmd.engine.store.client import Store, StoreTarget
from crmd.errors import JobSignal, OutcomeUnknown, RateLimited, Retry, Snooze
from tests.support.context import make_context
from tests.support.services import NUMBER_ID, TOKEN, VERSION, WhatsAppServer
from tests.support.storeclock import freeze


@dataclass
class Clock:
    """Time that the test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(store_url: str) -> AsyncIterator[Store]:
    made = Store(StoreTarget(store_url))
    await made.start(wait=False)
    yield made
    await made.stop()


@pytest.fixture
def whatsapp(http: HttpClient, server: WhatsAppServer, clock: Clock) -> WhatsAppClient:
    return WhatsAppClient(
        http,
        base_url=server.url,
        api_version=VERSION,
        phone_number_id=NUMBER_ID,
        token=SecretStr(TOKEN),
        rate=AdaptiveRate(clock=clock),
    )


def client_with(line: SendLine, http: HttpClient, server: WhatsAppServer) -> WhatsAppClient:
    """A client whose messages wait in that line."""
    token = SecretStr(TOKEN)
    return WhatsAppClient(
        http, base_url=server.url, api_version=VERSION, phone_number_id=NUMBER_ID, token=token, line=line
    )


async def send(
    repository: MessageRepository, whatsapp: WhatsAppClient, payload: dict[str, Any] | None = None
) -> MessageSent | JobSignal:
    ctx = make_context(repository, whatsapp, key=uuid.uuid4().hex)
    try:
        return await send_message(
            ctx, SendMessage.model_validate(payload or {"to": "+4915112345678", "text": "hi"})
        )
    except JobSignal as signal:
        return signal


async def wait_of(repository: MessageRepository, whatsapp: WhatsAppClient, to: str = "+4915112345678") -> float:
    signal = await send(repository, whatsapp, {"to": to, "text": "hi"})
    assert isinstance(signal, RateLimited)
    return signal.after


async def test_the_pair_limit_waits_4_to_the_x_up_to_5_and_starts_over_after_success(
    server: WhatsAppServer, whatsapp: WhatsAppClient, clock: Clock, repository: MessageRepository
) -> None:
    waits = []
    for _ in range(7):
        server.then_error(131056)
        waits.append(await wait_of(repository, whatsapp))
        clock.now += waits[-1]
    assert waits == [1, 4, 16, 64, 256, 1024, 1024]
    server.then_error(131056)
    assert await wait_of(repository, whatsapp, "+4915187654321") == 1, "another recipient has a count of its own"
    assert isinstance(await send(repository, whatsapp), dict)
    server.then_error(131056)
    assert await wait_of(repository, whatsapp) == 1


async def test_waits_of_the_account_grow_and_are_forgotten_only_with_time(
    server: WhatsAppServer, whatsapp: WhatsAppClient, clock: Clock, repository: MessageRepository
) -> None:
    waits = []
    for _ in range(3):
        server.then_error(80007)
        waits.append(await wait_of(repository, whatsapp))
        clock.now += waits[-1]
        assert isinstance(await send(repository, whatsapp), dict), (
            "a success in between does not make it fast again"
        )
    assert waits == [60, 120, 240]
    clock.now += 3601
    server.then_error(80007)
    assert await wait_of(repository, whatsapp) == 60


async def test_errors_of_requests_under_way_do_not_lengthen_a_wait(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    for _ in range(10):
        server.then_error(80007)
        assert await wait_of(repository, whatsapp) == 60


async def test_the_throughput_limit_holds_the_one_message_and_never_longer(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    for _ in range(10):
        server.then_error(130429)
        signal = await send(repository, whatsapp)
        assert isinstance(signal, RateLimited)
        assert signal.scope == "key", "other recipients go on"
        assert 1 <= signal.after <= 2


async def test_a_throughput_refusal_halves_the_numbers_rate_for_all_daemons(
    http: HttpClient,
    server: WhatsAppServer,
    repository: MessageRepository,
    store: Store,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopped = await freeze(store)
    rate = SendRate(store, NUMBER_ID, 100.0)
    paced = client_with(SendLine(rate, 100.0), http, server)
    assert isinstance(await send(repository, paced), dict)
    await stopped.forward(2_000)
    before = (await rate.take(0)).between_seconds
    server.then_error(130429)
    assert isinstance(await send(repository, paced), RateLimited)
    assert (await rate.take(0)).between_seconds == pytest.approx(before * 2, rel=0.01)
    assert [one for one in caplog.records if "47.0/s from now on" in one.getMessage()]
    await stopped.forward(100)
    assert isinstance(await send(repository, paced), dict)


async def test_a_message_that_cannot_get_a_place_is_given_back(
    http: HttpClient, server: WhatsAppServer, repository: MessageRepository, store: Store
) -> None:
    line = SendLine(SendRate(store, NUMBER_ID, 100.0), 100.0)
    paced = client_with(line, http, server)
    while line.has_place:
        await line.place()
    ctx = make_context(repository, paced, timeout_seconds=0.2)
    with pytest.raises(RateLimited, match="more messages wait") as caught:
        await send_message(ctx, SendMessage.model_validate({"to": "+4915112345678", "text": "hi"}))
    assert caught.value.scope == "key"
    assert not server.messages


async def test_long_maintenance_is_told(
    server: WhatsAppServer,
    whatsapp: WhatsAppClient,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    repository: MessageRepository,
) -> None:
    for _ in range(6):
        assert not [record for record in caplog.records if record.levelno == logging.ERROR]
        server.then_error(131057)
        clock.now += await wait_of(repository, whatsapp)
    assert [record for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("code", [132015, 134101])
async def test_a_paused_template_holds_its_messages_and_no_others(
    server: WhatsAppServer, whatsapp: WhatsAppClient, clock: Clock, code: int, repository: MessageRepository
) -> None:
    def message(name: str) -> dict[str, Any]:
        return {"to": "+4915112345678", "template": {"name": name, "language": "de"}}

    server.then_error(code)
    first = await send(repository, whatsapp, message("paused"))
    assert isinstance(first, Snooze)
    assert first.after is not None
    clock.now += 10
    second = await send(repository, whatsapp, message("paused"))
    assert isinstance(second, Snooze)
    assert second.after == first.after - 10
    assert len(server.messages) == 1, "the second was not sent"
    assert isinstance(await send(repository, whatsapp, message("other")), dict)
    clock.now += first.after
    assert isinstance(await send(repository, whatsapp, message("paused")), dict)


async def test_a_blocked_flow_holds_its_messages(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    flow = {"type": "flow", "body": {"text": "go"}, "action": {"parameters": {"flow_id": "123"}}}
    server.then_error(132068)
    assert isinstance(await send(repository, whatsapp, {"to": "4915112345678", "interactive": flow}), Snooze)
    assert isinstance(await send(repository, whatsapp, {"to": "4915112345678", "interactive": flow}), Snooze)
    assert len(server.messages) == 1


async def test_a_run_of_service_errors_stops_sending_until_the_wait_is_over(
    server: WhatsAppServer, whatsapp: WhatsAppClient, clock: Clock, repository: MessageRepository
) -> None:
    for _ in range(BREAKER_FAILURES - 1):
        server.then_error(131016)
        assert isinstance(await send(repository, whatsapp), Retry)
    server.then_error(131016)
    assert await wait_of(repository, whatsapp) == 2
    sent = len(server.messages)
    assert await wait_of(repository, whatsapp) == 2
    assert len(server.messages) == sent, "while the breaker is open nothing is sent"
    clock.now += 2
    server.then_error(131016)
    assert await wait_of(repository, whatsapp) == 4
    clock.now += 4
    assert isinstance(await send(repository, whatsapp), dict)
    server.then_error(131016)
    assert isinstance(await send(repository, whatsapp), Retry), "a success closes the breaker"


async def test_a_run_of_lost_answers_stops_sending(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    for _ in range(BREAKER_FAILURES):
        server.then(502, "<html>bad gateway</html>")
        assert isinstance(await send(repository, whatsapp), OutcomeUnknown)
    assert await wait_of(repository, whatsapp) == 2
    assert len(server.messages) == BREAKER_FAILURES


def test_memory_is_bounded(clock: Clock) -> None:
    rate = AdaptiveRate(clock=clock, capacity=3)
    for name in "abcd":
        rate.park(name, PAIR_WAIT)
    assert rate.remaining_seconds("a") == 0
    assert rate.remaining_seconds("d") == 1
    assert rate.remaining_seconds(SERVICE) == 0


def test_waits_do_not_overflow() -> None:
    assert Wait(1, 4, 1024).nth(100_000) == 1024
