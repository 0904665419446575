"""What people type becomes jobs, or an error that says where it is wrong."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest

from crmd.cli.kit import payload
from crmd.engine.admin.views import NewJob


def test_pairs_are_texts_or_json() -> None:
    pairs = ["to=491511", "text=a=b", "count:=3", 'tags:=["x"]', "empty=", "ratio:=-0.5"]
    assert payload.read_payload(None, pairs) == {
        "to": "491511",
        "text": "a=b",
        "count": 3,
        "tags": ["x"],
        "empty": "",
        "ratio": -0.5,
    }


def test_pairs_lie_over_the_data() -> None:
    assert payload.read_payload('{"a": 1, "b": 2}', ["b=x"]) == {"a": 1, "b": "x"}


def test_data_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"text": "grüße"}')
    assert payload.read_payload(f"@{tmp_path}/p.json", []) == {"text": "grüße"}


@pytest.mark.parametrize(
    ("data", "pairs", "message"),
    [
        ("[1]", [], "-d: a payload is a JSON object {…}, this is a list"),
        ('{"a": ', [], "-d: is not JSON at line 1 column 7"),
        ('{"a": NaN}', [], "-d: is not JSON: NaN is not a JSON number"),
        ("[" * 100_000, [], "-d: is nested too deeply"),
        ("@/nowhere/p.json", [], "No such file"),
        (None, ["text"], "'text' is not part of a payload; write name=text"),
        (None, ["=x"], "'=x' is not part of a payload"),
        (None, ["n:=3x"], "n:=: is not JSON at line 1 column 2"),
    ],
)
def test_wrong_payloads(data: str | None, pairs: list[str], message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        payload.read_payload(data, pairs)
    assert message in caught.value.format_message()


def test_a_line_is_a_payload_or_a_whole_job() -> None:
    assert payload.read_line('{"to": "1", "key": "k"}', "f:1", "send") == NewJob("send", {"to": "1", "key": "k"})
    assert payload.read_line('{"payload": {"to": "1"}, "key": "k"}', "f:1", "send") == NewJob(
        "send", {"to": "1"}, key="k"
    )
    line = '{"job": "a", "delay": "1m", "priority": 2, "unique_for": "1h"}'
    assert payload.read_line(line, "f:1", None) == NewJob("a", delay=60.0, priority=2, unique_for=3600.0)
    line = '{"job": "a", "at": "2030-01-31T12:00:00Z"}'
    assert payload.read_line(line, "f:1", None).at == datetime(2030, 1, 31, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "f:7: is not JSON at line 1 column 1"),
        ('{"to": "1"}', "f:7: says no job"),
        ('{"job": "a", "payload": []}', "f:7: payload is a list, not an object"),
        ('{"job": "a", "delay": 5}', 'f:7: 5 has no unit; write "5s"'),
        ('{"job": "a", "unique_for": "366d"}', "f:7: unique_for is longer than 365 days"),
        ('{"job": "a", "at": "tomorrow"}', "f:7: 'tomorrow' is not a time"),
        ('{"job": "a", "at": 5}', "f:7: 5 is not a time"),
        ('{"job": "a", "priority": true}', "f:7: priority is true or false"),
        ('{"job": "a", "key": 7}', "f:7: key is a number"),
        ('{"job": null, "payload": {}}', "f:7: says no job"),
    ],
)
def test_wrong_lines_are_named(line: str, message: str) -> None:
    with pytest.raises(click.UsageError) as caught:
        payload.read_line(line, "f:7", None)
    assert message in caught.value.format_message()


def test_waits_may_be_endless() -> None:
    context, option = click.Context(click.Command("x")), click.Option(["--wait"])
    assert payload.as_wait(context, option, "none") == math.inf
    assert payload.as_wait(context, option, "10s") == 10
    assert payload.as_wait(context, option, None) is None
    with pytest.raises(click.BadParameter, match="has no unit"):
        payload.as_wait(context, option, "10")
