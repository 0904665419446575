"""The page of queue `flow` has each type of step with its fields, and its definitions are taken."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from crmd.crm.flows.conditions import OPERATORS, Condition
from crmd.crm.flows.definition import Start, check_flow
from crmd.crm.flows.steps import STEP_TYPES
from tests.support.pages import PROJECT, Page, table

PAGE = Page(PROJECT / "docs" / "queues" / "flow.md")
EXAMPLE = PROJECT / "examples" / "feedback-flow.toml"


def fields(rows: list[list[str]]) -> set[str]:
    return {name.strip("` ") for row in rows for name in row[0].split(",")}


@pytest.mark.parametrize("name", STEP_TYPES)
def test_each_step_is_there_with_its_fields(name: str) -> None:
    model = STEP_TYPES[name]
    names = {field.alias or plain for plain, field in model.model_fields.items()} - {"id", "type"}
    shown = fields(table(PAGE.section(f"`{name}`")))
    assert shown == (names | set(OPERATORS) if name == "branch" else names)


def test_the_comparisons_and_what_starts_a_flow_are_there() -> None:
    assert {field.alias or name for name, field in Condition.model_fields.items()} == {"if", *OPERATORS}
    assert fields(table(PAGE.section("What starts a flow"))) == set(Start.model_fields)


def test_the_worked_example_is_taken() -> None:
    [definition] = [json.loads(block) for block in PAGE.blocks("json")]
    assert check_flow(definition).name == "feedback"


def test_the_example_file_uses_each_type_of_step() -> None:
    definition: dict[str, Any] = tomllib.loads(EXAMPLE.read_text())
    assert {step.type for step in check_flow(definition).steps} == set(STEP_TYPES)
