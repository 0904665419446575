"""Flows and their runs in the database: stored, started once, moved by one of several, found again."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from crmd.crm.contacts import repository as contacts
from crmd.crm.database.database import Database
from crmd.crm.database.types import utc_now
from crmd.crm.flows import repository as flows
from crmd.crm.flows.repository import KEEP_RUNS, LOOK_AFTER, Overdue, Position, RunState, Step
from crmd.crm.flows.tables import Flow, FlowRun
from tests.support.database import commit, fetch

DEFINITION: dict[str, Any] = {"name": "welcome", "start": {"on": "message", "words": ["hi"]}, "steps": []}
PHONE = "+491701234567"


async def put(database: Database, name: str = "welcome", **options: Any) -> None:
    await commit(database, flows.put, name, {**DEFINITION, "name": name}, **options)


async def begin(database: Database, once: str = "a", phone: str = PHONE, name: str = "welcome") -> int:
    async with database.transaction() as s:
        flow = await flows.by_name(s, name)
        assert flow is not None
        contact = await contacts.ensure(s, phone)
        at, _ = await flows.start(s, flow, contact.id, once=once, step="first", data={"saved": {}})
    return at.run_id


async def run_of(database: Database, run_id: int) -> FlowRun:
    run = await fetch(database, flows.load, run_id)
    assert run is not None
    return run


async def move(database: Database, run_id: int, count: int, state: RunState, **fields: Any) -> bool:
    return await commit(
        database, flows.save, Position(run_id, count), Step(state, "next", {"saved": {}}, **fields)
    )


async def test_a_definition_is_stored_and_replaced(database: Database) -> None:
    assert await commit(database, flows.put, "welcome", DEFINITION)
    assert not await commit(database, flows.put, "welcome", {**DEFINITION, "description": "new"}, enabled=False)
    async with database.reading() as s:
        found = await flows.by_name(s, "welcome")
        assert await s.scalar(select(func.count()).select_from(Flow)) == 1
    assert found is not None
    assert found.definition["description"] == "new"
    assert not found.enabled
    assert found.updated_at >= found.created_at


async def test_two_who_put_the_same_flow_at_once_both_succeed(database: Database) -> None:
    await asyncio.gather(*(put(database) for _ in range(5)))
    async with database.reading() as s:
        assert await s.scalar(select(func.count()).select_from(Flow)) == 1


async def test_there_are_not_too_many_flows(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows, "MAX_FLOWS", 2)
    await put(database, "a")
    await put(database, "b")
    with pytest.raises(ValueError, match="there are 2 flows"):
        await put(database, "c")
    await put(database, "b")


async def test_flows_come_in_pages_with_their_live_runs(database: Database) -> None:
    for name in ("c", "a", "b"):
        await put(database, name)
    await begin(database, "1", name="b")
    await move(database, await begin(database, "2", name="b"), 0, RunState.DONE)
    async with database.reading() as s:
        first = await flows.page(s, None, 2)
        rest = await flows.page(s, first[-1].flow.id, 2)
        one = await flows.view(s, "b")
        assert await flows.view(s, "d") is None
    assert [(one.flow.name, one.live_runs) for one in first] == [("c", 0), ("a", 0)]
    assert [(one.flow.name, one.live_runs) for one in rest] == [("b", 1)]
    assert one is not None
    assert one.live_runs == 1


async def test_triggers_are_those_of_enabled_flows(database: Database) -> None:
    await put(database, "b")
    await put(database, "a", enabled=False)
    await commit(database, flows.put, "c", {"name": "c", "steps": []})
    found = await fetch(database, flows.triggers)
    assert [(one.name, one.start) for one in found] == [("b", {"on": "message", "words": ["hi"]}), ("c", {})]


async def test_under_one_word_one_run_starts(database: Database) -> None:
    await put(database)
    ids = await asyncio.gather(*(begin(database, "same") for _ in range(5)))
    assert len(set(ids)) == 1
    assert await begin(database, "other") not in ids
    run = await run_of(database, ids[0])
    assert (run.state, run.step, run.count) == (RunState.RUNNING, "first", 0)
    assert run.definition == DEFINITION
    assert abs(run.wake_at - run.created_at - LOOK_AFTER) < timedelta(seconds=1)


async def test_of_several_that_take_a_step_one_wins(database: Database) -> None:
    await put(database)
    run_id = await begin(database)
    wins = await asyncio.gather(*(move(database, run_id, 0, RunState.RUNNING) for _ in range(8)))
    assert sorted(wins) == [False] * 7 + [True]
    run = await run_of(database, run_id)
    assert (run.count, run.step) == (1, "next")


async def test_a_finished_run_moves_no_more(database: Database) -> None:
    await put(database)
    run_id = await begin(database)
    assert await move(database, run_id, 0, RunState.FAILED, error="why")
    assert not await move(database, run_id, 1, RunState.RUNNING)
    run = await run_of(database, run_id)
    assert (run.state, run.error) == (RunState.FAILED, "why")
    assert abs(run.wake_at - utc_now() - KEEP_RUNS) < timedelta(minutes=1)


async def test_a_cancelled_run_moves_no_more(database: Database) -> None:
    await put(database)
    run_id = await begin(database)
    assert await commit(database, flows.cancel, run_id, "by hand")
    assert not await commit(database, flows.cancel, run_id, "again")
    assert not await move(database, run_id, 0, RunState.RUNNING)
    run = await run_of(database, run_id)
    assert (run.state, run.error, run.count) == (RunState.CANCELLED, "by hand", 1)


async def test_the_runs_of_one_contact_are_ended_together(database: Database) -> None:
    await put(database)
    mine = [await begin(database, str(number)) for number in range(3)]
    other = await begin(database, "other", phone="+491709999999")
    await move(database, mine[0], 0, RunState.DONE)
    contact_id = (await run_of(database, mine[0])).contact_id
    assert await commit(database, flows.cancel_all, contact_id, "opted out") == 2
    assert (await run_of(database, other)).state == RunState.RUNNING
    assert (await run_of(database, mine[0])).state == RunState.DONE


async def test_those_that_wait_for_a_reply_are_found_the_latest_first(database: Database) -> None:
    await put(database)
    ids = [await begin(database, str(number)) for number in range(4)]
    for run_id in ids[:3]:
        await move(database, run_id, 0, RunState.WAITING_FOR_REPLY, wake_at=utc_now() + timedelta(days=1))
    await move(database, ids[1], 1, RunState.RUNNING)
    contact_id = (await run_of(database, ids[0])).contact_id
    assert [run.id for run in await fetch(database, flows.waiting_for_reply, contact_id)] == [ids[2], ids[0]]
    assert [run.id for run in await fetch(database, flows.latest, contact_id)] == list(reversed(ids))
    assert await fetch(database, flows.waiting_for_reply, contact_id + 1) == []


async def test_overdue_runs_come_in_pages_the_oldest_first(database: Database) -> None:
    await put(database)
    now = utc_now()
    ids = [await begin(database, str(number)) for number in range(6)]
    for run_id, minutes in zip(ids[:4], (-3, -9, -3, 5), strict=True):
        await move(database, run_id, 0, RunState.WAITING, wake_at=now + timedelta(minutes=minutes))
    async with database.transaction() as s:
        await s.execute(update(FlowRun).where(FlowRun.id == ids[4]).values(wake_at=now - timedelta(minutes=1)))
    await move(database, ids[5], 0, RunState.DONE)
    first = await fetch(database, flows.overdue, now, None, 2)
    rest = await fetch(database, flows.overdue, now, first[-1], 9)
    assert await fetch(database, flows.overdue, now, rest[-1], 9) == []
    assert [(one.run_id, one.count) for one in first + rest] == [
        (ids[1], 1),
        (ids[0], 1),
        (ids[2], 1),
        (ids[4], 0),
    ]
    assert isinstance(first[0], Overdue)


async def test_old_finished_runs_are_removed_bit_by_bit(database: Database) -> None:
    await put(database)
    ids = [await begin(database, str(number)) for number in range(5)]
    for run_id in ids[:4]:
        await move(database, run_id, 0, RunState.DONE)
    later = utc_now() + KEEP_RUNS + timedelta(minutes=1)
    async with database.transaction() as s:
        assert await flows.remove_old(s, utc_now(), 100) == 0
        assert await flows.remove_old(s, later, 3) == 3
        assert await flows.remove_old(s, later, 3) == 1
    assert (await run_of(database, ids[4])).state == RunState.RUNNING


async def test_runs_come_in_pages_the_newest_first(database: Database) -> None:
    await put(database)
    await put(database, "other")
    ids = [await begin(database, str(number), phone=f"+49170000000{number}") for number in range(4)]
    await begin(database, "else", name="other")
    await move(database, ids[0], 0, RunState.DONE)
    async with database.reading() as s:
        flow = await flows.by_name(s, "welcome")
        assert flow is not None
        first = await flows.runs(s, flow.id, before=None, limit=3)
        rest = await flows.runs(s, flow.id, before=first[-1].run.id, limit=3)
        done = await flows.runs(s, flow.id, states=["done"], before=None, limit=3)
        one = await flows.runs(s, flow.id, phone="+491700000002", before=None, limit=3)
        view = await flows.run_view(s, "welcome", ids[1])
        assert await flows.run_view(s, "other", ids[1]) is None
    assert [found.run.id for found in first + rest] == list(reversed(ids))
    assert [found.run.id for found in done] == [ids[0]]
    assert [found.run.id for found in one] == [ids[2]]
    assert view is not None
    assert view.phone == "+491700000001"


async def test_a_flow_goes_with_its_runs(database: Database) -> None:
    await put(database)
    run_id = await begin(database)
    assert await commit(database, flows.remove, "welcome")
    async with database.transaction() as s:
        assert not await flows.remove(s, "welcome")
        assert await flows.load(s, run_id) is None
