"""Faults on request: by the admin call, by header, by query."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from tests.sandbox.conftest import ANN, BOB, SandboxHarness
from tests.support.wait import wait_until


async def fault(harness: SandboxHarness, **fields: Any) -> None:
    answer = await harness.admin("POST", "/faults", fields)
    assert answer.status == 201, answer


async def test_the_next_n_answers_are_an_error(harness: SandboxHarness) -> None:
    await fault(harness, kind="error", code=131026, times=2)
    await fault(harness, kind="error", code=2)
    codes = [(await harness.send()).json.get("error", {}).get("code") for _ in range(4)]
    assert codes == [131026, 131026, 2, None]
    assert (await harness.admin("GET", "/faults")).json == {"faults": []}
    assert harness.sandbox.journal.totals["accepted"] == 1


async def test_a_fault_for_one_recipient_waits_for_that_one(harness: SandboxHarness) -> None:
    await fault(harness, kind="error", code=131026, to=BOB)
    assert (await harness.send(ANN)).status == 200
    assert (await harness.send(f"+{BOB}")).status == 400
    assert (await harness.send(BOB)).status == 200


@pytest.mark.parametrize("accepted", [True, False])
async def test_the_connection_is_cut_after_the_body_was_read(harness: SandboxHarness, accepted: bool) -> None:
    await fault(harness, kind="drop", accepted=accepted)
    with pytest.raises(aiohttp.ClientError):
        await harness.send()
    assert harness.sandbox.journal.totals["accepted"] == int(accepted)
    if accepted:
        await wait_until(
            lambda: len(harness.business.statuses) == 3, what="the statuses of a message without an answer"
        )


async def test_no_answer_for_a_time_then_the_connection_is_cut(harness: SandboxHarness) -> None:
    await fault(harness, kind="timeout", seconds=0.1)
    began = time.monotonic()
    with pytest.raises(aiohttp.ClientError):
        await harness.send()
    assert time.monotonic() - began >= 0.1
    assert harness.sandbox.journal.totals["accepted"] == 1


async def test_held_requests_are_let_go_when_faults_are_cleared(harness: SandboxHarness) -> None:
    await fault(harness, kind="timeout", times=3)
    held = asyncio.create_task(harness.send())
    await wait_until(lambda: harness.entries("message"))
    assert (await harness.admin("DELETE", "/faults")).json == {"faults": []}
    with pytest.raises(aiohttp.ClientError):
        await held
    assert (await harness.send(BOB)).status == 200


async def test_a_delay_ends_in_a_good_answer(harness: SandboxHarness) -> None:
    began = time.monotonic()
    answer = await harness.post(
        {"messaging_product": "whatsapp", "to": ANN, "type": "text", "text": {"body": "x"}},
        headers=harness.headers | {"X-Sandbox-Fault": "delay:0.1"},
    )
    assert answer.status == 200
    assert time.monotonic() - began >= 0.1


async def test_a_bare_status_as_of_a_proxy(harness: SandboxHarness) -> None:
    async with harness.session.post(
        f"{harness.url}/v23.0/106540352242922/messages?sandbox_fault=status:502",
        json={"messaging_product": "whatsapp", "to": ANN, "type": "text", "text": {"body": "x"}},
        headers=harness.headers,
    ) as response:
        assert response.status == 502
        assert response.content_type == "text/plain"


async def test_accepted_and_failed_later(harness: SandboxHarness) -> None:
    await fault(harness, kind="failed", code=131049)
    assert (await harness.send()).status == 200
    await wait_until(lambda: len(harness.business.statuses) == 2)
    assert harness.business.statuses[1]["errors"][0]["code"] == 131049
    assert harness.entries("message")[0]["error"] == 131049


@pytest.mark.parametrize("accepted", [True, False])
async def test_any_answer_can_be_asked_for(harness: SandboxHarness, accepted: bool) -> None:
    told = {"body": '{"a":1}', "headers": {"Retry-After": "9"}}
    await fault(harness, kind="answer", code=429, accepted=accepted, **told)
    assert "body" not in (await harness.admin("GET", "/faults")).json["faults"][0]
    answer = await harness.send()
    assert (answer.status, answer.json) == (429, {"a": 1})
    assert harness.sandbox.journal.totals["accepted"] == int(accepted)


async def test_an_answer_breaks_off(harness: SandboxHarness) -> None:
    await fault(harness, kind="break_off", code=200, body='{"messages": [')
    with pytest.raises(aiohttp.ClientPayloadError):
        await harness.send()


async def test_a_fault_of_a_mark_leaves_messages_alone(harness: SandboxHarness) -> None:
    await fault(harness, kind="answer", code=500, body="{}", mark_read=True)
    assert (await harness.send()).status == 200
    mark = {"messaging_product": "whatsapp", "status": "read", "message_id": "wamid.x"}
    assert (await harness.post(mark)).status == 500


async def test_a_notice_may_be_refused(harness: SandboxHarness) -> None:
    await fault(harness, service="notice", kind="error", code=503)
    statuses = [(await harness.call("POST", "/notify/ops", json={"message": "hi"})).status for _ in range(2)]
    assert statuses == [503, 200]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "sulk"},
        {"kind": "error"},
        {"kind": "drop", "code": 1},
        {"kind": "delay"},
        {"kind": "error", "code": 1, "times": 0},
        {"kind": "failed", "code": 1, "service": "smtp"},
        {"kind": "drop", "service": "fax"},
        {"kind": "drop", "whom": "ann"},
        {"kind": "answer"},
        {"kind": "answer", "code": 250, "service": "smtp"},
        {"kind": "drop", "body": "x"},
        {"kind": "drop", "stage": "rcpt"},
        {"kind": "drop", "service": "smtp", "stage": "vrfy"},
        {"kind": "drop", "service": "smtp", "text": "gone"},
        {"kind": "error", "code": 550, "service": "smtp", "text": "two\r\n250 lines"},
        {"kind": "error", "code": 131026, "text": "no"},
        {"kind": "drop", "to": "ann@example.com"},
        {"kind": "drop", "service": "smtp", "to": "ann@example.com"},
        [],
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(harness: SandboxHarness, body: Any) -> None:
    answer = await harness.admin("POST", "/faults", body)
    assert answer.status == 422
    assert answer.json["error"]


async def test_an_unknown_fault_of_a_header_is_an_error_of_the_request(harness: SandboxHarness) -> None:
    answer = await harness.post(
        {"messaging_product": "whatsapp", "to": ANN, "type": "text", "text": {"body": "x"}},
        headers=harness.headers | {"X-Sandbox-Fault": "sulk"},
    )
    assert answer.json["error"]["code"] == 100


async def test_faults_are_bounded(harness: SandboxHarness) -> None:
    for _ in range(100):
        await fault(harness, kind="drop")
    assert (await harness.admin("POST", "/faults", {"kind": "drop"})).status == 422
