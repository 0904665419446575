"""Statuses from webhooks: out of order, repeated, early, late, and of messages of which nobody knew."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import datetime, timedelta
from typing import Any

from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Records
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import begin
from crmd.crm.messages.queries import Status
from crmd.crm.messages.statuses import Applied, StatusUpdate, apply_status, apply_statuses
from tests.database.test_messages import NOW, outgoing, put, row, steps


def told(wamid: str, status: Any, seconds: int = 0, **fields: Any) -> StatusUpdate:
    return StatusUpdate(wamid, status, NOW + timedelta(seconds=seconds), **fields)


async def apply(records: Records, *updates: StatusUpdate) -> list[Applied | None]:
    async with records.transaction() as s:
        return await apply_statuses(s, updates)


async def accepted(records: Records, key: str = "job-1") -> tuple[int, str]:
    """A message that WhatsApp took: its id and wamid."""
    async with records.transaction() as s:
        first = await begin(s, outgoing(key), NOW)
        await messages.accepted(s, first.message_id, f"wamid.{key}", NOW)
    return first.message_id, f"wamid.{key}"


async def test_each_order_of_statuses_ends_at_the_furthest(records: Records) -> None:
    for number, order in enumerate(itertools.permutations(("sent", "delivered", "read"))):
        message_id, wamid = await accepted(records, f"job-{number}")
        for status in order:
            await apply(records, told(wamid, status))
            await apply(records, told(wamid, status))
        assert (await row(records, message_id)).status == "read", order
        assert set(await steps(records, message_id)) == {"sending", "accepted", "sent", "delivered", "read"}


async def test_the_time_is_the_webhooks(records: Records) -> None:
    message_id, wamid = await accepted(records)
    async with records.transaction() as s:
        assert await apply_status(s, told(wamid, "delivered", 5))
        assert not await apply_status(s, told(wamid, "sent", 3))
    assert (await row(records, message_id)).status_at == NOW + timedelta(seconds=5)
    async with records.reading() as s:
        at: dict[str, datetime] = {event.status: event.at for event in await messages.history(s, message_id)}
    assert (at["sent"], at["delivered"]) == (NOW + timedelta(seconds=3), NOW + timedelta(seconds=5))


async def test_failed_is_final_unless_it_was_delivered(records: Records) -> None:
    expected = {
        ("failed",): "failed",
        ("sent", "failed"): "failed",
        ("failed", "sent"): "failed",
        ("failed", "delivered"): "delivered",
        ("failed", "read"): "read",
        ("delivered", "failed"): "delivered",
        ("read", "failed"): "read",
    }
    for number, (order, ends) in enumerate(expected.items()):
        message_id, wamid = await accepted(records, f"job-{number}")
        for status in order:
            error: dict[str, Any] = (
                {"error_code": "131049", "error": "marketing cap"} if status == "failed" else {}
            )
            await apply(records, told(wamid, status, **error))
        message = await row(records, message_id)
        assert message.status == ends, order
        assert (message.error_code, message.error) == (
            ("131049", "marketing cap") if ends == "failed" else (None, None)
        )


async def test_a_status_may_come_before_the_answer_of_the_send(records: Records) -> None:
    async with records.transaction() as s:
        first = await begin(s, outgoing(), NOW)
    [applied] = await apply(records, told("wamid.A", "sent", job_key="job-1"))
    assert applied is not None
    assert not applied.settled
    async with records.transaction() as s:
        await messages.accepted(s, first.message_id, "wamid.A", NOW)
    message = await row(records, first.message_id)
    assert (message.status, message.wamid) == ("sent", "wamid.A")


async def test_an_unknown_message_is_settled_by_its_jobs_key(records: Records) -> None:
    for status in ("sent", "delivered", "read", "failed"):
        message_id = await put(records, Status.UNKNOWN, key=status)
        first, again = await apply(
            records,
            told(f"wamid.{status}", status, job_key=status),
            told(f"wamid.{status}", status, job_key=status),
        )
        assert first is not None
        assert (first.message_id, first.job_queue, first.job_key) == (message_id, "message", status)
        assert (first.job_enqueued_at, first.settled) == (NOW, True)
        assert again is not None
        assert not again.settled
        message = await row(records, message_id)
        assert (message.status, message.wamid) == (status, f"wamid.{status}")


async def test_whatsapps_word_stands_against_a_persons(records: Records) -> None:
    message_id = await put(records, Status.UNKNOWN)
    async with records.transaction() as s:
        await messages.settle_by_hand(s, message_id, "failed", NOW)
    await apply(records, told("wamid.A", "sent", job_key="job-1"))
    message = await row(records, message_id)
    assert (message.status, message.wamid, message.error_code) == ("sent", "wamid.A", None)


async def test_of_several_messages_of_a_key_the_likeliest_is_meant(records: Records) -> None:
    later = NOW + timedelta(hours=1)
    failed = await put(records, Status.FAILED)
    unknown = await put(records, Status.UNKNOWN, job_enqueued_at=later)
    sending = await put(records, Status.SENDING, job_enqueued_at=later + timedelta(hours=1))
    known = await put(records, Status.SENT, job_enqueued_at=later + timedelta(hours=2))
    found = [(await apply(records, told(wamid, "sent", job_key="job-1")))[0] for wamid in ("w1", "w2", "w3", "w4")]
    assert [one.message_id if one else None for one in found] == [sending, unknown, failed, None]
    assert (await row(records, known)).status == "sent"


async def test_a_message_of_another_program_is_told_apart(records: Records) -> None:
    await accepted(records)
    assert await apply(records, told("wamid.other", "sent"), told("wamid.more", "sent", job_key="other")) == [
        None,
        None,
    ]


async def test_inbound_messages_have_no_statuses(records: Records) -> None:
    async with records.transaction() as s:
        contact = await contacts.ensure(s, "+491")
        await messages.record_inbound(s, contact, wamid="wamid.IN", type="text", text="x", at=NOW, now=NOW)
    assert await apply(records, told("wamid.IN", "read")) == [None]


async def test_a_thousand_statuses_in_any_order(records: Records) -> None:
    known = [await accepted(records, f"job-{number}") for number in range(50)]
    updates = [
        told(wamid, status) for _, wamid in known for status in ("sent", "delivered", "read") for _ in range(7)
    ]
    random.shuffle(updates)
    results = await apply(records, *updates)
    assert len(results) == 1050
    assert None not in results
    async with records.reading() as s:
        page = await messages.page(s, messages.MessageFilter(status=Status.READ), None, 100)
    assert [one.id for one in page] == [message_id for message_id, _ in known]


async def test_statuses_of_one_unknown_message_that_come_at_once(records: Records) -> None:
    message_id = await put(records, Status.UNKNOWN)
    results = await asyncio.gather(
        *(apply(records, told("wamid.A", status, job_key="job-1")) for status in ("sent", "delivered", "read"))
    )
    assert [one.message_id for [one] in results if one] == [message_id] * 3
    assert sum(one.settled for [one] in results if one) == 1
    assert (await row(records, message_id)).status == "read"
