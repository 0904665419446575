"""`crmd flows` on a real database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from crmd.errors import ExitCode
from tests.support.cli import Cli, cli
from tests.support.database import in_state_folder
from tests.support.pages import PROJECT

__all__ = ["cli"]

EXAMPLE = str(PROJECT / "examples" / "feedback-flow.toml")
FLOW: dict[str, Any] = {"steps": [{"id": "hello", "type": "send", "text": "Hello {{ name }}"}]}
BROKEN = {"steps": [{"id": "a", "type": "wait", "duration": "5", "next": "b"}, {"type": "end"}]}


@pytest.fixture
def flow_cli(cli: Cli) -> Cli:
    """With a database, as a daemon made them."""

    async def nothing(_: AsyncSession) -> None: ...

    cli.configure("")
    in_state_folder(cli.state_dir, nothing)
    return cli


def written(cli: Cli, name: str, definition: Any) -> str:
    path = cli.folder / name
    path.write_text(definition if isinstance(definition, str) else json.dumps(definition))
    return str(path)


def test_it_checks_the_example_without_a_database(cli: Cli) -> None:
    cli.configure("")
    assert cli("flows", "check", EXAMPLE).out == "feedback: 14 steps, no mistakes\n"
    assert cli("flows", "check", EXAMPLE, "--json").json == {"name": "feedback", "valid": True, "errors": []}


def test_it_names_each_mistake_on_a_line(cli: Cli) -> None:
    cli.configure("")
    file = written(cli, "broken.json", BROKEN)
    done = cli("flows", "check", file)
    assert done.code == ExitCode.FAILED
    lines = done.err.splitlines()
    assert any(line.startswith(f"crmd: {file}: step a: duration: 5 has no unit") for line in lines)
    assert f'crmd: {file}: step a: next: there is no step "b"' in lines
    assert f"crmd: {file}: step #2: id: is missing" in lines
    found = cli("flows", "check", file, "--json")
    assert (found.code, found.json["valid"], len(found.json["errors"])) == (ExitCode.FAILED, False, 3)


def test_it_puts_and_lists(flow_cli: Cli) -> None:
    assert flow_cli("flows").complaint.startswith("there are no flows; write one")
    file = written(flow_cli, "welcome.json", {**FLOW, "start": {"on": "message", "words": ["hi", "hello"]}})
    assert flow_cli("flows", "put", file).out == "welcome: stored\n"
    assert flow_cli("flows", "put", file, "--json").json == {"name": "welcome", "created": False}
    assert flow_cli("flows", "put", EXAMPLE, "--name", "other").code == 0
    assert flow_cli("flows", "put", "-", "--name", "off", stdin=json.dumps({**FLOW, "enabled": False})).code == 0
    listed = {view["name"]: view for view in flow_cli("flows", "--json").json}
    assert set(listed) == {"welcome", "other", "off"}
    assert listed["other"] == {
        "name": "other",
        "enabled": True,
        "start": {"on": "manual"},
        "steps": 14,
        "live_runs": 0,
    }
    out = flow_cli("flows").out
    assert "a message with hi, hello" in out
    assert "disabled" in out


def test_what_has_mistakes_is_not_put(flow_cli: Cli) -> None:
    assert flow_cli("flows", "put", written(flow_cli, "broken.json", BROKEN)).code == ExitCode.FAILED
    assert flow_cli("flows", "--json").json == []


def test_without_a_database_it_says_what_to_do(cli: Cli) -> None:
    cli.configure("")
    done = cli("flows")
    assert (done.code, "start the daemon with `crmd run`" in done.complaint) == (ExitCode.UNAVAILABLE, True)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("x.json", "{", "is not JSON"), ("x.toml", "= 1", "is not TOML"), ("x.json", None, "cannot be read")],
)
def test_files_that_cannot_be_read(cli: Cli, name: str, content: str | None, reason: str) -> None:
    cli.configure("")
    file = str(Path(cli.folder) / name) if content is None else written(cli, name, content)
    done = cli("flows", "check", file)
    assert done.code == ExitCode.USAGE
    assert reason in done.complaint
