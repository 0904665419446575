"""Each queue has its page, which says what its jobs' models and handlers say; that of `flow` has every step."""

from __future__ import annotations

import inspect
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_type_hints

import click
import pytest
from pydantic import BaseModel

import crmd
from crmd.cli.kit.payload import read_payload
from crmd.cli.main import root
from crmd.config.shipped import SHIPPED_QUEUES
from crmd.crm.catalog import shipped_catalog
from crmd.crm.flows.conditions import OPERATORS, Condition
from crmd.crm.flows.definition import Start, check_flow
from crmd.crm.flows.steps import STEP_TYPES
from docs.payloads import payload_markdown
from tests.support.pages import PROJECT, Page, code_blocks, section, shell_lines, table

PAGES = {queue: Page(PROJECT / "docs" / "queues" / f"{queue}.md") for queue in SHIPPED_QUEUES}
SHIPPED = [(queue, name) for queue in SHIPPED_QUEUES for name in shipped_catalog().names(queue)]
JOBS_PATH = re.compile(r"/api/v1/queues/([a-z]+)/jobs(?:\?\S*)?$")
PARTS = ["Payload", "Example", "Result", "Errors"]

Added = tuple[str, str, dict[str, Any]]


def of_job(queue: str, name: str, part: str | None = None) -> str:
    """The section of one job, or a part of it."""
    text = section(PAGES[queue].text, f"`{name}`", PAGES[queue].name)
    return text if part is None else section(text, part, f"the section of {name}")


def model_of(queue: str, name: str) -> type[BaseModel]:
    model = shipped_catalog().get(queue, name).payload
    assert model is not None
    return model


# The pages


@pytest.mark.parametrize("queue", SHIPPED_QUEUES)
def test_each_queue_has_a_page(queue: str) -> None:
    assert PAGES[queue].text.startswith(f"# Queue `{queue}`\n")


@pytest.mark.parametrize("name", ["docs/index.md", "docs/reference/queues.md", "docs/reference/jobs.md"])
def test_the_pages_are_linked(name: str) -> None:
    source = Page(PROJECT / name)
    linked = {(source.path.parent / target.partition("#")[0]).resolve() for target in source.links()}
    assert {page.path for page in PAGES.values()} <= linked


def test_the_reference_has_each_job_with_its_queue() -> None:
    rows = table(Page(PROJECT / "docs/reference/jobs.md").text)
    assert [(re.findall(r"`(\w+)`", row[1])[0], row[0].strip("`")) for row in rows] == SHIPPED


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_each_job_has_its_section_with_all_parts(queue: str, name: str) -> None:
    headings = re.findall(r"^### (.*)$", of_job(queue, name), re.MULTILINE)
    assert [heading for heading in headings if heading in PARTS] == PARTS


# Payloads


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_the_table_has_the_fields_of_the_payload(queue: str, name: str) -> None:
    model, text = model_of(queue, name), of_job(queue, name, "Payload")
    assert f"<!-- payload:{name} -->\n" in text
    first, *_ = text.partition(f"<!-- payload:{name} -->\n")[2].partition("<!-- /payload -->")[0].split("\n\n")
    shown = {row[0].strip("`"): row for row in table(first)}
    assert list(shown) == [field.alias or plain for plain, field in model.model_fields.items()]
    required = {field.alias or plain for plain, field in model.model_fields.items() if field.is_required()}
    assert {field for field, row in shown.items() if row[2] == "required"} == required
    assert all(row[1] and row[3] for row in shown.values())


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_each_model_inside_the_payload_has_its_table(queue: str, name: str) -> None:
    text = of_job(queue, name, "Payload")
    tables = {tuple(row[0].strip("`") for row in table(part)) for part in text.split("\n\n")}
    for model in models_in(model_of(queue, name)):
        assert tuple(field.alias or plain for plain, field in model.model_fields.items()) in tables, model


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_each_field_is_described(queue: str, name: str) -> None:
    for model in models_in(model_of(queue, name)):
        assert [field for field, info in model.model_fields.items() if not info.description] == [], model


