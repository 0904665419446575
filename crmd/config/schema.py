"""Walks the schema: what stands at a dotted key, every key there is, and the nearest one to a mistyped key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic.fields import FieldInfo

from crmd.config.model import RESERVED_TABLES, Settings
from crmd.config.queue_tables import Table
from crmd.config.rules import ListOf, Rule, Text
from crmd.config.secret import FILE_SUFFIX, Secret

Path = tuple[str, ...]

NAME = "NAME"
"""Stands in a path for the name that the user gives to a queue, a schedule or a token."""

_SECRET_FILE = Text("a path")

_NEAR = 0.7
"""How alike two keys must be for a suggestion, 0 to 1; below it suggestions mislead."""

# What people bring from Bull, SAQ and older job systems.
_OTHER_NAMES = {
    "limiter": "rate_limit",
    "max_attempts": "attempts",
    "password_hash": "password",
    "rate": "rate_limit",
    "removeOnComplete": "keep_completed",
    "removeOnFail": "keep_failed",
    "retries": "attempts",
    "user": "username",
}


@dataclass(frozen=True, slots=True)
class Leaf:
    """One key that has a value."""

    rule: Rule
    field: FieldInfo | None = None
    """None for `X_file`, which is no field of the schema: load() reads the file into `X`."""


@dataclass(frozen=True, slots=True)
class Named:
    """A table whose keys the user names, with the table of each."""

    table: type[Table]


Node = type[Table] | Named | Leaf


def node_at(path: Path) -> Node | None:
    """What stands at a path; None where the schema has nothing."""
    node: Node | None = Settings
    for key in path:
        node = _child(node, key)
    return node


def leaves(node: type[Table] = Settings, above: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Every key with its path, in the schema's order; NAME stands for the names that users give."""
    for key in node.model_fields:
        child = _child(node, key)
        if isinstance(child, Leaf):
            yield (*above, key), child
        elif isinstance(child, Named):
            yield from leaves(child.table, (*above, key, NAME))
        elif child is not None:
            yield from leaves(child, (*above, key))


def secret_of(path: Path) -> Path | None:
    """The secret that the file at this key holds: `auth.password` for `auth.password_file`."""
    if not path or not path[-1].endswith(FILE_SUFFIX):
        return None
    secret = (*path[:-1], path[-1].removesuffix(FILE_SUFFIX))
    node = node_at(secret)
    return secret if isinstance(node, Leaf) and isinstance(node.rule, Secret) else None


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as people write it: `queues.message.limits[0].rate`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if re.fullmatch(r"[A-Za-z0-9_-]+", part, re.ASCII) else json.dumps(part)
            text += f".{key}" if text else key
    return text


def unknown_key(path: tuple[str | int, ...]) -> str:
    """The reason for refusing a key that the schema does not have."""
    # Items of a list, as in limits[0].x, have the keys of their own table.
    table, key = _table_of(path[:-1]), str(path[-1])
    if path[0] in RESERVED_TABLES:
        return f"this version has no settings in [{path[0]}] yet; remove the key"
    suggestion = _in_table(table, key) or _elsewhere(key)
    what = "unknown table or key" if len(path) == 1 else "unknown key"
    return f'{what}; did you mean "{suggestion}"?' if suggestion else f"{what}; {_possible(table)}"


def _in_table(table: type[Table] | None, key: str) -> str | None:
    names = _keys(table)
    if _OTHER_NAMES.get(key) in names:
        return _OTHER_NAMES[key]
    close = get_close_matches(key.lower(), names, 1, _NEAR)
    return close[0] if close else None


def _elsewhere(key: str) -> str | None:
    """The only other table that has this very key."""
    places = [path for path, _ in leaves() if path[-1] == key]
    return dotted(places[0]) if len(places) == 1 else None


def _possible(table: type[Table] | None) -> str:
    return f"possible are {', '.join(_keys(table))}" if table else "there is no such table"


def _keys(table: type[Table] | None) -> list[str]:
    if table is None:
        return []
    files = [key + FILE_SUFFIX for key in table.model_fields]
    return [*table.model_fields, *(name for name in files if _is_secret_file(table, name))]


def _is_secret_file(table: type[Table], key: str) -> bool:
    secret = table.model_fields.get(key.removesuffix(FILE_SUFFIX)) if key.endswith(FILE_SUFFIX) else None
    return secret is not None and any(isinstance(entry, Secret) for entry in secret.metadata)


def _child(node: Node | None, key: str) -> Node | None:
    if isinstance(node, Named):
        return node.table
    if node is None or isinstance(node, Leaf):
        return None
    field = node.model_fields.get(key)
    if field is None:
        return Leaf(_SECRET_FILE) if _is_secret_file(node, key) else None
    return _node_of(field)


def _node_of(field: FieldInfo) -> Node:
    rules = [entry for entry in field.metadata if isinstance(entry, Rule)]
    if rules:
        return Leaf(rules[0], field)
    if get_origin(field.annotation) is dict:
        table: type[Table] = get_args(field.annotation)[1]
        return Named(table)
    return _as_table(field.annotation)


def _as_table(annotation: Any) -> type[Table]:
    if not (isinstance(annotation, type) and issubclass(annotation, Table)):
        raise TypeError(f"a field of {annotation} has no rule")
    return annotation


def _table_of(path: tuple[str | int, ...]) -> type[Table] | None:
    keys = tuple(part for part in path if isinstance(part, str))
    node = node_at(keys)
    if isinstance(node, Leaf) and isinstance(node.rule, ListOf) and node.field is not None:
        item = get_args(node.field.annotation)[0]
        return item if isinstance(item, type) and issubclass(item, Table) else None
    return node if isinstance(node, type) else None
