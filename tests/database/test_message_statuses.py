"""Statuses from webhooks: out of order, repeated, early, late, and of messages of which nobody knew."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import datetime, timedelta
from typing import Any

from crmd.crm.campaigns.gate import CampaignGate
from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Database
from crmd.crm.messages import queries as messages
from crmd.crm.messages.begin import begin
from crmd.crm.messages.queries import Status
from crmd.crm.messages.statuses import Applied, StatusUpdate, apply_status, apply_statuses
from tests.database.test_messages import NOW, outgoing, put, row, steps
from tests.support.database import commit, fetch


def told(wamid: str, status: Any, seconds: int = 0, **fields: Any) -> StatusUpdate:
    return StatusUpdate(wamid, status, NOW + timedelta(seconds=seconds), **fields)


async def apply(database: Database, *updates: StatusUpdate) -> list[Applied | None]:
    return await commit(database, apply_statuses, updates)


async def accepted(database: Database, key: str = "job-1") -> tuple[int, str]:
    """A message that WhatsApp took: its id and wamid."""
    async with database.transaction() as s:
        first = await begin(s, CampaignGate(), outgoing(key), NOW)
        await messages.accepted(s, first.message_id, f"wamid.{key}", NOW)
    return first.message_id, f"wamid.{key}"


async def test_each_order_of_statuses_ends_at_the_furthest(database: Database) -> None:
    for number, order in enumerate(itertools.permutations(("sent", "delivered", "read"))):
        message_id, wamid = await accepted(database, f"job-{number}")
        for status in order:
            await apply(database, told(wamid, status))
            await apply(database, told(wamid, status))
        assert (await row(database, message_id)).status == "read", order
        assert set(await steps(database, message_id)) == {"sending", "accepted", "sent", "delivered", "read"}


async def test_the_time_is_the_webhooks(database: Database) -> None:
    message_id, wamid = await accepted(database)
    async with database.transaction() as s:
        assert await apply_status(s, told(wamid, "delivered", 5))
        assert not await apply_status(s, told(wamid, "sent", 3))
    assert (await row(database, message_id)).status_at == NOW + timedelta(seconds=5)
    async with database.reading() as s:
        at: dict[str, datetime] = {event.status: event.at for event in await messages.history(s, message_id)}
    assert (at["sent"], at["delivered"]) == (NOW + timedelta(seconds=3), NOW + timedelta(seconds=5))


async def test_failed_is_final_unless_it_was_delivered(database: Database) -> None:
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
        message_id, wamid = await accepted(database, f"job-{number}")
        for status in order:
            error: dict[str, Any] = (
                {"error_code": "131049", "error": "marketing cap"} if status == "failed" else {}
            )
            await apply(database, told(wamid, status, **error))
        message = await row(database, message_id)
        assert message.status == ends, order
        assert (message.error_code, message.error) == (
            ("131049", "marketing cap") if ends == "failed" else (None, None)
        )


async def test_a_status_may_come_before_the_answer_of_the_send(database: Database) -> None:
    first = await commit(database, begin, CampaignGate(), outgoing(), NOW)
    [applied] = await apply(database, told("wamid.A", "sent", job_key="job-1"))
    assert applied is not None
    assert not applied.settled
    await commit(database, messages.accepted, first.message_id, "wamid.A", NOW)
    message = await row(database, first.message_id)
    assert (message.status, message.wamid) == ("sent", "wamid.A")


async def test_an_unknown_message_is_settled_by_its_jobs_key(database: Database) -> None:
    for status in ("sent", "delivered", "read", "failed"):
        message_id = await put(database, Status.UNKNOWN, key=status)
        first, again = await apply(
            database,
            told(f"wamid.{status}", status, job_key=status),
            told(f"wamid.{status}", status, job_key=status),
        )
        assert first is not None
        assert (first.message_id, first.job_queue, first.job_key) == (message_id, "message", status)
        assert (first.job_enqueued_at, first.settled) == (NOW, True)
        assert again is not None
        assert not again.settled
        message = await row(database, message_id)
        assert (message.status, message.wamid) == (status, f"wamid.{status}")


async def test_whatsapps_word_stands_against_a_persons(database: Database) -> None:
    message_id = await put(database, Status.UNKNOWN)
    await commit(database, messages.settle_by_hand, message_id, "failed", NOW)
    await apply(database, told("wamid.A", "sent", job_key="job-1"))
    message = await row(database, message_id)
    assert (message.status, message.wamid, message.error_code) == ("sent", "wamid.A", None)


async def test_of_several_messages_of_a_key_the_likeliest_is_meant(database: Database) -> None:
    later = NOW + timedelta(hours=1)
    failed = await put(database, Status.FAILED)
    unknown = await put(database, Status.UNKNOWN, job_enqueued_at=later)
    sending = await put(database, Status.SENDING, job_enqueued_at=later + timedelta(hours=1))
    known = await put(database, Status.SENT, job_enqueued_at=later + timedelta(hours=2))
    found = [
        (await apply(database, told(wamid, "sent", job_key="job-1")))[0] for wamid in ("w1", "w2", "w3", "w4")
    ]
    assert [one.message_id if one else None for one in found] == [sending, unknown, failed, None]
    assert (await row(database, known)).status == "sent"


async def test_a_message_of_another_program_is_told_apart(database: Database) -> None:
    await accepted(database)
    assert await apply(database, told("wamid.other", "sent"), told("wamid.more", "sent", job_key="other")) == [
        None,
        None,
    ]


async def test_inbound_messages_have_no_statuses(database: Database) -> None:
    async with database.transaction() as s:
        contact = await contacts.ensure(s, "+491")
        await messages.record_inbound(s, contact, wamid="wamid.IN", type="text", text="x", at=NOW, now=NOW)
    assert await apply(database, told("wamid.IN", "read")) == [None]


async def test_a_thousand_statuses_in_any_order(database: Database) -> None:
    known = [await accepted(database, f"job-{number}") for number in range(50)]
    updates = [
        told(wamid, status) for _, wamid in known for status in ("sent", "delivered", "read") for _ in range(7)
    ]
    random.shuffle(updates)
    results = await apply(database, *updates)
    assert len(results) == 1050
    assert None not in results
    page = await fetch(database, messages.page, messages.MessageFilter(status=Status.READ), None, 100)
    assert [one.id for one in page] == [message_id for message_id, _ in known]


async def test_statuses_of_one_unknown_message_that_come_at_once(database: Database) -> None:
    message_id = await put(database, Status.UNKNOWN)
    results = await asyncio.gather(
        *(apply(database, told("wamid.A", status, job_key="job-1")) for status in ("sent", "delivered", "read"))
    )
    assert [one.message_id for [one] in results if one] == [message_id] * 3
    assert sum(one.settled for [one] in results if one) == 1
    assert (await row(database, message_id)).status == "read"
