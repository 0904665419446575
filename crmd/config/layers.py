"""Values from many places, laid over each other key by key, each remembering where it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crmd.config import schema
from crmd.config.secret import FILE_SUFFIX
from crmd.errors import Problem

KeyPath = schema.Path


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and where it came from."""

    value: object
    source: str
    """A file's path, `environment NAME`, `credential NAME`, `command line` or `default`."""
    folder: Path
    """What a relative path in the value is relative to."""


Layer = dict[KeyPath, Entry]


def flatten(data: Mapping[str, Any], source: str, folder: Path, above: KeyPath = ()) -> Layer:
    """The values of nested tables by their paths. An empty table is an entry too: it may name a queue."""
    layer: Layer = {}
    for key, value in data.items():
        path = (*above, key)
        node = schema.node_at(path)
        is_table = node is not None and not isinstance(node, schema.Leaf)
        if isinstance(value, Mapping) and value and is_table:
            layer |= flatten(value, source, folder, path)
        else:
            layer[path] = Entry(value, source, folder)
    return layer


def lay_over(low: Layer, high: Layer) -> Layer:
    """`high` over `low`. A secret and the file that holds it are one value: setting one covers the other."""
    covered = {twin for path in high for twin in _twins(path)}
    return {path: entry for path, entry in low.items() if path not in covered} | high


def doubled_secrets(layer: Layer) -> Iterator[Problem]:
    """A problem for each secret that one place gives both as itself and as a file."""
    for path, entry in layer.items():
        secret = schema.secret_of(path)
        if secret in layer and entry.value != "" and layer[secret].value != "":
            reason = f"is given beside {schema.dotted(path)}; give only one of the two"
            yield Problem(entry.source, schema.dotted(secret), reason)


def tree(layer: Layer) -> dict[str, Any]:
    """The layer as nested tables. Where a plain value stands in a table's place, what is below it is left out."""
    root: dict[str, Any] = {}
    for path in sorted(layer, key=len):
        table: Any = root
        for key in path[:-1]:
            table = table.setdefault(key, {}) if isinstance(table, dict) else None
        if isinstance(table, dict):
            value = layer[path].value
            # A copy, because an empty table may get keys from another place.
            table[path[-1]] = dict(value) if isinstance(value, dict) else value
    return root


def source_of(layer: Layer, path: tuple[str | int, ...]) -> str:
    """Where the value at a path, or the nearest one around it, came from."""
    for length in range(len(path), 0, -1):
        around = path[:length]
        for known, entry in layer.items():
            if known[:length] == around:
                return entry.source
    return "default"


def _twins(path: KeyPath) -> list[KeyPath]:
    secret = schema.secret_of(path)
    return [(*path[:-1], path[-1] + FILE_SUFFIX)] if secret is None else [secret]
