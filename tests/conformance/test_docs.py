"""The pages are true: reference pages have what the code has, links lead somewhere, examples are valid."""

from __future__ import annotations

import ast
import copy
import json
import logging
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import crmd
from crmd.cli.kit import base
from crmd.cli.main import root
from crmd.config.load import load
from crmd.config.shipped import SHIPPED_QUEUES
from crmd.crm.catalog import shipped_catalog
from crmd.telemetry.events import LEVELS
from tests.support.pages import PROJECT, SOURCES, Page, pages, table

PAGES = pages()
NAMES = [page.name for page in PAGES]
EVENT_WORDS = re.compile(r'Outcome\(\s*AckKind\.\w+, "(\w+)"')
SECRETS = {
    "whatsapp_token": "EAAtest",
    "whatsapp_app_secret": "secret of the app",
    "whatsapp_verify_token": "text of our own",
    "redis_url": "redis://:secret@10.0.0.1:6379/0",
    "auth_password": "correct horse battery",
}


def page(name: str) -> Page:
    """A page by its path in the project."""
    return next(one for one in PAGES if one.name == name)


# Every page


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    broken = []
    for target in page(name).links():
        path, _, anchor = target.partition("#")
        found = (page(name).path.parent / path).resolve() if path else page(name).path
        if not found.exists() or (anchor and anchor not in Page(found).anchors()):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("name", NAMES)
