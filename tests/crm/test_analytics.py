"""`snapshot` counts what happened in a time, on both databases, and counts it again where statuses came late."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from crmd.crm.ai.tables import AiUsage
from crmd.crm.analytics import repository as snapshots
from crmd.crm.analytics.jobs import TakeSnapshot, snapshot, take
from crmd.crm.analytics.repository import Period
from crmd.crm.campaigns.tables import Campaign
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.database import Database
from crmd.crm.messages.tables import Message
from crmd.engine.admin.inspector import Inspector
from crmd.engine.admin.views import QueueCounts, QueueMetrics, QueueTotals
from crmd.errors import Permanent, StoreUnavailable
from crmd.jobs import JobContext
from tests.support.context import RecordedRun, make_context
from tests.support.database import fetch
from tests.support.wait import cancel_once

NOW = datetime(2026, 3, 5, 12, 2, tzinfo=UTC)
HOUR = datetime(2026, 3, 5, 11, tzinfo=UTC)
"""The last hour that is over at NOW."""
NOTHING = {"p50": None, "p95": None, "p99": None}
NO_COUNTS = QueueCounts("message", 0, 0, 0, 0, 0, 0, 0, None, None, None, None, None, None, None)


class Queues(Inspector):
    """What the queues are said to do."""

    def __init__(self) -> None:
        self.completed = 0
        self.away = False

    async def metrics(self) -> dict[str, QueueMetrics]:
        if self.away:
            raise StoreUnavailable("the store is unavailable")
        counts = replace(NO_COUNTS, waiting=3, active=1, oldest_waiting_seconds=1.5)
        totals = QueueTotals("message", completed=self.completed, failed=2, retried=1)
        return {"message": QueueMetrics(counts, totals, 0.0, {**NOTHING, "p95": 40.0}, {**NOTHING})}


@pytest.fixture
def queues() -> Queues:
    return Queues()


def context(database: Database, queues: Queues, run: RecordedRun | None = None) -> JobContext:
    return make_context(database, queues, queue="analytics", name="snapshot", run=run)


def message(number: int, at: datetime, status: str, **fields: Any) -> Message:
    given = {"direction": "out", "phone": "+491701234567", "type": "text", "status_at": at, "created_at": at}
    return Message(**(given | {"status": status, "wamid": f"wamid.{number}", **fields}))


async def add(database: Database, *rows: Any) -> None:
    async with database.transaction() as s:
        s.add_all(rows)


async def data_of(database: Database, starts_at: datetime = HOUR, period: Period = Period.HOUR) -> dict[str, Any]:
    found = await fetch(database, snapshots.get, period, starts_at)
    assert found is not None
    return found.data


async def test_messages_are_counted_by_status_and_error(database: Database, queues: Queues) -> None:
    statuses = ["accepted", "sent", "delivered", "delivered", "read", "unknown"]
    rows = [message(number, HOUR + timedelta(minutes=number), status) for number, status in enumerate(statuses)]
    rows += [message(10, HOUR, "failed", error_code="131047"), message(11, HOUR, "failed", error_code="131026")]
    rows += [message(12, HOUR, "failed", error_code="131026"), message(13, HOUR, "failed", error_code="opted_out")]
    rows += [message(20, HOUR, "received", direction="in")]
    rows += [message(30, HOUR - timedelta(milliseconds=1), "read"), message(31, HOUR + timedelta(hours=1), "read")]
    await add(database, *rows)
    result = await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW)
    assert result == {"period": "hour", "starts_at": "2026-03-05T11:00:00Z", "computed": 1}
    assert (await data_of(database))["messages"] == {
        "out": 10,
        "in": 1,
        "by_status": {"accepted": 1, "delivered": 2, "failed": 4, "read": 1, "sent": 1, "unknown": 1},
        "by_error": {"131026": 2, "131047": 1, "opted_out": 1},
        "delivery_rate": 0.375,  # 3 of 8: nobody was given the opted-out one, and of the unknown one nobody knows
        "read_rate": 0.3333,
    }


async def test_contacts_campaigns_and_tokens_are_counted(database: Database, queues: Queues) -> None:
    inside, earlier = HOUR + timedelta(minutes=5), HOUR - timedelta(days=1)
    campaign = Campaign(name="c", definition={}, status="done", created_at=earlier, finished_at=inside)
    await add(
        database,
        campaign,
        Campaign(name="d", definition={}, status="running", created_at=inside),
        Contact(phone="+491701234561", created_at=earlier, opted_out_at=earlier),
        Contact(phone="+491701234562", created_at=earlier, opted_out_at=inside),
        Contact(phone="+491701234563", created_at=inside),
        Contact(phone="+491701234564", created_at=NOW),
        *(
            AiUsage(job_key="k", job="chat_reply", model="m", input_tokens=100, output_tokens=7, answered_at=at)
            for at in (inside, HOUR, earlier)
        ),
    )
    await add(database, message(1, inside, "sent", campaign_id=campaign.id), message(2, inside, "sent"))
    await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW)
    data = await data_of(database)
    assert data["contacts"] == {"total": 3, "new": 1, "opted_out": 1, "opted_out_total": 2}
    assert data["campaigns"] == {"started": 1, "finished": 1, "messages": 1}
    assert data["ai"] == {"answers": 2, "input_tokens": 200, "output_tokens": 14}


async def test_run_twice_it_keeps_one_and_knows_late_statuses(database: Database, queues: Queues) -> None:
    await add(database, message(1, HOUR, "sent"), message(2, HOUR, "sent"))
    payload = TakeSnapshot(period=Period.HOUR, at=HOUR + timedelta(minutes=59))
    await take(context(database, queues), payload, NOW)
    before = await data_of(database)
    assert before["messages"]["delivery_rate"] == 0
    async with database.transaction() as s:
        first = await s.get(Message, 1)
        assert first is not None
        first.status = "read"
    await take(context(database, queues), payload, NOW + timedelta(days=2))
    after = await data_of(database)
    assert after["messages"]["by_status"] == {"read": 1, "sent": 1}
    assert after["messages"]["delivery_rate"] == 0.5
    assert after["queues"] == before["queues"], "what the queues did then is not what they do two days later"
    assert len(await fetch(database, snapshots.last, Period.HOUR, 10)) == 1


async def test_queues_are_counted_from_one_snapshot_to_the_next(database: Database, queues: Queues) -> None:
    queues.completed = 100
    await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW)
    first = (await data_of(database))["queues"]
    assert (first["since"], first["by_name"]["message"]["completed"]) == (None, None)
    assert first["by_name"]["message"]["wait_ms"]["p95"] == 40.0
    queues.completed = 130
    await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW + timedelta(hours=1))
    second = (await data_of(database, HOUR + timedelta(hours=1)))["queues"]
    assert (second["since"], second["by_name"]["message"]["completed"]) == ("2026-03-05T12:02:00+00:00", 30)
    queues.completed = 5  # another store
    await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW + timedelta(hours=2))
    assert (await data_of(database, HOUR + timedelta(hours=2)))["queues"]["by_name"]["message"]["completed"] == 5


async def test_earlier_times_are_computed_again_where_there_is_something_to_tell(
    database: Database, queues: Queues
) -> None:
    await add(database, message(1, HOUR - timedelta(hours=3), "sent"))
    run = RecordedRun()
    result = await take(context(database, queues, run), TakeSnapshot(period=Period.HOUR, again=4), NOW)
    assert result["computed"] == 5
    kept = await fetch(database, snapshots.last, Period.HOUR, 10)
    assert [one.starts_at for one in kept] == [HOUR - timedelta(hours=3), HOUR]
    assert [fraction for fraction, _ in run.progress_notes] == [0.2, 0.4, 0.6, 0.8, 1.0]


async def test_cancelled_half_way_it_leaves_the_latest_and_the_next_run_does_the_rest(
    database: Database, queues: Queues
) -> None:
    await add(database, *(message(n, HOUR - timedelta(hours=n), "sent") for n in range(4)))
    entered = asyncio.Event()

    class Slow(RecordedRun):
        async def progress(self, fraction: float, note: str | None) -> None:
            entered.set()
            await asyncio.Event().wait()

    payload = TakeSnapshot(period=Period.HOUR, again=3)
    await cancel_once(entered.is_set, take(context(database, queues, Slow()), payload, NOW))
    assert [one.starts_at for one in await fetch(database, snapshots.last, Period.HOUR, 10)] == [HOUR]
    await take(context(database, queues), payload, NOW)
    assert len(await fetch(database, snapshots.last, Period.HOUR, 10)) == 4


async def test_a_day_is_that_of_utc(database: Database, queues: Queues) -> None:
    day = datetime(2026, 3, 4, tzinfo=UTC)
    await add(database, message(1, day, "sent"), message(2, day + timedelta(hours=24), "sent"))
    at = datetime.fromisoformat("2026-03-05T00:30:00+01:00")
    await take(context(database, queues), TakeSnapshot(period=Period.DAY, at=at), NOW)
    assert (await data_of(database, day, Period.DAY))["messages"]["out"] == 1


async def test_old_snapshots_go(database: Database, queues: Queues) -> None:
    old = NOW - Period.HOUR.kept - timedelta(hours=2)
    async with database.transaction() as s:
        await snapshots.save(s, Period.HOUR, old, {})
        await snapshots.save(s, Period.DAY, old, {})
    await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW)
    assert [one.starts_at for one in await fetch(database, snapshots.last, Period.HOUR, 10)] == [HOUR]
    assert len(await fetch(database, snapshots.last, Period.DAY, 10)) == 1


async def test_without_the_store_nothing_is_kept_and_the_job_is_tried_again(
    database: Database, queues: Queues
) -> None:
    queues.away = True
    with pytest.raises(StoreUnavailable):
        await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW)
    assert await fetch(database, snapshots.last, Period.HOUR, 10) == []
    queues.away = False
    await take(context(database, queues), TakeSnapshot(period=Period.HOUR), NOW)
    assert "queues" in await data_of(database)


async def test_the_running_hour_can_be_looked_at_and_a_future_one_cannot(
    database: Database, queues: Queues
) -> None:
    await take(context(database, queues), TakeSnapshot(period=Period.HOUR, at=NOW), NOW)
    assert "queues" not in await data_of(database, HOUR + timedelta(hours=1))
    with pytest.raises(Permanent, match="has not begun yet"):
        await take(context(database, queues), TakeSnapshot(period=Period.HOUR, at=NOW + timedelta(hours=1)), NOW)


async def test_the_job_itself_takes_the_last_hour(database: Database, queues: Queues) -> None:
    result = await snapshot(context(database, queues), TakeSnapshot(period=Period.HOUR))
    ends_at = datetime.fromisoformat(result["starts_at"]) + timedelta(hours=1)
    assert timedelta() <= datetime.now(UTC) - ends_at < timedelta(hours=1, minutes=1)


@pytest.mark.parametrize(
    "payload",
    [{}, {"period": "week"}, {"period": "hour", "at": "2026-01-01T00:00:00"}, {"period": "day", "again": -1}],
)
def test_bad_payloads_are_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TakeSnapshot.model_validate(payload)
