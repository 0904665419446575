"""`run_flow`: steps in order, waits, effects once, ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from crmd.crm.contacts import repository as contacts
from crmd.crm.flows import jobs as flow_module
from crmd.crm.flows import repository as flows
from crmd.crm.flows.jobs import RunFlow, run_flow
from crmd.crm.flows.repository import Position
from crmd.engine.admin.views import State
from crmd.errors import Permanent
from tests.support.database import commit
from tests.support.engine_harness import kill
from tests.support.flows import ASK, BYE, HELLO, LATE, PHONE, REST, SECOND, THANKS, CutRun, FlowBench
from tests.support.wait import wait_until


async def delayed(bench: FlowBench) -> list[str]:
    """The keys of the continuations that wait for their time."""
    page = await bench.harness.inspector.jobs("flow", State.DELAYED, None, None, 50)
    return [view.key for view in page.jobs]


# Steps


async def test_a_whole_flow_from_start_to_end(bench: FlowBench) -> None:
    is_vip = {"if": "tag.vip", "exists": True}
    await bench.put(
        HELLO,
        {"id": "tag", "type": "add_tag", "tag": "vip"},
        {"id": "plan", "type": "set_attribute", "name": "plan", "value": "{{ offer }} plan"},
        {"id": "rest", "type": "wait", "duration": "100ms"},
        {"id": "question", "type": "send", "text": "{{ plan }}?"},
        ASK,
        {
            "id": "which",
            "type": "branch",
            "cases": [{"if": "saved.answer", "contains": "yes", "and": [is_vip], "next": "great"}],
            "else": "late",
        },
        {"id": "great", "type": "send", "text": "{{ answer }} it is"},
        {"id": "untag", "type": "remove_tag", "tag": "vip", "next": "bye"},
        LATE,
        BYE,
    )
    await bench.start_pool()
    assert (await bench.finished(await bench.start(offer="gold"))).result["state"] == "waiting"
    run = await bench.run_in("waiting_for_reply")
    assert await bench.sent(2) == ["Hello you", "gold plan?"]
    contact = await bench.contact()
    assert (contact.tags, contact.attributes) == (("vip",), {"plan": "gold plan"})
    await bench.reply("Yes please")
    run = await bench.run_in("done")
    assert (await bench.sent(3))[2] == "Yes please it is"
    assert (run.step, run.count, run.data["saved"]) == ("bye", 11, {"offer": "gold", "answer": "Yes please"})
    assert (await bench.contact()).tags == ()
    assert {message["to"] for message in bench.server.messages} == {PHONE[1:]}


async def test_a_template_is_sent_with_its_variables(bench: FlowBench) -> None:
    parameters = [{"type": "text", "text": "{{ order }}"}]
    template = {"name": "order", "language": "en_US", "components": [{"type": "body", "parameters": parameters}]}
    await bench.put({"id": "a", "type": "send", "template": template})
    await bench.start_pool("flow", "message")
    await bench.finished(await bench.start(order="A 17"))
    await wait_until(lambda: bench.server.messages)
    sent = bench.server.messages[0]["template"]
    assert sent["language"] == {"code": "en_US"}
    assert sent["components"][0]["parameters"] == [{"type": "text", "text": "A 17"}]


async def test_webhook_email_and_ai_steps_add_their_jobs(bench: FlowBench) -> None:
    await bench.put(
        {"id": "hook", "type": "webhook", "url": "https://example.com/hook", "event": "flow.greeted"},
        {
            "id": "own",
            "type": "webhook",
            "endpoint": "shop",
            "data": {"city": ["{{ city }}"], "n": 1},
        },
        {
            "id": "mail",
            "type": "email",
            "to": "Ada <ada@example.com>",
            "subject": "Hi {{ city }}",
            "html": "<b>{{ city }}</b>",
        },
        {"id": "ai", "type": "ai_reply", "instructions": "You sell in {{ city }}"},
    )
    await bench.start_pool("flow")
    view = await bench.finished(await bench.start(city="Bonn & Köln"))
    run = view.result["run"]
    contact = {"phone": PHONE, "name": None, "email": None}
    assert await bench.payload("webhook", f"flow-{run}-0") == {
        "url": "https://example.com/hook",
        "event": "flow.greeted",
        "data": {"flow": "welcome", "run": run, "step": "hook", "contact": contact},
    }
    own = {"endpoint": "shop", "event": "flow.step", "data": {"city": ["Bonn & Köln"], "n": 1}}
    assert await bench.payload("webhook", f"flow-{run}-1") == own
    assert await bench.payload("email", f"flow-{run}-2") == {
        "to": ["Ada <ada@example.com>"],
        "subject": "Hi Bonn & Köln",
        "html": "<b>Bonn &amp; Köln</b>",
    }
    assert await bench.payload("ai", f"flow-{run}-3") == {
        "system": "You sell in Bonn & Köln",
        "prompt": "(no text)",
        "reply_to": {"to": PHONE, "once": f"flow:{run}:3"},
    }


async def test_a_mail_goes_to_the_contacts_own_address(bench: FlowBench) -> None:
    await bench.put({"id": "mail", "type": "email", "subject": "Hi", "text": "x"})
    await commit(bench.database, contacts.upsert, [contacts.ContactRow(phone=PHONE, email="ada@example.com")])
    await bench.start_pool("flow")
    view = await bench.finished(await bench.start())
    assert (await bench.payload("email", f"flow-{view.result['run']}-0"))["to"] == ["ada@example.com"]


# Waits


async def test_a_wait_holds_no_slot_and_ends_by_a_delayed_job(bench: FlowBench) -> None:
    await bench.put(HELLO, REST, SECOND)
    await bench.start_pool("flow")
    view = await bench.finished(await bench.start())
    run = await bench.run_in("waiting")
    assert view.result == {"run": run.id, "state": "waiting", "step": "second", "count": 2}
    assert 3500 < (run.wake_at - run.updated_at).total_seconds() <= 3600
    assert await delayed(bench) == [f"flow-{run.id}-2"]
    await bench.harness.control.promote("flow", f"flow-{run.id}-2")
    await bench.run_in("done")


async def test_the_time_for_a_reply_runs_out(bench: FlowBench) -> None:
    await bench.put(HELLO, {**ASK, "timeout": "100ms"}, THANKS, LATE, BYE)
    await bench.start_pool()
    await bench.start()
    run = await bench.run_in("done")
    assert sorted(await bench.sent(2)) == ["Hello you", "Too late"]
    assert run.data["reply"] is None


async def test_a_wait_at_the_end_is_none(bench: FlowBench) -> None:
    await bench.put(HELLO, REST)
    await bench.start_pool("flow")
    assert (await bench.finished(await bench.start())).result["state"] == "done"


# Once


async def test_one_key_starts_one_run(bench: FlowBench) -> None:
    await bench.put(HELLO)
    await bench.start_pool("flow")
    for _ in range(2):
        await bench.finished(await bench.start(key="order-17"))
    await bench.finished(await bench.start(key="order-18"))
    assert len(await bench.runs()) == 2


async def test_a_repeated_start_does_not_end_a_wait(bench: FlowBench) -> None:
    await bench.put(HELLO, REST, SECOND)
    await bench.start_pool("flow")
    for _ in range(2):
        view = await bench.finished(await bench.start(key="order-17"))
        assert (view.result["state"], view.result["count"]) == ("waiting", 2)
    [run] = await bench.runs()
    assert await delayed(bench) == [f"flow-{run.id}-2"]


async def test_a_repeated_continuation_does_nothing(bench: FlowBench) -> None:
    run = await bench.waiting_run(
        HELLO, REST, SECOND, {**REST, "id": "rest2"}, {**SECOND, "id": "third"}, queues=["flow", "message"]
    )
    await bench.harness.control.promote("flow", f"flow-{run.id}-2")
    await wait_until(lambda: bench.is_at(4))
    for count in (0, 1, 2, 3, 17):
        view = await bench.finished(await bench.add({"run": run.id, "count": count}))
        assert (view.result["state"], view.result["count"]) == ("waiting", 4)
    assert len(await bench.sent(2)) == 2
    assert await delayed(bench) == [f"flow-{run.id}-4"]
    await bench.harness.control.promote("flow", f"flow-{run.id}-4")
    await bench.run_in("done")
    view = await bench.finished(await bench.add({"run": run.id, "count": 4}))
    assert view.result["state"] == "done"
    assert len(await bench.sent(3)) == 3


async def test_a_continuation_that_was_lost_is_added_again_by_a_repeat(bench: FlowBench) -> None:
    run = await bench.waiting_run(REST, SECOND, queues=["flow"])
    await bench.harness.control.cancel("flow", f"flow-{run.id}-1")
    assert await delayed(bench) == []
    await bench.finished(await bench.add({"run": run.id, "count": 0}))
    assert await delayed(bench) == [f"flow-{run.id}-1"]


@pytest.mark.parametrize("after_the_job", [False, True])
async def test_a_cancelled_step_sends_once_when_it_is_taken_again(bench: FlowBench, after_the_job: bool) -> None:
    await bench.put(HELLO, SECOND)
    run_id = await bench.make_run()
    with pytest.raises(asyncio.CancelledError):
        await run_flow(bench.context(CutRun(bench.harness.control, after_the_job)), RunFlow(run=run_id, count=0))
    assert (await bench.runs())[0].count == 0
    await bench.start_pool()
    await bench.finished(await bench.add({"run": run_id, "count": 0}))
    assert sorted(await bench.sent(2)) == ["Hello you", "second"]
    assert (await bench.runs())[0].state == "done"


async def test_a_daemon_that_dies_between_effect_and_save_sends_once(bench: FlowBench) -> None:
    await bench.put(HELLO, SECOND)
    run_id = await bench.make_run()
    first = await bench.start_pool("flow")
    async with bench.database.transaction():  # nobody can save meanwhile
        await bench.add({"run": run_id, "count": 0}, key="it")
        await wait_until(lambda: bench.has_job("message", f"flow-{run_id}-0"))
        await kill(first)
    assert (await bench.runs())[0].count == 0
    messages = await bench.start_pool("message")
    assert await bench.sent(1) == ["Hello you"]
    await wait_until(lambda: bench.finished_job("message", f"flow-{run_id}-0"))
    await messages.stop(1.0)
    await bench.start_pool()
    # The dead daemon's lease has not run out: what its job would do is done by another one.
    await bench.finished(await bench.add({"run": run_id, "count": 0}))
    await bench.run_in("done")
    assert sorted(await bench.sent(2)) == ["Hello you", "second"]
    await wait_until(lambda: bench.finished_job("message", f"flow-{run_id}-1"))
    assert len(bench.server.messages) == 2


async def test_what_is_under_way_goes_on_from_where_it_is(bench: FlowBench) -> None:
    await bench.put(HELLO, SECOND)
    run_id = await bench.make_run()
    async with bench.database.transaction() as s:  # as if its job had died after the first step
        step = flows.Step(flows.RunState.RUNNING, "second", {"saved": {}})
        assert await flows.save(s, Position(run_id, 0), step)
    await bench.start_pool()
    await bench.finished(await bench.add({"run": run_id, "count": 0}))
    assert await bench.sent(1) == ["second"]


async def test_a_changed_definition_changes_no_run_under_way(bench: FlowBench) -> None:
    run = await bench.waiting_run(REST, SECOND)
    await bench.put({**SECOND, "id": "other", "text": "changed"})
    await bench.harness.control.promote("flow", f"flow-{run.id}-1")
    assert await bench.sent(1) == ["second"]


# Ends


async def test_an_opted_out_contact_ends_the_run(bench: FlowBench) -> None:
    run = await bench.waiting_run(REST, SECOND)
    await bench.opt_out()
    await bench.harness.control.promote("flow", f"flow-{run.id}-1")
    run = await bench.run_in("cancelled")
    assert run.error == "the contact opted out"
    assert bench.server.messages == []


async def test_a_cancelled_run_goes_no_further(bench: FlowBench) -> None:
    run = await bench.waiting_run(REST, SECOND)
    assert await commit(bench.database, flows.cancel, run.id, "by hand")
    await bench.harness.control.promote("flow", f"flow-{run.id}-1")
    assert (await bench.finished(f"flow-{run.id}-1")).result["state"] == "cancelled"
    assert bench.server.messages == []


async def test_a_run_that_was_deleted_is_gone(bench: FlowBench) -> None:
    await bench.start_pool("flow")
    view = await bench.finished(await bench.add({"run": 17, "count": 3}))
    assert view.result == {"run": 17, "state": "gone", "step": None, "count": 0}


UNTAKEABLE: dict[str, tuple[dict[str, Any], str]] = {
    "unheard": ({**HELLO, "text": "{{ unheard }}"}, "text.body: the variable unheard is missing"),
    "gap": ({**HELLO, "text": "{{ gap }}"}, "text.body: must not be blank"),
    "long": ({**HELLO, "text": "{{ long }}{{ long }}"}, "text.body: "),
    "no-address": (
        {"id": "hello", "type": "email", "subject": "x", "text": "y"},
        "to: the variable email is missing",
    ),
    "address": ({"id": "hello", "type": "email", "to": "{{ long }}", "subject": "x", "text": "y"}, "to.0: "),
    "large": (
        {"id": "hello", "type": "webhook", "url": "https://a.de/", "data": ["{{ long }}"] * 80},
        "bytes",
    ),
}


async def test_a_step_that_cannot_be_taken_fails_the_run(bench: FlowBench) -> None:
    await bench.start_pool("flow")
    for name, (step, reason) in UNTAKEABLE.items():
        await bench.put(step, SECOND, name=name)
        view = await bench.finished(await bench.start(flow=name, gap=" ", long="x" * 4000))
        run = await bench.run_in("failed")
        assert (view.state, view.attempt) == (State.FAILED, 1)
        assert f"run {run.id} failed at step hello" in (view.error or "")
        assert reason in (run.error or ""), name
        assert "xxxx" not in (run.error or "")


async def test_a_contact_with_too_many_attributes_fails_the_run(bench: FlowBench) -> None:
    await bench.put({"id": "a", "type": "set_attribute", "name": "one_more", "value": 1})
    await bench.change({f"a{number}": number for number in range(contacts.MAX_ATTRIBUTES)})
    await bench.start_pool("flow")
    await bench.start()
    run = await bench.run_in("failed")
    assert run.error == "step a: a contact has at most 200 attributes"
    assert run.count == 1


async def test_a_run_has_a_largest_number_of_steps(bench: FlowBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow_module, "MAX_RUN_STEPS", 7)
    await bench.put(
        {"id": "w", "type": "wait", "duration": "100ms", "next": "t"},
        {"id": "t", "type": "add_tag", "tag": "x", "next": "w"},
    )
    await bench.start_pool("flow")
    await bench.start()
    run = await bench.run_in("failed")
    assert run.count == 8
    assert "the run has made 7 steps" in (run.error or "")


async def test_a_definition_of_another_version_fails_the_run(bench: FlowBench) -> None:
    await bench.put(HELLO)
    run_id = await bench.make_run(definition={"name": "welcome", "steps": [{"id": "hello", "type": "dance"}]})
    await bench.start_pool("flow")
    await bench.add({"run": run_id, "count": 0})
    assert "another version of crmd" in ((await bench.run_in("failed")).error or "")


@pytest.mark.parametrize(
    ("name", "reason"), [("nothing", "there is no flow nothing"), ("off", "flow off is disabled")]
)
async def test_what_cannot_start_fails_at_once(bench: FlowBench, name: str, reason: str) -> None:
    await bench.put(HELLO, name="off", enabled=False)
    with pytest.raises(Permanent, match=reason):
        await run_flow(bench.context(), RunFlow(flow=name, contact=PHONE))
    assert await bench.runs() == []


async def test_an_attempt_that_times_out_is_taken_up_by_the_next(bench: FlowBench) -> None:
    await bench.put(HELLO, SECOND)
    registry = bench.harness.registry
    registry.put(replace(registry.queues["flow"], timeout_seconds=0.5, attempts=20))
    await bench.start_pool("flow")
    async with bench.database.transaction():  # nobody can save meanwhile
        key = await bench.start()
        await wait_until(lambda: bench.made_attempts(key, 2))
    view = await bench.finished(key)
    assert (view.state, view.result["state"]) == (State.COMPLETED, "done")
    await bench.start_pool("message")
    await wait_until(lambda: bench.finished_job("message", f"flow-{view.result['run']}-1"))
    assert sorted(await bench.sent(2)) == ["Hello you", "second"]
    assert len(await bench.runs()) == 1


async def test_a_start_waits_for_a_database_that_is_unavailable(bench: FlowBench) -> None:
    await bench.put(HELLO)
    await bench.database.stop()
    await bench.start_pool("flow")
    key = await bench.start()
    await wait_until(lambda: bench.job_is(key, State.DELAYED))
    await bench.database.start()
    await bench.harness.control.promote("flow", key)
    view = await bench.finished(key)
    assert (view.state, view.attempt) == (State.COMPLETED, 1)


# Payloads


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"flow": "welcome"},
        {"contact": PHONE},
        {"run": 1},
        {"count": 1},
        {"run": 0, "count": 0},
        {"run": 1, "count": -1},
        {"flow": "welcome", "contact": PHONE, "run": 1, "count": 0},
        {"flow": "welcome", "contact": PHONE, "count": 0},
        {"flow": "Welcome!", "contact": PHONE},
        {"flow": "welcome", "contact": "0170"},
        {"flow": "welcome", "contact": PHONE, "data": {"phone": "x"}},
        {"flow": "welcome", "contact": PHONE, "data": {"a b": "x"}},
        {"flow": "welcome", "contact": PHONE, "data": {f"a{number}": 1 for number in range(51)}},
        {"run": 1, "count": 0, "data": {"a": 1}},
    ],
)
def test_payloads_that_are_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        RunFlow.model_validate(payload)


async def test_a_number_without_a_plus_is_the_same_contact(bench: FlowBench) -> None:
    await bench.put(REST, SECOND)
    await bench.start_pool("flow")
    for phone in (PHONE, PHONE[1:]):
        await bench.finished(await bench.start(phone))
    assert len({run.contact_id for run in await bench.runs()}) == 1
