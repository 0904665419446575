"""Loads the Lua scripts: one file, one operation. `--@include _name` includes what several share, once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

_INCLUDE = re.compile(r"^--@include (_\w+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One script, whole, with the hash by which the store knows it."""

    name: str
    text: str
    sha: str


def load_scripts() -> dict[str, Script]:
    """All scripts by name, read from the package and expanded."""
    folder = resources.files("crmd.engine.store") / "lua"
    sources = {
        file.name.removesuffix(".lua"): file.read_text(encoding="utf-8")
        for file in folder.iterdir()
        if file.name.endswith(".lua")
    }
    scripts = {}
    for name, source in sources.items():
        if not name.startswith("_"):
            text = _expand(source, sources, set())
            scripts[name] = Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return scripts


def _expand(source: str, sources: Mapping[str, str], included: set[str]) -> str:
    """A source with what it includes, and what that includes; what is included already is left out."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name in included:
            return ""
        included.add(name)
        return _expand(sources[name], sources, included)

    return _INCLUDE.sub(replace, source)
