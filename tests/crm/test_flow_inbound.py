"""What messages that come in do to flows: they answer, they start, and never twice."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from crmd.crm.contacts import people
from crmd.crm.contacts.tables import Contact
from crmd.crm.database.types import utc_now
from crmd.crm.flows import repository as flows
from crmd.crm.flows.inbound import inbound
from crmd.crm.flows.jobs import SweepFlows, sweep_flows
from crmd.crm.flows.repository import Position
from crmd.crm.flows.tables import FlowRun
from crmd.crm.messages import queries as messages
from crmd.engine.admin.views import State
from crmd.errors import StoreUnavailable
from crmd.jobs import NewPayload
from tests.support.flows import ASK, BYE, LATE, PHONE, QUESTION, REST, THANKS, FlowBench, StoredRun
from tests.support.wait import wait_until

SECOND = {"id": "second", "type": "send", "text": "second: {{ reply }}"}


def on_words(*words: str, **fields: Any) -> dict[str, Any]:
    return {"on": "message", "words": list(words), **fields}


async def names_of_runs(bench: FlowBench) -> list[str]:
    return [run.definition["name"] for run in await bench.runs()]


# Replies


async def test_a_reply_goes_on_at_once_and_is_kept(bench: FlowBench) -> None:
    await bench.waiting_run(*QUESTION)
    await bench.reply("blue")
    run = await bench.run_in("done")
    assert await bench.sent(1) == ["You said blue"]
    assert run.data == {"saved": {"answer": "blue"}, "reply": "blue", "messages": ["wamid.IN1"]}


@pytest.mark.parametrize("taught", [False, True])
async def test_a_reply_from_the_number_that_whatsapp_has(bench: FlowBench, taught: bool) -> None:
    wa_phone = "+491701234568" if taught else "+551181234567"
    phone = PHONE if taught else "+5511981234567"
    bench.server.know_as(phone[1:], wa_phone[1:])
    await bench.put(THANKS | {"id": "hi", "text": "Hi", "next": "ask"}, *QUESTION)
    await bench.start_pool()
    await bench.start(phone)
    await bench.sent(1)
    await bench.run_in("waiting_for_reply")
    await bench.reply("blue", phone=wa_phone)
    await bench.run_in("done")
    assert await bench.sent(2) == ["Hi", "You said blue"]


async def test_a_reply_where_each_form_of_a_number_is_a_contact(bench: FlowBench) -> None:
    async with bench.database.transaction() as s:
        s.add_all([Contact(phone="+551181234567"), Contact(phone="+5511981234567")])
    await bench.waiting_run(*QUESTION, start=on_words("blue"), phone="+5511981234567")
    await bench.reply("blue", phone="+551181234567")
    await bench.run_in("done")
    assert len(await bench.runs()) == 1
    await bench.opt_out("+551181234567")
    await bench.reply("blue", "wamid.2", phone="+551181234567")
    assert len(await bench.runs()) == 1


async def test_the_same_message_again_answers_no_later_question(bench: FlowBench) -> None:
    again = {**ASK, "id": "again", "save_as": "second"}
    await bench.waiting_run(ASK, again, THANKS, LATE, BYE, queues=["flow"])
    await bench.reply("one", "wamid.1")
    await wait_until(lambda: bench.is_at(3))
    await bench.reply("one", "wamid.1")
    assert (await bench.runs())[0].count == 3
    await bench.reply("two", "wamid.2")
    assert (await bench.run_in("done")).data["saved"] == {"answer": "one", "second": "two"}


async def test_one_reply_answers_each_run_that_waits(bench: FlowBench) -> None:
    await bench.put(*QUESTION, name="a")
    await bench.put(*QUESTION, name="b")
    await bench.start_pool("flow")
    for name in ("a", "b"):
        await bench.finished(await bench.start(flow=name))
    await bench.reply("yes")
    await wait_until(lambda: bench.all_in("done"))


async def test_another_contacts_message_answers_nothing(bench: FlowBench) -> None:
    await bench.waiting_run(*QUESTION, queues=["flow"])
    await bench.reply("yes", phone="+491709999999")
    assert (await bench.runs())[0].state == "waiting_for_reply"


async def test_a_reply_that_is_no_text_is_an_empty_one(bench: FlowBench) -> None:
    await bench.waiting_run(*QUESTION, queues=["flow"])
    await bench.reply(None)
    assert (await bench.run_in("done")).data["reply"] == ""


async def test_a_reply_at_the_last_step_ends_the_run(bench: FlowBench) -> None:
    await bench.waiting_run({**ASK, "on_timeout": "ask"}, queues=["flow"])
    await bench.reply("x")
    assert (await bench.run_in("done")).count == 2


class BrokenRun(StoredRun):
    """Adds no job: the store is unavailable."""

    async def enqueue(self, queue: str, name: str, jobs: Any) -> list[str]:
        raise StoreUnavailable("away")


@pytest.mark.parametrize("starts", [False, True])
async def test_a_message_whose_job_was_not_added_is_taken_up_by_its_repeat(bench: FlowBench, starts: bool) -> None:
    if starts:
        await bench.put(SECOND, BYE, start=on_words("x"))
    else:
        await bench.put(*QUESTION)
        pool = await bench.start_pool("flow")
        await bench.finished(await bench.start())
        await pool.stop(1.0)
    with pytest.raises(StoreUnavailable):
        await bench.reply("x", run=BrokenRun(bench.harness.control))
    await bench.reply("x")
    await bench.start_pool()
    await bench.run_in("done")
    assert await bench.sent(1) == ["second: x" if starts else "You said x"]
    assert len(await bench.runs()) == 1


# Starts


async def test_a_message_starts_the_flows_whose_words_it_has_else_those_for_any(bench: FlowBench) -> None:
    await bench.put(REST, SECOND, name="menu", start=on_words("menu"))
    await bench.put(REST, SECOND, name="hours", start=on_words("opening hours", "öffnungszeiten"))
    await bench.put(REST, SECOND, name="other", start={"on": "message"})
    await bench.put(REST, SECOND, name="by-hand")
    await bench.put(REST, SECOND, name="off", start=on_words("menu"), enabled=False)
    expected = {
        "Menu": ["menu"],
        "the MENU, please!": ["menu"],
        "menus": ["other"],
        "opening hours?": ["hours"],
        "hours of opening": ["other"],
        "menu and opening  hours": ["hours", "menu"],
        "Öffnungszeiten": ["hours"],
        "hello": ["other"],
        "": ["other"],
    }
    started = {}
    for number, text in enumerate(expected):
        before = len(await bench.runs())
        await bench.reply(text, f"wamid.{number}", phone=f"+49170000000{number}")
        started[text] = (await names_of_runs(bench))[before:]
    assert started == expected


async def test_what_started_a_flow_is_its_first_reply(bench: FlowBench) -> None:
    await bench.put(SECOND, start=on_words("hi"))
    await bench.start_pool()
    await bench.reply("hi there")
    assert await bench.sent(1) == ["second: hi there"]


async def test_one_message_starts_a_flow_once_and_answers_none_of_its_questions(bench: FlowBench) -> None:
    await bench.put(*QUESTION, start=on_words("hi"))
    await bench.start_pool("flow")
    await bench.reply("hi")
    await bench.run_in("waiting_for_reply")
    await bench.reply("hi")
    run = (await bench.runs())[0]
    assert (run.state, len(await bench.runs())) == ("waiting_for_reply", 1)
    await bench.reply("blue", "wamid.2")
    await bench.run_in("done")
    await bench.reply("hi")
    assert len(await bench.runs()) == 1


async def test_a_cooldown_holds_back_what_was_started_lately(bench: FlowBench) -> None:
    await bench.put(SECOND, start={"on": "message", "cooldown": "1d"})
    await bench.start_pool("flow")
    await bench.reply("one", "wamid.1")
    await bench.run_in("done")
    await bench.reply("two", "wamid.2")
    assert len(await bench.runs()) == 1
    async with bench.database.transaction() as s:
        await s.execute(update(FlowRun).values(created_at=utc_now() - timedelta(hours=25)))
    await bench.reply("three", "wamid.3")
    assert len(await bench.runs()) == 2


async def test_a_reply_starts_nothing_else(bench: FlowBench) -> None:
    await bench.put(*QUESTION, name="quiz")
    await bench.put(SECOND, name="any", start={"on": "message"})
    await bench.start_pool("flow")
    await bench.finished(await bench.start(flow="quiz"))
    await bench.reply("blue")
    assert await names_of_runs(bench) == ["quiz"]


async def test_an_opted_out_contact_starts_nothing_and_its_runs_end(bench: FlowBench) -> None:
    await bench.waiting_run(*QUESTION, start=on_words("hi"), queues=["flow"])
    await bench.opt_out()
    await bench.reply("hi")
    run = await bench.run_in("cancelled")
    assert run.error == "the contact opted out"
    assert len(await bench.runs()) == 1


async def test_a_contact_that_was_forgotten_meanwhile_does_no_harm(bench: FlowBench) -> None:
    await bench.put(SECOND, start={"on": "message"})
    await bench.reply("hi")
    async with bench.database.transaction() as s:
        message = await messages.by_wamid(s, "wamid.IN1")
        [contact] = await people.lock(s, [(await bench.contact()).id])
        assert message is not None
        await s.delete(contact)
    await inbound(bench.context(), contact, message)
    assert await bench.runs() == []


# The sweep


async def sweep(bench: FlowBench) -> tuple[int, int]:
    swept = await sweep_flows(bench.context(), SweepFlows())
    return swept["overdue"], swept["removed"]


@pytest.mark.parametrize("state", ["waiting", "waiting_for_reply", "running"])
async def test_a_run_whose_job_was_lost_goes_on(bench: FlowBench, state: str) -> None:
    await bench.put(*(QUESTION if state == "waiting_for_reply" else (REST, SECOND)))
    pool = await bench.start_pool("flow")
    await bench.finished(await bench.start(reply_text="x"))
    run = await bench.run_in("waiting_for_reply" if state == "waiting_for_reply" else "waiting")
    await bench.harness.control.cancel("flow", f"flow-{run.id}-{run.count}")
    await pool.stop(1.0)
    if state == "running":
        async with bench.database.transaction() as s:
            at = Position(run.id, run.count)
            await flows.save(s, at, flows.Step(flows.RunState.RUNNING, "second", {"saved": {}, "reply": "x"}))
    assert await sweep(bench) == (0, 0)
    await bench.make_overdue(run.id)
    assert await sweep(bench) == (1, 0)
    assert await sweep(bench) == (1, 0)
    page = await bench.harness.inspector.jobs("flow", State.WAITING, None, None, 10)
    assert [view.key for view in page.jobs] == [f"flow-{run.id}-{(await bench.runs())[0].count}"]
    await bench.start_pool("flow")
    await wait_until(lambda: bench.ended(run.id))


async def test_a_sweep_goes_through_all_pages(bench: FlowBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.crm.flows.jobs.BATCH", 2)
    await bench.put(REST, SECOND)
    for _ in range(5):
        await bench.make_overdue(await bench.make_run())
    run = StoredRun(bench.harness.control)
    sizes: list[int] = []
    add = run.enqueue

    async def counted(queue: str, name: str, jobs: list[NewPayload]) -> list[str]:
        sizes.append(len(jobs))
        return await add(queue, name, jobs)

    monkeypatch.setattr(run, "enqueue", counted)
    assert await sweep_flows(bench.context(run), SweepFlows()) == {"overdue": 5, "removed": 0}
    assert sizes == [2, 2, 1]


async def test_a_sweep_removes_what_ended_long_ago(bench: FlowBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmd.crm.flows.jobs.BATCH", 2)
    await bench.put(REST, SECOND)
    for _ in range(5):
        run_id = await bench.make_run()
        async with bench.database.transaction() as s:
            await flows.cancel(s, run_id, "by hand")
    kept = await bench.make_run()
    assert await sweep(bench) == (0, 0)
    async with bench.database.transaction() as s:
        ended = update(FlowRun).where(FlowRun.state == "cancelled")
        await s.execute(ended.values(wake_at=utc_now() - timedelta(seconds=1)))
    assert await sweep(bench) == (0, 5)
    assert [run.id for run in await bench.runs()] == [kept]


async def test_phones_and_texts_are_not_logged(bench: FlowBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    await bench.put(*QUESTION, start=on_words("hi"))
    await bench.start_pool()
    await bench.reply("hi secret words")
    await bench.run_in("waiting_for_reply")
    await bench.reply("more secret words", "wamid.2")
    await bench.run_in("done")
    await bench.sent(1)
    for hidden in ("secret", PHONE, PHONE[1:]):
        assert hidden not in caplog.text
