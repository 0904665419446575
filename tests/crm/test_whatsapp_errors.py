"""One test for each row of the error table, through the handler, against the stand-in."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pytest

from crmd.crm.messages.jobs import MessageSent, send_message
from crmd.crm.messages.payloads import SendMessage
from crmd.crm.messages.repository import MessageRepository
from crmd.crm.whatsapp.client import WhatsAppClient
from crmd.crm.whatsapp.errors import ROWS, find_row
from crmd.errors import JobSignal, PauseQueue, Permanent, RateLimited, Retry, Snooze
from tests.support.context import make_context
from tests.support.raised import raised
from tests.support.services import TOKEN, WhatsAppServer

HOUR = 3600.0


@dataclass(frozen=True)
class Expected:
    """How a job ends at its first attempt."""

    signal: type[JobSignal]
    after: tuple[float, float] | None = None
    max_attempts: int | None = None
    scope: str | None = None


PERMANENT = Expected(Permanent)
PAUSED = Expected(PauseQueue)
SERVICE_DOWN = Expected(Retry, after=(1, 2))
SUBJECT_WAITS = Expected(Snooze, after=(HOUR, HOUR))

# Written down apart from the table, from Meta's documents, so that a slip there is found here.
EXPECTED: dict[int, Expected] = {
    **dict.fromkeys((0, 190), PAUSED),
    **dict.fromkeys((3, 10, 200, 131005), PAUSED),
    1: Expected(Retry, max_attempts=3),
    **dict.fromkeys((2, 131016, 133004), SERVICE_DOWN),
    **dict.fromkeys((4, 80007), Expected(RateLimited, after=(60, 60), scope="queue")),
    130429: Expected(RateLimited, after=(1, 2), scope="key"),
    131056: Expected(RateLimited, after=(1, 1), scope="key"),
    131057: Expected(RateLimited, after=(60, 60), scope="queue"),
    **dict.fromkeys((131048, 131064, 368, 131031, 131042, 131037, 131063, 134011), PAUSED),
    **dict.fromkeys((33, 131045, 133006, 133010, 133016), PAUSED),
    131049: Expected(Retry, after=(24 * HOUR, 48 * HOUR), max_attempts=2),
    **dict.fromkeys((131050, 131026, 130403, 130497), PERMANENT),
    **dict.fromkeys((130472, 131047, 131021, 131030, 131052, 131053), PERMANENT),
    **dict.fromkeys((133005, 133008, 133009), PERMANENT),
    133015: Expected(Retry, after=(300, 300), max_attempts=2),
    **dict.fromkeys((100, 131008, 131009, 131051, 131055, 132000, 132005, 132012, 132018), PERMANENT),
    **dict.fromkeys((132001, 132007, 132016), PERMANENT),
    **dict.fromkeys((132015, 132068, 132069), SUBJECT_WAITS),
    131000: Expected(Retry, max_attempts=3),
    135000: Expected(Retry, max_attempts=2),
    134101: Expected(Snooze, after=(600, 600)),
}

TEMPLATE: dict[str, Any] = {
    "to": "+4915112345678",
    "template": {"name": "order_paid", "language": "de"},
}


async def send(
    repository: MessageRepository, whatsapp: WhatsAppClient, payload: dict[str, Any] | None = None, **context: Any
) -> MessageSent:
    ctx = make_context(repository, whatsapp, **context)
    return await send_message(ctx, SendMessage.model_validate(payload or TEMPLATE))


def test_every_row_has_an_expectation() -> None:
    assert sorted(row.code for row in ROWS) == sorted(EXPECTED)


def test_rows_do_not_overlap() -> None:
    assert all(find_row(row.code) is row for row in ROWS)


# Meta answers some of these with 429, 500 or even 200: the code decides, not the status.
@pytest.mark.parametrize("status", [400, 429, 500])
@pytest.mark.parametrize("code", sorted(EXPECTED))
async def test_row(
    server: WhatsAppServer, whatsapp: WhatsAppClient, code: int, status: int, repository: MessageRepository
) -> None:
    server.then_error(code, status=status)
    signal = await raised(JobSignal, send(repository, whatsapp))
    expected = EXPECTED[code]
    assert type(signal) is expected.signal
    if expected.after is not None:
        low, high = expected.after
        assert low <= signal.after <= high  # type: ignore[attr-defined]
    if isinstance(signal, Retry):
        assert signal.max_attempts == expected.max_attempts
        assert (signal.after is None) == (expected.after is None)
    if isinstance(signal, RateLimited):
        assert signal.scope == expected.scope
    if isinstance(signal, Permanent):
        assert signal.code == str(code)
    text = str(signal)
    assert str(code) in text
    assert f"details of {code}" in text
    assert "Atrace123" in text
    assert "\n" not in text
    assert TOKEN not in text


@pytest.mark.parametrize("code", [200, 201, 250, 299])
async def test_the_range_of_permissions_pauses(
    server: WhatsAppServer, whatsapp: WhatsAppClient, code: int, repository: MessageRepository
) -> None:
    server.then_error(code, status=403)
    await raised(PauseQueue, send(repository, whatsapp), "crmd resume message")


@pytest.mark.parametrize("code", [5, 199, 300, 131001, 131046, 132017, 999999])
async def test_an_unknown_code_fails_with_the_code_in_sight(
    server: WhatsAppServer,
    whatsapp: WhatsAppClient,
    code: int,
    caplog: pytest.LogCaptureFixture,
    repository: MessageRepository,
) -> None:
    server.then_error(code, status=429)
    signal = await raised(Permanent, send(repository, whatsapp), f"WhatsApp error {code}, a code unknown to crmd")
    assert signal.code == str(code)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_an_unknown_code_that_will_pass_is_tried_again_and_not_for_ever(
    server: WhatsAppServer,
    whatsapp: WhatsAppClient,
    caplog: pytest.LogCaptureFixture,
    repository: MessageRepository,
) -> None:
    server.then_error(131999, status=503, is_transient=True)
    signal = await raised(Retry, send(repository, whatsapp), "131999")
    assert (signal.after, signal.max_attempts) == (None, 3)
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    ("code", "at_least", "after"),
    [(131000, 90, None), (131016, 0, 90), (80007, 0, 90), (4, 0, 90), (131056, 0, 90), (134101, 0, 600)],
)
async def test_no_wait_is_shorter_than_retry_after(
    server: WhatsAppServer,
    whatsapp: WhatsAppClient,
    code: int,
    at_least: float,
    after: float,
    repository: MessageRepository,
) -> None:
    server.then(429, {"error": {"code": code, "message": "later"}}, headers={"Retry-After": "90"})
    signal = await raised(JobSignal, send(repository, whatsapp))
    assert at_least <= getattr(signal, "at_least", 0) <= at_least * 1.1
    assert (signal.after is None) == (after is None)  # type: ignore[attr-defined]
    assert after is None or after <= signal.after <= after * 1.1  # type: ignore[attr-defined]


async def test_retry_after_of_a_proxy_is_kept_to(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then(429, "slow down", headers={"Retry-After": "120"})
    assert 120 <= (await raised(RateLimited, send(repository, whatsapp))).after <= 132


async def test_an_error_is_logged_with_its_fields_and_without_the_token(
    server: WhatsAppServer,
    whatsapp: WhatsAppClient,
    caplog: pytest.LogCaptureFixture,
    repository: MessageRepository,
) -> None:
    server.then_error(131047, error_subcode=2494002)
    await raised(JobSignal, send(repository, whatsapp))
    [record] = caplog.records
    assert record.__dict__["fields"] == {
        "code": 131047,
        "subcode": 2494002,
        "details": "details of 131047",
        "fbtrace_id": "Atrace123",
        "http_status": 400,
    }
    assert TOKEN not in caplog.text


async def test_an_error_in_a_200_answer_is_an_error(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_error(131026, status=200)
    await raised(Permanent, send(repository, whatsapp))


async def test_the_details_fall_back_to_the_message(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_error(131026, error_data=None, message="two\nlines")
    assert "two lines" in str(await raised(JobSignal, send(repository, whatsapp)))


# 131049: the marketing cap


async def test_the_marketing_cap_allows_one_more_attempt(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_error(131049)
    await raised(Permanent, send(repository, whatsapp, attempt=2))


@pytest.mark.parametrize(
    ("number", "in_us"), [("12125550123", True), ("14165550123", False), ("18765550123", False)]
)
async def test_the_marketing_cap_is_final_in_the_us(
    server: WhatsAppServer, whatsapp: WhatsAppClient, number: str, in_us: bool, repository: MessageRepository
) -> None:
    server.then_error(131049)
    signal = await raised(JobSignal, send(repository, whatsapp, {**TEMPLATE, "to": number}))
    assert type(signal) is (Permanent if in_us else Retry)


# 131053 is tried again only where the answer says that it will pass


async def test_a_transient_media_failure_is_tried_once_more(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_error(131053, is_transient=True)
    assert (await raised(Retry, send(repository, whatsapp))).max_attempts == 2


async def test_service_errors_back_off_with_the_attempts(
    server: WhatsAppServer, whatsapp: WhatsAppClient, repository: MessageRepository
) -> None:
    server.then_error(131016)
    signal = await raised(Retry, send(repository, whatsapp, attempt=3))
    assert signal.after is not None
    assert 4 <= signal.after <= 8
