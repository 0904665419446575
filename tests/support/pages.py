"""Reads the pages of the documentation."""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
SOURCES = sorted((PROJECT / "crmd").rglob("*.py"))

_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_PROGRAM = re.compile(r"^(?:\S*/)?crmd$")


@dataclass(frozen=True)
class Page:
    """One Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path in the project."""
        return str(self.path.relative_to(PROJECT))

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """What stands outside code blocks."""
        return _FENCE.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """The code blocks of a language."""
        return code_blocks(self.text, language)

    def links(self) -> list[str]:
        """Targets inside the project."""
        return [target for target in _LINK.findall(self.prose) if "://" not in target]

    def anchors(self) -> set[str]:
        """What its headings can be linked by."""
        return {_slug(heading) for heading in _HEADING.findall(self.prose)}

    def section(self, heading: str) -> str:
        """What stands below a heading, deeper ones included."""
        return section(self.text, heading, self.name)

    def commands(self) -> Iterator[list[str]]:
        """The arguments of each `crmd` that its shell blocks type."""
        for block in self.blocks("sh"):
            for words in shell_lines(block):
                yield from _typed(words)
            for inner in re.findall(r"\$\(([^)]*)\)", block):
                yield from _typed(shlex.split(inner))

    def mentioned_commands(self) -> Iterator[list[str]]:
        """The words of each `crmd …` in its sentences."""
        for code in re.findall(r"`crmd ([^`]+)`", self.prose):
            words = [word for word in re.split(r"[\s|]+", code) if not word.startswith("[")]
            if words[0] != "COMMAND":
                yield words


def pages() -> list[Page]:
    """All pages of the project."""
    names = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
    return [*(Page(PROJECT / name) for name in names), *map(Page, sorted((PROJECT / "docs").rglob("*.md")))]


def section(text: str, heading: str, name: str = "the text") -> str:
    """What stands below a heading of a text, deeper ones included."""
    found = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^(?!\1#)#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{name} has no heading {heading!r}"
    return found[2]


def code_blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language in a text."""
    return [textwrap.dedent(body) for _, name, body in _FENCE.findall(text) if name == language]


def table(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without their heads."""
    rows = [line for line in text.splitlines() if line.startswith("|")]
    heads = {index - 1 for index, line in enumerate(rows) if re.fullmatch(r"[|:\s-]+", line)}
    kept = [line for index, line in enumerate(rows) if index not in heads and index - 1 not in heads]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in kept]


def shell_lines(block: str) -> Iterator[list[str]]:
    """The words of each line of a shell block; a line ends where its quotes are closed."""
    line = ""
    for part in block.replace("\\\n", " ").splitlines():
        line += part + "\n"
        try:
            words = shlex.split(line, comments=True)
        except ValueError:
            continue
        yield words
        line = ""


def _typed(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    for word in [*words, ";"]:
        if word not in ("&&", "||", "|", ";", "&"):
            command.append(word)
            continue
        if command and _PROGRAM.match(command[0]):
            yield command[1:]
        command = []


def _slug(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")
