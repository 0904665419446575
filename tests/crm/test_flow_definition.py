"""Which definitions of flows are taken, what is said of the others, and what conditions answer."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.crm.flows.conditions import Condition, Known
from crmd.crm.flows.definition import MAX_BYTES, MAX_STEPS, check_flow
from crmd.errors import InvalidPayload

SEND = {"id": "hello", "type": "send", "text": "Hello {{ name }}"}
END = {"id": "bye", "type": "end"}


def flow(*steps: Any, **fields: Any) -> dict[str, Any]:
    return {"name": "welcome", "steps": list(steps), **fields}


def mistakes(data: Any, name: str | None = None) -> list[tuple[Any, Any, str]]:
    with pytest.raises(InvalidPayload) as caught:
        check_flow(data, name)
    return [(one["step"], one["field"], str(one["reason"])) for one in caught.value.errors]


def the_mistake(step: dict[str, Any]) -> tuple[Any, str]:
    """Field and reason of the only mistake of a step that stands among good ones."""
    fork = {
        "id": "fork",
        "type": "branch",
        "cases": [{"if": "reply", "exists": True, "next": "it"}],
        "else": "bye",
    }
    [(named, field, reason)] = mistakes(flow(fork, {"id": "it", **step}, END))
    assert named == "it"
    return field, reason


ASK = {"id": "ask", "type": "wait_for_reply", "timeout": "1d", "on_timeout": "bye"}

GOOD: dict[str, dict[str, Any]] = {
    "text": {"type": "send", "text": "Hi {{ name|default('you') }}"},
    "template": {
        "type": "send",
        "template": {
            "name": "order",
            "language": "en_US",
            "components": [{"type": "body", "parameters": [{"type": "text", "text": "{{ order }}"}]}],
        },
    },
    "buttons": {
        "type": "send",
        "interactive": {
            "type": "button",
            "body": {"text": "Well?"},
            "action": {"buttons": [{"reply": {"id": "y", "title": "Yes"}}]},
        },
    },
    "wait": {"type": "wait", "duration": "2h"},
    "wait for reply": {"type": "wait_for_reply", "timeout": "1d", "on_timeout": "bye", "save_as": "answer"},
    "branch": {
        "type": "branch",
        "cases": [
            {"if": "reply", "contains": "yes", "next": "bye"},
            {"if": "attribute.age", "gt": 17, "and": [{"if": "tag.vip", "exists": True}], "next": "bye"},
            {"if": "saved.city", "in": ["Bonn", "Köln"], "next": "bye"},
        ],
        "else": "bye",
    },
    "set attribute": {"type": "set_attribute", "name": "plan", "value": "{{ reply }}"},
    "take attribute away": {"type": "set_attribute", "name": "plan", "value": None},
    "add tag": {"type": "add_tag", "tag": "vip"},
    "remove tag": {"type": "remove_tag", "tag": "vip"},
    "webhook": {"type": "webhook", "url": "https://example.com/hook", "event": "a.b", "data": {"x": "{{ name }}"}},
    "endpoint": {"type": "webhook", "endpoint": "shop"},
    "email": {"type": "email", "subject": "Hi {{ name }}", "text": "…"},
    "ai reply": {"type": "ai_reply", "instructions": "You are the shop of {{ city }}."},
}


@pytest.mark.parametrize("step", GOOD.values(), ids=list(GOOD))
def test_each_type_of_step_is_taken(step: dict[str, Any]) -> None:
    assert check_flow(flow(SEND, {"id": "it", **step}, END)).find("it").type == step["type"]


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no type": ({"text": "x"}, "type", "is missing"),
    "unknown type": ({"type": "sent", "text": "x"}, "type", 'no step type "sent"; there are send, wait'),
    "unknown field": ({"type": "end", "nxt": "bye"}, "nxt", "no such field here"),
    "unknown target": ({"type": "send", "text": "x", "next": "by"}, "next", 'there is no step "by"'),
    "no content": ({"type": "send"}, "", "needs exactly one of text, template"),
    "two contents": ({"type": "send", "text": "x", "image": {"id": "1"}}, "", "it has text and image"),
    "blank text": ({"type": "send", "text": " "}, "text.body", "must not be blank"),
    "long text": ({"type": "send", "text": "x" * 4097}, "text.body", "at most 4096"),
    "bad template": ({"type": "send", "text": "Hi {{ name"}, "text", "line 1"),
    "forbidden in a template": ({"type": "send", "text": "{{ x.__class__ }}"}, "text", "__class__ cannot be used"),
    "unknown filter": ({"type": "set_attribute", "name": "a", "value": "{{ x|open }}"}, "value", "no filter open"),
    "no duration": ({"type": "wait"}, "duration", "is missing"),
    "bare number": ({"type": "wait", "duration": "5"}, "duration", "has no unit"),
    "no time at all": ({"type": "wait", "duration": "0s"}, "duration", "is not between 100ms and 365d"),
    "too long a wait": ({"type": "wait", "duration": "366d"}, "duration", "is not between 100ms and 365d"),
    "endless wait": ({"type": "wait", "duration": "none"}, "duration", "is not between"),
    "no timeout": ({"type": "wait_for_reply", "on_timeout": "bye"}, "timeout", "is missing"),
    "no step after the timeout": ({"type": "wait_for_reply", "timeout": "1d"}, "on_timeout", "is missing"),
    "unknown step after the timeout": (
        {"type": "wait_for_reply", "timeout": "1d", "on_timeout": "x"},
        "on_timeout",
        'there is no step "x"',
    ),
    "unknown step after the reply": (
        {"type": "wait_for_reply", "timeout": "1d", "on_timeout": "bye", "on_reply": "x"},
        "on_reply",
        'there is no step "x"',
    ),
    "bad variable": (
        {"type": "wait_for_reply", "timeout": "1d", "on_timeout": "bye", "save_as": "an answer"},
        "save_as",
        "pattern",
    ),
    "taken variable": (
        {"type": "wait_for_reply", "timeout": "1d", "on_timeout": "bye", "save_as": "reply"},
        "save_as",
        "reply is taken",
    ),
    "taken attribute": ({"type": "set_attribute", "name": "phone", "value": "1"}, "name", "phone is taken"),
    "no value": ({"type": "set_attribute", "name": "plan"}, "value", "is missing"),
    "blank tag": ({"type": "add_tag", "tag": " "}, "tag", "1 to 64 characters"),
    "no target": ({"type": "webhook"}, "", "needs exactly one of url and endpoint"),
    "two targets": ({"type": "webhook", "url": "https://a.de/", "endpoint": "b"}, "", "exactly one of"),
    "bad url": ({"type": "webhook", "url": "ftp://a.de/"}, "", "url: "),
    "bad event": ({"type": "webhook", "url": "https://a.de/", "event": "a b"}, "", "event: "),
    "mail without text": ({"type": "email", "subject": "x"}, "", "needs text, html or both"),
    "no instructions": ({"type": "ai_reply"}, "instructions", "is missing"),
}


@pytest.mark.parametrize(("step", "field", "reason"), MISTAKES.values(), ids=list(MISTAKES))
def test_each_mistake_is_named_with_its_step(step: dict[str, Any], field: str, reason: str) -> None:
    found_field, found_reason = the_mistake(step)
    assert found_field == field
    assert reason in found_reason


BRANCHES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no else": ({"cases": [{"if": "reply", "equals": "x", "next": "bye"}]}, "else", "is missing"),
    "no cases": ({"cases": [], "else": "bye"}, "cases", "at least 1"),
    "unknown else": (
        {"cases": [{"if": "reply", "equals": "x", "next": "bye"}], "else": "x"},
        "else",
        'there is no step "x"',
    ),
    "unknown way": (
        {"cases": [{"if": "reply", "equals": "x", "next": "x"}], "else": "bye"},
        "cases.0.next",
        'there is no step "x"',
    ),
    "no subject": ({"cases": [{"equals": "x", "next": "bye"}], "else": "bye"}, "cases.0.if", "is missing"),
    "unknown subject": (
        {"cases": [{"if": "plan", "equals": "x", "next": "bye"}], "else": "bye"},
        "cases.0",
        '"plan" cannot be looked at; write reply',
    ),
    "no comparison": (
        {"cases": [{"if": "reply", "next": "bye"}], "else": "bye"},
        "cases.0",
        "it has none",
    ),
    "two comparisons": (
        {"cases": [{"if": "reply", "equals": "a", "contains": "b", "next": "bye"}], "else": "bye"},
        "cases.0",
        "it has equals and contains",
    ),
    "tag that equals": (
        {"cases": [{"if": "tag.vip", "equals": "x", "next": "bye"}], "else": "bye"},
        "cases.0",
        "a contact has a tag or not",
    ),
    "number that is none": (
        {"cases": [{"if": "attribute.age", "gt": "old", "next": "bye"}], "else": "bye"},
        "cases.0.gt",
        "valid number",
    ),
    "mistake in a further condition": (
        {
            "cases": [{"if": "reply", "equals": "a", "and": [{"if": "x", "equals": "a"}], "next": "bye"}],
            "else": "bye",
        },
        "cases.0.and.0",
        '"x" cannot be looked at',
    ),
}


@pytest.mark.parametrize(("branch", "field", "reason"), BRANCHES.values(), ids=list(BRANCHES))
def test_each_mistake_of_a_branch_is_named(branch: dict[str, Any], field: str, reason: str) -> None:
    found_field, found_reason = the_mistake({"type": "branch", **branch})
    assert found_field == field
    assert reason in found_reason


def test_all_mistakes_are_named_at_once() -> None:
    steps = (
        {"id": "hello", "type": "send", "text": "Hi {{ name"},
        {"type": "send", "text": "x"},
        {"id": "ask", "type": "wait_for_reply", "timeout": "soon", "on_timeout": "nowhere"},
        {"id": "far", "type": "end"},
        {"id": "lost", "type": "send", "next": "far"},
    )
    found = {(step, field) for step, field, _ in mistakes(flow(*steps, start={"on": "never"}))}
    assert found == {
        ("hello", "text"),
        ("#2", "id"),
        ("ask", "timeout"),
        ("ask", "on_timeout"),
        ("lost", ""),
        (None, "start.on"),
    } | {(step, "") for step in ("ask", "far")}  # nothing leads there, as the second step has no id


def test_two_steps_of_one_id_are_told() -> None:
    assert mistakes(flow(SEND, END, SEND)) == [("hello", "id", "is the id of steps 1 and 3")]


@pytest.mark.parametrize("steps", [[], [SEND] * (MAX_STEPS + 1), "none", None])
def test_a_flow_has_some_steps_and_not_too_many(steps: Any) -> None:
    assert "steps" in {field for _, field, _ in mistakes({"name": "x", "steps": steps})}


def test_as_many_steps_as_allowed_are_taken() -> None:
    steps = [{"id": f"s{number}", "type": "add_tag", "tag": "x"} for number in range(MAX_STEPS)]
    assert len(check_flow(flow(*steps)).steps) == MAX_STEPS


def test_a_step_that_nothing_leads_to_is_told() -> None:
    steps = ({**SEND, "next": "bye"}, {"id": "lost", "type": "send", "text": "x"}, END)
    assert mistakes(flow(*steps)) == [("lost", "", "no step leads here")]


def test_a_loop_needs_a_wait() -> None:
    again = {"id": "again", "type": "add_tag", "tag": "x", "next": "hello"}
    [(step, field, reason)] = mistakes(flow(SEND, again))
    assert (step, field) == ("hello", "")
    assert "the loop hello → again → hello never waits" in reason


def test_a_step_that_leads_to_itself_is_a_loop() -> None:
    assert "hello → hello" in mistakes(flow({**SEND, "next": "hello"}))[0][2]


@pytest.mark.parametrize(
    "waiting",
    [
        {"id": "w", "type": "wait", "duration": "1d", "next": "hello"},
        {"id": "w", "type": "wait_for_reply", "timeout": "1d", "on_reply": "hello", "on_timeout": "hello"},
    ],
)
def test_a_loop_with_a_wait_is_taken(waiting: dict[str, Any]) -> None:
    check_flow(flow(SEND, waiting))


def test_a_loop_is_found_beside_ways_out_of_it() -> None:
    branch = {
        "id": "b",
        "type": "branch",
        "cases": [{"if": "reply", "equals": "x", "next": "bye"}],
        "else": "hello",
    }
    assert [step for step, _, _ in mistakes(flow(SEND, branch, END))] == ["hello"]


def test_the_name_is_that_under_which_it_is_put() -> None:
    assert check_flow(flow(SEND), "welcome").name == "welcome"
    assert check_flow({"steps": [SEND]}, "welcome").name == "welcome"
    assert mistakes(flow(SEND), "other") == [(None, "name", 'is "welcome", and the flow is put as "other"')]


def test_a_definition_has_a_largest_size() -> None:
    steps = [{"id": f"s{number}", "type": "send", "text": "x" * 4000} for number in range(40)]
    with pytest.raises(InvalidPayload, match=f"at most {MAX_BYTES:,} go"):
        check_flow(flow(*steps))


@pytest.mark.parametrize("data", [None, [], "flow", 1])
def test_what_is_no_definition_at_all_is_refused(data: Any) -> None:
    assert mistakes(data)


def test_what_is_nested_without_end_is_refused() -> None:
    nested: Any = "x"
    for _ in range(5_000):
        nested = [nested]
    with pytest.raises(InvalidPayload):
        check_flow(flow({"id": "w", "type": "webhook", "endpoint": "a", "data": nested}))


@pytest.mark.parametrize(
    ("start", "field"),
    [
        ({"on": "manual", "words": ["hi"]}, "start"),
        ({"on": "message", "words": []}, "start.words"),
        ({"on": "message", "words": [" "]}, "start.words.0"),
        ({"on": "message", "cooldown": "5"}, "start.cooldown"),
    ],
)
def test_mistakes_of_the_start_are_named(start: dict[str, Any], field: str) -> None:
    assert [(step, found) for step, found, _ in mistakes(flow(SEND, start=start))] == [(None, field)]


def test_what_follows_a_step_is_the_one_below_unless_it_says_otherwise() -> None:
    found = check_flow(flow(SEND, {**ASK, "on_reply": "bye"}, END))
    hello = found.find("hello")
    assert hello.type == "send"
    assert found.after(hello) == "ask"
    assert found.below(found.find("bye")) is None


# Conditions


KNOWN = Known(
    contact={"phone": "+491701234567", "name": "Ada", "email": None},
    attributes={
        "plan": "Gold",
        "age": 36,
        "size": "7.5",
        "active": True,
        "none": None,
        "empty": "",
        "languages": ["de", "en"],
        "a.b": "dotted",
        "customer": "98765432109876543210",
    },
    tags={"vip"},
    reply=" Yes, please ",
    saved={"city": "Köln"},
)

CASES: list[tuple[dict[str, Any], bool]] = [
    ({"if": "reply", "equals": "yes, PLEASE"}, True),
    ({"if": "reply", "equals": "yes"}, False),
    ({"if": "reply", "contains": "YES"}, True),
    ({"if": "reply", "contains": "no"}, False),
    ({"if": "name", "equals": "ada"}, True),
    ({"if": "phone", "contains": "+49"}, True),
    ({"if": "email", "exists": True}, False),
    ({"if": "email", "exists": False}, True),
    ({"if": "saved.city", "in": ["bonn", "köln"]}, True),
    ({"if": "saved.city", "in": ["bonn"]}, False),
    ({"if": "saved.nothing", "exists": False}, True),
    ({"if": "attribute.plan", "equals": "gold"}, True),
    ({"if": "attribute.plan", "not_equals": "gold"}, False),
    ({"if": "attribute.nothing", "not_equals": "gold"}, True),
    ({"if": "attribute.nothing", "equals": ""}, False),
    ({"if": "attribute.nothing", "contains": "x"}, False),
    ({"if": "attribute.a.b", "equals": "dotted"}, True),
    ({"if": "attribute.empty", "exists": True}, False),
    ({"if": "attribute.none", "exists": True}, False),
    ({"if": "attribute.active", "exists": True}, True),
    ({"if": "attribute.active", "equals": True}, True),
    ({"if": "attribute.active", "equals": "true"}, True),
    ({"if": "attribute.active", "gt": 0}, False),
    ({"if": "attribute.age", "equals": 36}, True),
    ({"if": "attribute.age", "equals": "36"}, True),
    ({"if": "attribute.age", "equals": "36.0"}, True),
    ({"if": "attribute.age", "gt": 35}, True),
    ({"if": "attribute.age", "gt": 36}, False),
    ({"if": "attribute.age", "lt": 37}, True),
    ({"if": "attribute.age", "lt": 0}, False),
    ({"if": "attribute.size", "gt": 7}, True),
    ({"if": "attribute.size", "lt": 7.5}, False),
    ({"if": "attribute.plan", "gt": 0}, False),
    ({"if": "attribute.plan", "lt": 0}, False),
    ({"if": "attribute.nothing", "lt": 1}, False),
    ({"if": "attribute.customer", "equals": "98765432109876543211"}, False),
    ({"if": "attribute.languages", "contains": "EN"}, True),
    ({"if": "attribute.languages", "contains": "e"}, False),
    ({"if": "tag.vip", "exists": True}, True),
    ({"if": "tag.vip", "exists": False}, False),
    ({"if": "tag.VIP", "exists": True}, False),
]


@pytest.mark.parametrize(("condition", "answer"), CASES, ids=lambda value: str(value))
def test_conditions(condition: dict[str, Any], answer: bool) -> None:
    assert Condition.model_validate(condition).holds(KNOWN) is answer


def test_without_a_reply_nothing_is_said_of_it() -> None:
    silent = Known({}, {}, (), None, {})
    assert not Condition.model_validate({"if": "reply", "contains": "a"}).holds(silent)
    assert Condition.model_validate({"if": "reply", "exists": False}).holds(silent)
