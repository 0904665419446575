"""Walks the schema: what is at a dotted key, every key there is, and the nearest one to a mistyped key."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import zip_longest
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from crmd.config.model import RESERVED_TABLES, Settings
from crmd.config.tables import SettingsTable
from crmd.config.values import NONE
from crmd.engine.durations import format_duration

KeyPath = tuple[str | int, ...]
"""A key of the configuration: keys of tables, and the index of a list's item."""

NAME = "NAME"
"""Stands in a path for the name that the user gives to a queue, a schedule or a token."""
KEY = "[key]"
"""Stands behind such a name in a path, where the name itself is meant."""
FILE_SUFFIX = "_file"
"""Secret `X` may be given as `X_file`, a path."""

_SECRET_FILE = FieldInfo(annotation=str, title="a path")
"""Stands at `X_file`, which is not a field of the schema: load() reads the file into `X`."""

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
class Named:
    """A table whose keys the user names, with the table of each."""

    table: type[SettingsTable]
    key: FieldInfo


Node = type[SettingsTable] | Named | FieldInfo
"""A table, tables by names of the user's, or a key that has a value."""


def node_at(path: KeyPath, below: type[SettingsTable] = Settings) -> Node | None:
    """What stands at a path; None where the schema has nothing."""
    node: Node | None = below
    for key, behind in zip_longest(path, path[1:]):
        if behind == KEY and isinstance(node, Named):
            return node.key
        node = _child(node, key)
    return node


def leaves(
    node: type[SettingsTable] = Settings, above: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Every key with its path, in the schema's order; NAME stands for the names that users give."""
    for key in node.model_fields:
        child = _child(node, key)
        if isinstance(child, FieldInfo):
            yield (*above, key), child
        elif isinstance(child, Named):
            yield from leaves(child.table, (*above, key, NAME))
        elif child is not None:
            yield from leaves(child, (*above, key))


def value_type(field: FieldInfo) -> Any:
    """The bare type of a key's values: int, str, SecretStr, tuple and the like."""
    return get_origin(_present(field).annotation) or _present(field).annotation


def is_secret(node: Node | None) -> bool:
    """Whether the values of a key are never shown."""
    return isinstance(node, FieldInfo) and node.annotation is SecretStr


def secret_of(path: KeyPath) -> KeyPath | None:
    """The secret that the file at this key holds: `auth.password` for `auth.password_file`."""
    key = str(path[-1]) if path else ""
    secret = (*path[:-1], key.removesuffix(FILE_SUFFIX))
    return secret if key.endswith(FILE_SUFFIX) and is_secret(node_at(secret)) else None


def expected(field: FieldInfo) -> str:
    """What a key's value must be: `a whole number from 1 to 100`."""
    value = _present(field)
    words = field.title or value.title or _by_type(value)
    return f'{words}, or "none"' if NONE in field.metadata else words


def dotted(path: KeyPath) -> str:
    """A path as people write it: `queues.message.limits[0].rate`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            key = part if re.fullmatch(r"[A-Za-z0-9_-]+", part, re.ASCII) else json.dumps(part)
            text += f".{key}" if text else key
    return text


def unknown_key(path: KeyPath) -> str:
    """The reason for refusing a key that the schema does not have."""
    key, table = str(path[-1]), node_at(path[:-1])
    if path[0] in RESERVED_TABLES:
        return f"this version has no settings in [{path[0]}] yet; remove the key"
    keys = _keys(table) if isinstance(table, type) else []
    suggestion = _nearest(keys, key) or _elsewhere(key)
    what = "unknown table or key" if len(path) == 1 else "unknown key"
    possible = f"possible are {', '.join(keys)}" if keys else "there is no such table"
    return f'{what}; did you mean "{suggestion}"?' if suggestion else f"{what}; {possible}"


def _nearest(keys: list[str], key: str) -> str | None:
    if _OTHER_NAMES.get(key) in keys:
        return _OTHER_NAMES[key]
    close = get_close_matches(key.lower(), keys, 1, _NEAR)
    return close[0] if close else None


def _elsewhere(key: str) -> str | None:
    """The only other table that has this very key."""
    places = [path for path, _ in leaves() if path[-1] == key]
    return dotted(places[0]) if len(places) == 1 else None


def _keys(table: type[SettingsTable]) -> list[str]:
    files = [key + FILE_SUFFIX for key, field in table.model_fields.items() if is_secret(field)]
    return [*table.model_fields, *files]


def _child(node: Node | None, key: str | int) -> Node | None:
    if isinstance(node, Named):
        return node.table
    if isinstance(node, FieldInfo):
        # An item of a list. Payloads and the like are not looked into.
        item = get_args(node.annotation)[:1] if isinstance(key, int) else ()
        return _node_of(FieldInfo.from_annotation(item[0])) if item else None
    if node is None or isinstance(key, int):
        return None
    if key in node.model_fields:
        return _node_of(node.model_fields[key])
    return _SECRET_FILE if key in _keys(node) else None


def _node_of(field: FieldInfo) -> Node:
    if isinstance(field.annotation, type) and issubclass(field.annotation, SettingsTable):
        return field.annotation
    if get_origin(field.annotation) is dict:
        key, table = get_args(field.annotation)
        if isinstance(table, type) and issubclass(table, SettingsTable):
            return Named(table, FieldInfo.from_annotation(key))
    return field


def _present(field: FieldInfo) -> FieldInfo:
    """The field of the values other than None."""
    if get_origin(field.annotation) not in (Union, UnionType):
        return field
    present = [each for each in get_args(field.annotation) if each is not NoneType]
    return FieldInfo.from_annotation(present[0]) if len(present) == 1 else field


def _by_type(field: FieldInfo) -> str:
    kind = value_type(field)
    if kind is Literal:
        return " or ".join(json.dumps(option) for option in get_args(field.annotation))
    words = {bool: "true or false", dict: "a table", int: "a whole number", float: "a duration"}[kind]
    bounds = [getattr(entry, name) for name in ("ge", "le") for entry in field.metadata if hasattr(entry, name)]
    texts = [f'"{format_duration(bound)}"' if kind is float else str(bound) for bound in bounds]
    return f"{words} from {' to '.join(texts)}" if texts else words
