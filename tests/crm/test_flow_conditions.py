"""What the conditions of branches answer."""

from __future__ import annotations

from typing import Any

import pytest

from crmd.crm.flows.conditions import Condition, Known

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
