"""One word, one meaning: names that the house has given up do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from crmd.telemetry.metrics import Metrics

PROJECT = Path(__file__).parents[2]


def _split(text: str) -> frozenset[str]:
    return frozenset(text.split())


ANYWHERE = _split(
    "fleet runner runwatch ending fate verdict outbox spool aftermath suspect suspects solo ghost ghosts nameless"
    " stray strays mentions books upkeep ticker timetable judge adder gathering troubles lookout heed fetching"
    " doubled lab rig strain"
)
"""Given up as a word of any name."""
WHOLE = _split(
    "deaths crashes begun alone peek waiter epoch identity message_book told pace scene turn sign lost_messages"
    " records away own_thread opt_words shown welcome memory look adding odd_jobs lost hanging second_hand"
)
"""Given up as a name of its own in the package, and of classes and modules of the tests."""
EXCEPTED = {
    ("crmd/crm/thread_runner.py", "thread_runner"),  # runs threads, not jobs
    ("crmd/engine/saq/worker.py", "upkeep"),  # SAQ's own name
}
CLASSES = frozenset({"engine", "run"})
"""Given up as the name of a class: a module or a function may be called so."""
WITHIN = {
    "crmd/engine": frozenset({"kind", "link", "foreign", "foreign_workers", "take", "hold"}),
    "crmd/crm/campaigns": frozenset({"front", "hold", "halt"}),
    "crmd/crm/messages": frozenset({"hold", "halt"}),
    "crmd/crm/flows": frozenset({"take"}),
}
"""Given up as a name of its own in one folder, where it had two meanings."""

_DEFINITIONS = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_LUA_FUNCTION = re.compile(r"\bfunction (?:\w+[.:])*(\w+)|\b(\w+) = function\b")
_HELP = re.compile(r"^# HELP (crmd_\w+) (.*)", re.MULTILINE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class Name(NamedTuple):
    """A definition, or a module, which is named like its file."""

    path: str
    name: str
    is_class: bool = False
    is_module: bool = False

    @property
    def snake(self) -> str:
        """The name in small letters, its words apart."""
        return "_".join(self.words)

    @property
    def words(self) -> list[str]:
        """The words of the name; a module of tests is named like what it tests."""
        return [word.lower() for word in _WORD.findall(self.name.removeprefix("test_"))]

    @property
    def given_up(self) -> bool:
        """Whether the house has given it up."""
        if (self.path, self.snake) in EXCEPTED:
            return False
        if (self.path, self.name) == ("crmd/engine/saq/worker.py", "upkeep"):  # SAQ's own name of the method
            return False
        if ANYWHERE & set(self.words) or (self.is_class and self.snake in CLASSES):
            return True
        if self.snake in WHOLE and (self.is_class or self.is_module or not self.path.startswith("tests/")):
            return True
        return any(self.path.startswith(folder) and self.snake in names for folder, names in WITHIN.items())


def names_of_python(path: Path) -> Iterator[Name]:
    """The module and all that it defines, functions of tests left out: their names are sentences."""
    where = str(path.relative_to(PROJECT))
    yield Name(where, path.stem, is_module=True)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, _DEFINITIONS) and not node.name.startswith("test_"):
            yield Name(where, node.name, isinstance(node, ast.ClassDef))


def names_of_lua(path: Path) -> Iterator[Name]:
    """The script and its functions."""
    where = str(path.relative_to(PROJECT))
    yield Name(where, path.stem, is_module=True)
    for named, assigned in _LUA_FUNCTION.findall(path.read_text()):
        yield Name(where, named or assigned)


def all_names() -> Iterator[Name]:
    """What the package, its tests, benchmarks, examples and the generators of its docs define."""
    for folder in ("crmd", "tests", "bench", "examples", "docs"):
        for path in sorted((PROJECT / folder).rglob("*.py")):
            yield from names_of_python(path)
    for path in sorted((PROJECT / "crmd").rglob("*.lua")):
        yield from names_of_lua(path)


def test_no_name_is_one_that_was_given_up() -> None:
    assert [f"{name.path}: {name.name}" for name in all_names() if name.given_up] == []


def test_no_help_text_of_a_metric_has_a_word_that_was_given_up() -> None:
    metrics = Metrics("1.0")
    metrics.set_store(connected=True, latency_seconds=0.1, memory_ratio=0.1)
    texts = dict(_HELP.findall(metrics.render().decode()))
    assert len(texts) > 15
    assert {
        name: text for name, text in texts.items() if ANYWHERE & set(re.findall(r"[a-z]+", text.lower()))
    } == {}


def test_names_are_split_into_words() -> None:
    assert Name("", "FleetParts").given_up
    assert Name("", "_start_fleet").given_up
    assert Name("", "Run", is_class=True).given_up
    assert not Name("", "run").given_up
    assert Name("crmd/engine/store/replies.py", "Kind").given_up
    assert not Name("crmd/sandbox/journal.py", "Kind").given_up
    assert Name("tests/conformance/test_lost.py", "test_lost", is_module=True).given_up
    assert not Name("", "connection_lost").given_up


def test_functions_of_scripts_are_found_however_they_are_written() -> None:
    text = "local function judge(k)\nend\nfunction k.solo()\nend\nlocal fate = function() end\nf(function() end)\n"
    assert _LUA_FUNCTION.findall(text) == [("judge", ""), ("solo", ""), ("", "fate")]