def test_python_compiles_and_imports_what_there_is(name: str) -> None:
    for source in page(name).blocks("python"):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and node.module == "crmd":
                assert {alias.name for alias in node.names} <= set(crmd.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_toml_is_valid_configuration(name: str, tmp_path: Path) -> None:
    for secret, text in SECRETS.items():
        (tmp_path / secret).touch(mode=0o600)
        (tmp_path / secret).write_text(text)
    for number, source in enumerate(page(name).blocks("toml")):
        file = tmp_path / f"{number}.toml"
        file.touch(mode=0o600)
        file.write_text(source.replace("/etc/crmd/secrets/", f"{tmp_path}/"))
        assert load(path=file, environ={"HOME": str(tmp_path)}, cwd=tmp_path).warnings == [], source


@pytest.mark.parametrize("name", NAMES)
def test_json_is_valid(name: str) -> None:
    for source in page(name).blocks("json"):
        json.loads(source)


@pytest.mark.parametrize("name", NAMES)
def test_commands_can_be_typed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in page(name).commands():
        code = base.run(_without_effects(root()), words)
        assert code == 0, f"crmd {' '.join(words)}: {capsys.readouterr().err}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_in_sentences_exist(name: str) -> None:
    for words in page(name).mentioned_commands():
        command = _find(root(), words)
        assert command is not None, words
        options = {word for word in words if re.fullmatch(r"--[a-z-]+", word)}
        assert options <= {"--help", *_options(command), *_options(root())}, words


def test_every_page_is_in_the_index() -> None:
    index = page("docs/index.md")
    linked = {(index.path.parent / target.partition("#")[0]).resolve() for target in index.links()}
    missing = {one.name for one in PAGES if one.path.is_relative_to(PROJECT / "docs")} - {"docs/index.md"}
    assert missing <= {str(path.relative_to(PROJECT)) for path in linked}


# Pages and what they speak of


def test_the_changelog_has_the_version() -> None:
    title = "Unreleased" if ".dev" in crmd.__version__ else crmd.__version__
    assert f"## [{title}]" in page("CHANGELOG.md").text


def test_the_handler_of_the_readme_is_that_of_the_examples() -> None:
    example = (PROJECT / "examples/myapp/jobs.py").read_text(encoding="utf-8").splitlines()
    [source] = page("README.md").blocks("python")
    assert set(source.splitlines()) <= set(example)


def test_the_page_of_the_queues_has_all_and_their_jobs() -> None:
    rows = table(page("docs/reference/queues.md").section("The shipped queues"))
    catalog = shipped_catalog()
    expected = {name: ", ".join(f"`{job}`" for job in catalog.names(name)) for name in SHIPPED_QUEUES}
    assert {found[1]: row[1] for row in rows if (found := re.match(r"\[`(\w+)`\]", row[0]))} == expected


def test_the_command_line_page_has_each_command() -> None:
    named = re.findall(r"^## `crmd (\w+)`$", page("docs/reference/cli.md").text, re.MULTILINE)
    assert named == list(root().commands)


@pytest.mark.parametrize("name", list(root().commands))
def test_the_command_line_page_has_each_option(name: str) -> None:
    command = root().commands[name]
    section = page("docs/reference/cli.md").section(f"`crmd {name}`")
    shown = {option for row in table(section) for option in re.findall(r"(?<!\w)--?[a-z][a-z-]*", row[0])}
    leaves = command.commands.values() if isinstance(command, click.Group) else [command]
    assert shown == {option for leaf in leaves for option in _options(leaf)} - _options(root())
    for leaf in leaves:
        if leaf is not command:
            assert f"`crmd {name} {leaf.name}" in section


def test_help_fits_into_80_columns() -> None:
    for words in _all_commands(root(), []):
        command = _find(root(), words)
        assert command is not None
        text = click.Context(command, info_name=" ".join(words), terminal_width=80).get_help()
        assert [line for line in text.splitlines() if len(line) > 80] == []
        assert [line for line in text.partition("Commands:")[2].splitlines() if line.endswith("...")] == []


def test_the_command_line_page_has_the_options_of_every_command() -> None:
    rows = table(page("docs/reference/cli.md").section("Options of every command"))
    shown = {option for row in rows for option in re.findall(r"(?<!\w)--?[a-z][a-z-]*", row[0])}
    assert shown == (_options(root()) - {"--version"}) | {"-h", "--help"}


def test_the_events_page_has_each_event_with_its_level() -> None:
    text = page("docs/reference/events.md").section("In the log")
    shown = {row[0].strip("`"): row[1] for row in table(text)}
    emitted = set(_emitted())
    assert set(LEVELS) <= emitted, "a level for an event that nobody emits"
    assert shown == {name: logging.getLevelName(LEVELS.get(name, logging.DEBUG)).lower() for name in emitted}


def _emitted() -> Iterator[str]:
    """The names of all events that the code emits."""
    from crmd.engine.worker import acks

    outcomes = EVENT_WORDS.findall((PROJECT / "crmd/engine/worker/execution.py").read_text(encoding="utf-8"))
    yield from (f"job.{outcome}" for outcome in outcomes)  # an outcome carries its event until it is written
    yield from (event for _, event, _ in acks._RECOVERED.values())
    for source in SOURCES:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            if getattr(node.func, "attr", "") not in ("emit", "_emit"):
                continue
            constants = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
            yield from (value for value in constants if isinstance(value, str))


def _without_effects(command: click.Command) -> click.Command:
    """A copy of the command line with nothing behind it: what can be typed is read, and no more."""
    command = copy.copy(command)
    if isinstance(command, click.Group):
        command.commands = {name: _without_effects(inner) for name, inner in command.commands.items()}
    if command.callback is not None:
        command.callback = lambda **_: 0
    return command


def _all_commands(command: click.Command, words: list[str]) -> Iterator[list[str]]:
    yield words
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _all_commands(inner, [*words, name])


def _find(command: click.Command, words: list[str]) -> click.Command | None:
    """The command that words begin with; None where there is none."""
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            return command
        if word not in command.commands:
            return None
        command = command.commands[word]
    return command


def _options(command: click.Command) -> set[str]:
    return {name for option in command.params if isinstance(option, click.Option) for name in option.opts}


def test_toml_blocks_are_found() -> None:
    """Guards the reading of pages itself."""
    sources = page("docs/how-to/configure.md").blocks("toml")
    assert any(tomllib.loads(textwrap.dedent(source)) for source in sources)
    assert ["status"] in list(page("docs/tutorial.md").commands())
