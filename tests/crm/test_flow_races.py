"""What races in flows: replies, timeouts, messages and jobs at once, on both databases."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from crmd.crm.contacts import people
from crmd.crm.database.database import Database
from crmd.crm.flows import repository as flows
from crmd.crm.flows.tables import FlowRun
from tests.support.flows import QUIZ, REST, SECOND, FlowBench
from tests.support.postgres import waiting_for_locks
from tests.support.wait import wait_until


@pytest.fixture
def sqlite_database(database: Database) -> Database:
    """Not only SQLite: each database in turn."""
    return database


async def test_of_a_reply_and_the_timeout_one_wins(bench: FlowBench) -> None:
    await bench.put(*QUIZ)
    pool = await bench.start_pool("flow")
    for number in range(6):
        await bench.start(phone := f"+4917000000{number:02}")
        run = await bench.run_in("waiting_for_reply")
        await asyncio.gather(
            bench.harness.control.promote("flow", f"flow-{run.id}-{run.count}"),
            bench.reply("me", wamid=f"wamid.{number}", phone=phone),
        )
    await wait_until(lambda: bench.all_in("done"))
    await pool.stop(1.0)
    await bench.start_pool("message")
    texts = await bench.sent(12)
    answers = [text for text in texts if not text.startswith("Hello")]
    assert len(answers) == 6
    assert set(answers) <= {"You said me", "Too late"}
    for run in await bench.runs():
        assert run.count == 5  # hello, ask, the one or the other, its message, and bye


async def test_two_jobs_at_one_run_send_each_message_once(bench: FlowBench) -> None:
    steps = [{**SECOND, "id": f"s{number}", "text": f"text {number}"} for number in range(6)]
    await bench.put(*steps)
    run_id = await bench.make_run()
    await bench.start_pool()
    keys = [await bench.add({"run": run_id, "count": 0}, key=f"twin-{number}") for number in range(5)]
    for key in keys:
        await bench.finished(key)
    assert (await bench.run_in("done")).count == 6
    assert sorted(await bench.sent(6)) == [f"text {number}" for number in range(6)]
    await wait_until(lambda: bench.finished_job("message", f"flow-{run_id}-5"))
    assert len(bench.server.messages) == 6


async def test_many_messages_at_once_answer_once(bench: FlowBench) -> None:
    await bench.waiting_run(*QUIZ, queues=["flow"])
    await asyncio.gather(*(bench.reply(f"text {number}", f"wamid.{number}") for number in range(6)))
    run = await bench.run_in("done")
    assert len(run.data["messages"]) == 1
    assert run.count == 5


async def test_a_contact_in_a_flow_does_not_start_it_again(bench: FlowBench) -> None:
    await bench.put(REST, SECOND, start={"on": "message", "words": ["hi"]})
    await asyncio.gather(*(bench.reply("hi", f"wamid.{number}") for number in range(4)))
    assert len(await bench.runs()) == 1
    async with bench.database.transaction() as s:
        await flows.cancel(s, (await bench.runs())[0].id, "by hand")
    await bench.reply("hi", "wamid.9")
    assert len(await bench.runs()) == 2


async def test_a_step_takes_its_contact_before_its_run(bench: FlowBench) -> None:
    """As messages that come in do: two transactions in opposite order would each wait for the other."""
    await bench.put({"id": "plan", "type": "set_attribute", "name": "plan", "value": "large"})
    run_id = await bench.make_run()
    run = (await bench.runs())[0]
    await bench.start_pool("flow")
    async with bench.database.transaction() as s:
        await people.lock(s, [run.contact_id])
        key = await bench.add({"run": run_id, "count": 0})
        if not bench.database.is_sqlite:  # which has one writer at a time
            await waiting_for_locks(bench.database, 1)
        await s.execute(select(FlowRun.id).where(FlowRun.id == run_id).with_for_update(nowait=True))
    await bench.finished(key)
    assert (await bench.contact()).attributes == {"plan": "large"}