def models_in(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and all models inside it, each once."""
    found: dict[type[BaseModel], None] = {}

    def visit(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found[kind] = None
            for info in kind.model_fields.values():
                visit(info.annotation)
        for inner in get_args(kind):
            visit(inner)

    visit(model)
    yield from found


def test_a_table_says_types_defaults_and_places() -> None:
    """Guards the generator itself, on a payload that has a bit of all."""
    text = payload_markdown(model_of("campaign", "run_campaign").model_json_schema())
    assert "| `name` | text, at most 200 characters | required |" in text
    assert "| `message_priority` | whole number, 0 to 10 | `0` |" in text
    assert "| `max_failure_share` | number, 0 to below 1 | required |" in text
    assert "| `recipients` | list of objects, at most 1,000 |  |" in text
    assert "\n`audience.recipients[]`: " in text
    message = payload_markdown(model_of("message", "send_message").model_json_schema())
    assert "\n`interactive` of the type `button`: " in message
    assert "\n`interactive.action` of the type `list`: " in message


# Examples


def by_command_line(text: str, _: pytest.MonkeyPatch) -> Iterator[Added]:
    enqueue = root().commands["enqueue"]
    for block in code_blocks(text, "sh"):
        for words in shell_lines(block):
            if words[:2] == ["crmd", "enqueue"]:
                with enqueue.make_context("enqueue", words[2:], parent=click.Context(root())) as context:
                    given = context.params
                yield given["queue"], given["job"], read_payload(given["data"], given["pairs"])


def by_http(text: str, _: pytest.MonkeyPatch) -> Iterator[Added]:
    for block in code_blocks(text, "sh"):
        for words in shell_lines(block):
            queues = [found[1] for word in words if (found := JOBS_PATH.search(word))]
            if words[:1] == ["curl"] and queues:
                body = json.loads(words[words.index("--json") + 1])
                yield queues[0], body["job"], body.get("payload", {})


def by_python(text: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Added]:
    """Runs the blocks with a client that only takes down what it is to add."""
    added: list[Added] = []
    accepted = inspect.signature(crmd.AsyncClient.enqueue)

    class Taking:
        def __init__(self, url: str) -> None: ...

        def __enter__(self) -> Taking:
            return self

        def __exit__(self, *_: object) -> None: ...

        def enqueue(self, *args: Any, **options: Any) -> None:
            call = accepted.bind(self, *args, **options)
            added.append((call.arguments["queue"], call.arguments["job"], call.arguments["payload"]))

    monkeypatch.setattr(crmd, "Client", Taking)
    for block in code_blocks(text, "python"):
        exec(compile(block, "the page", "exec"), {})  # noqa: S102 - the page is our own
    yield from added


@pytest.mark.parametrize("ways", [by_command_line, by_http, by_python])
@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_each_way_has_a_valid_example(
    queue: str,
    name: str,
    ways: Callable[[str, pytest.MonkeyPatch], Iterator[Added]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = list(ways(of_job(queue, name, "Example"), monkeypatch))
    assert examples
    for example_queue, job, payload in examples:
        assert (example_queue, job) == (queue, name)
        shipped_catalog().get(queue, job).validate(payload)


@pytest.mark.parametrize("queue", SHIPPED_QUEUES)
@pytest.mark.parametrize("ways", [by_command_line, by_http])
def test_all_other_examples_of_a_page_are_valid(
    queue: str,
    ways: Callable[[str, pytest.MonkeyPatch], Iterator[Added]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for example_queue, job, payload in ways(PAGES[queue].text, monkeypatch):
        shipped_catalog().get(example_queue, job).validate(payload)


# Results and errors


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_the_result_names_each_member(queue: str, name: str) -> None:
    returned = get_type_hints(shipped_catalog().get(queue, name).function)["return"]
    [result] = [kind for kind in (get_args(returned) or [returned]) if hasattr(kind, "__required_keys__")]
    text = of_job(queue, name, "Result")
    if same := re.match(r"\s*As of `(\w+)`", text):
        text += of_job(queue, same[1], "Result")
    assert set(result.__annotations__) <= set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_the_errors_say_what_becomes_of_the_job(queue: str, name: str) -> None:
    rows = table(of_job(queue, name, "Errors"))
    assert rows
    assert all(all(cell for cell in row) for row in rows)


# Flows


PAGE = Page(PROJECT / "docs" / "queues" / "flow.md")
EXAMPLE = PROJECT / "examples" / "feedback-flow.toml"


def fields(rows: list[list[str]]) -> set[str]:
    return {name.strip("` ") for row in rows for name in row[0].split(",")}


@pytest.mark.parametrize("name", STEP_TYPES)
def test_each_step_is_there_with_its_fields(name: str) -> None:
    model = STEP_TYPES[name]
    names = {field.alias or plain for plain, field in model.model_fields.items()} - {"id", "type"}
    assert fields(table(PAGE.section(f"`{name}`"))) == (names | set(OPERATORS) if name == "branch" else names)


def test_the_comparisons_and_what_starts_a_flow_are_there() -> None:
    assert {field.alias or name for name, field in Condition.model_fields.items()} == {"if", *OPERATORS}
    assert fields(table(PAGE.section("What starts a flow"))) == set(Start.model_fields)


def test_the_worked_example_is_taken() -> None:
    [definition] = [json.loads(block) for block in PAGE.blocks("json")]
    assert check_flow(definition).name == "feedback"


def test_the_example_file_uses_each_type_of_step() -> None:
    definition: dict[str, Any] = tomllib.loads(EXAMPLE.read_text())
    assert {step.type for step in check_flow(definition).steps} == set(STEP_TYPES)
