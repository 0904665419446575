"""The reference pages of jobs and error codes say what the code does."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crmd.cli.payload import read_payload
from crmd.handlers.message import MessageSent
from crmd.handlers.notification import Notified
from crmd.handlers.shipped import shipped_catalog
from crmd.handlers.webhook import Delivered
from docs.whatsapp_errors import page

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
JOBS = (REFERENCE / "jobs.md").read_text(encoding="utf-8")
SHIPPED = [("message", "send_message"), ("webhook", "deliver_webhook"), ("notification", "notify")]
RESULTS = {"send_message": MessageSent, "deliver_webhook": Delivered, "notify": Notified}

Example = tuple[str, str, dict[str, Any]]


def section(name: str) -> str:
    """The part of the page about one job."""
    return JOBS.split(f"## `{name}`\n", 1)[1].split("\n## ", 1)[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def cli_examples(text: str) -> Iterator[Example]:
    for words in map(shlex.split, blocks(text, "sh")):
        if words[:2] == ["crmd", "enqueue"]:
            queue, job, *rest = words[2:]
            data = rest[rest.index("-d") + 1] if "-d" in rest else None
            pairs = tuple(word for word in rest if re.match(r"\w+:?=", word))
            yield queue, job, read_payload(data, pairs)


def http_examples(text: str) -> Iterator[Example]:
    for words in map(shlex.split, blocks(text, "sh")):
        if words[0] == "curl":
            [queue] = (found[1] for word in words if (found := re.search(r"/api/v1/queues/(\w+)/jobs$", word)))
            body = json.loads(words[words.index("--json") + 1])
            yield queue, body["job"], body["payload"]


def python_examples(text: str) -> Iterator[Example]:
    for source in blocks(text, "python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "enqueue":
                queue, job, payload = map(ast.literal_eval, node.args)
                yield queue, job, payload


@pytest.mark.parametrize("ways", [cli_examples, http_examples, python_examples])
@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_each_job_has_a_valid_example_for_each_way(queue: str, name: str, ways: Any) -> None:
    examples = list(ways(section(name)))
    assert examples
    for example_queue, job, payload in examples:
        assert (example_queue, job) == (queue, name)
        shipped_catalog().get(queue, job).validate(payload)


@pytest.mark.parametrize(("queue", "name"), SHIPPED)
def test_the_fields_are_those_of_the_model(queue: str, name: str) -> None:
    model = shipped_catalog().get(queue, name).payload
    assert model is not None
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section(name), re.MULTILINE)
    # `type` may be left out of the payload, as the model fills it in
    required = [field for field, info in model.model_fields.items() if info.is_required() and field != "type"]
    assert sorted(field for field, _ in rows) == sorted(model.model_fields)
    assert sorted(field for field, kind in rows if kind.endswith("required")) == sorted(required)


@pytest.mark.parametrize("name", RESULTS)
def test_the_results_fields_are_named(name: str) -> None:
    result = re.search(r"\*\*Result:\*\*(.*?)(?:\n\n|\Z)", section(name), re.DOTALL)
    assert result is not None
    assert set(RESULTS[name].__annotations__) <= set(re.findall(r"`(\w+)`", result[1]))


def test_the_page_of_error_codes_is_made_from_the_table() -> None:
    assert (REFERENCE / "whatsapp-errors.md").read_text(encoding="utf-8") == page()
