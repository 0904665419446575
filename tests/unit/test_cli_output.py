"""Tables, ages and texts as people see them."""

from __future__ import annotations

import pytest

from crmd.cli.kit import output

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.045, "45ms"),
        (3.21, "3.2s"),
        (45, "45s"),
        (60, "1m"),
        (320, "5m 20s"),
        (7200, "2h"),
        (86400 * 2 + 3600 * 4 + 59, "2d 4h"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert output.duration(seconds) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [(None, "-"), (0.0, "-"), (NOW, "now"), (NOW - 90, "1m 30s ago"), (NOW + 7200, "in 2h")],
)
def test_relative_instants(at: float | None, text: str) -> None:
    assert output.relative(at, lambda: NOW) == text


def test_moment_shows_local_time_with_its_offset() -> None:
    assert output.moment(NOW - 60, lambda: NOW).endswith("(1m ago)")
    assert output.moment(None) == "-"


def test_control_characters_cannot_reach_the_terminal() -> None:
    assert output.clean("a\x1b[31mb\nc\u202ed") == "a\ufffd[31mb c\ufffdd"


def test_piped_tables_are_plain_and_uncut() -> None:
    long = "x" * 300
    made = output.table(("name", "count"), [("[bold]a[/bold]", 5), (long, 12), (None, 1)], right=("count",))
    lines = output.to_text(made).splitlines()
    assert lines[0].split() == ["name", "count"]
    assert lines[1].split() == ["[bold]a[/bold]", "5"]
    assert lines[2].split() == [long, "12"]
    assert lines[3].split() == ["-", "1"]
    assert all(line == line.rstrip() for line in lines)
